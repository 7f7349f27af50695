from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import image_folder
from predict.digits import NoInkError, find_digits, find_places
from predict.page.mnist_form import _resampling
from predict.page.morphology import label
from tests.predict_fixtures import DIGITS, draw, to_rgb

SHAPE = (28, 28, 1)


def prepare(pixels, image_shape=SHAPE):
    (digit,) = find_digits(pixels, image_shape, "mnist")
    return digit


def mnist_form(text):
    """A drawn digit as MNIST would have it, uint8 [28, 28]."""
    return prepare(to_rgb(draw(text))).image[:, :, 0]


def colour(grey, paper, ink):
    share = grey[:, :, None] / 255
    return np.round(np.array(paper) * (1 - share) + np.array(ink) * share).astype(np.uint8)


def difference(a, b):
    """Mean of the levels' differences; where a centre is between two pixels, either is right."""
    shifted = [np.roll(a, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(np.abs(image.astype(int) - b.astype(int)).mean() for image in shifted)


@pytest.mark.parametrize("text", DIGITS)
def test_form_is_that_of_mnist(text):
    image = mnist_form(text)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert image.max() == 255 and image[0, 0] == 0
    grid = np.arange(28)
    for axis in (0, 1):
        assert abs(image.sum(axis=axis) @ grid / image.sum() - 14) <= 0.5


@pytest.mark.parametrize("text", DIGITS)
def test_what_has_the_form_already_stays_as_it_is(text):
    image = mnist_form(text)
    once_more = prepare(to_rgb(image)).image[:, :, 0]
    assert np.array_equal(once_more, image)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: to_rgb(255 - image),
        lambda image: to_rgb(np.kron(image, np.ones((3, 3), np.uint8))),
        lambda image: to_rgb(255 - np.kron(image, np.ones((10, 10), np.uint8))),
        lambda image: to_rgb(np.pad(image, ((40, 3), (0, 77)))),  # somewhere else
    ],
    ids=["inverted", "3 times", "10 times, inverted", "moved"],
)
@pytest.mark.parametrize("text", DIGITS)
def test_same_digit_gives_the_very_same_pixels(text, change):
    image = mnist_form(text)
    assert np.array_equal(prepare(change(image)).image[:, :, 0], image)


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        ((250, 240, 200), (30, 30, 160)),
        ((40, 60, 40), (250, 220, 0)),
        ((60, 160, 60), (200, 70, 60)),  # nearly the same grey
        ((120, 120, 120), (160, 160, 160)),
    ],
)
def test_colours_do_not_matter(paper, ink):
    for text in DIGITS:
        image = mnist_form(text)
        assert difference(prepare(colour(image, paper, ink)).image[:, :, 0], image) < 3


@pytest.mark.parametrize("text", DIGITS)
def test_digit_that_fills_the_picture_is_not_taken_for_the_paper(text):
    image = mnist_form(text)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    tight = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for pixels in (tight, 255 - tight):
        assert difference(prepare(to_rgb(pixels)).image[:, :, 0], image) < 12


def test_noise_uneven_light_specks_and_jpeg_change_little(tmp_path):
    generator = np.random.default_rng(3)
    for text in DIGITS:
        page = to_rgb(draw(text, size=150)).astype(float)
        image = prepare(page.astype(np.uint8)).image[:, :, 0]
        noisy = np.clip(200 - 0.6 * (255 - page) + generator.normal(0, 12, page.shape), 0, 255)
        light = np.linspace(1, 0.6, page.shape[1])[None, :, None]
        specked = page.copy()
        specked[4:8, 4:8] = specked[-9:-5, -30:-26] = 0
        path = tmp_path / "page.jpg"
        Image.fromarray(page.astype(np.uint8)).save(path, quality=20)
        for changed in (noisy, page * light, specked, np.asarray(Image.open(path))):
            assert difference(prepare(changed.astype(np.uint8)).image[:, :, 0], image) < 10


def test_box_is_where_the_ink_is():
    pixels = np.full((60, 90, 3), 255, np.uint8)
    pixels[10:40, 50:57] = 0
    assert prepare(pixels).box == (50, 10, 7, 30)


def test_box_of_a_large_picture_is_in_its_own_pixels():
    pixels = np.full((901, 1303, 3), 255, np.uint8)
    pixels[300:901, 600:700] = 0  # cut by the lower edge
    x, y, width, height = prepare(pixels).box
    assert abs(x - 600) <= 6 and abs(y - 300) <= 6 and abs(x + width - 700) <= 6
    assert y + height == 901


def test_small_digit_in_a_large_picture_is_looked_at_closely():
    image = mnist_form("5")
    pixels = np.zeros((1500, 1000), np.uint8)
    pixels[1101 : 1101 + 28, 703 : 703 + 28] = image
    digit = prepare(to_rgb(255 - pixels))
    assert np.array_equal(digit.image[:, :, 0], image)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert digit.box[:2] == (703 + columns[0], 1101 + rows[0])


def test_shape_of_the_input_is_data():
    image = prepare(to_rgb(draw("8")), (42, 24, 3)).image
    assert image.shape == (42, 24, 3) and image.dtype == np.uint8
    assert np.array_equal(image[:, :, 0], image[:, :, 2])
    rows, columns = np.flatnonzero(image.any(axis=(1, 2))), np.flatnonzero(image.any(axis=(0, 2)))
    assert np.ptp(columns) + 1 == round(24 * 20 / 28)  # the narrower side decides
    assert np.ptp(rows) + 1 <= 30


def test_thin_bar_keeps_its_aspect_ratio():
    pixels = np.zeros((50, 50, 3), np.uint8)
    pixels[5:45, 20:24] = 255
    image = prepare(pixels).image
    assert image[:, :, 0].any(axis=1).sum() == 20 and image[:, :, 0].any(axis=0).sum() == 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_picture_has_no_ink(level):
    with pytest.raises(NoInkError, match="found no strokes that stand out by 16 of 255"):
        prepare(np.full((30, 20, 3), level, np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (100, 150), (700, 900)])
def test_noise_and_shadow_are_no_ink(size):
    generator = np.random.default_rng(5)
    noise = generator.normal(200, 20, (*size, 3)).clip(0, 255).astype(np.uint8)
    shadow = np.linspace(90, 220, size[1])[None, :, None].repeat(size[0], 0).repeat(3, 2)
    for pixels in (noise, shadow.astype(np.uint8)):
        with pytest.raises(NoInkError, match="no ink found"):
            prepare(pixels)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (1, 7), (3, 3), (2, 400)])
def test_tiny_pictures_are_read_or_refused_in_words(size):
    pixels = np.full((*size, 3), 255, np.uint8)
    pixels[0, 0] = 0
    try:
        assert prepare(pixels).image.shape == SHAPE
    except NoInkError:
        pass


def test_unknown_preparation():
    with pytest.raises(ValueError, match="unknown image preparation 'crop'"):
        find_digits(np.zeros((3, 3, 3), np.uint8), SHAPE, "crop")


@pytest.mark.parametrize("image_shape", [(20, 30, 1), (31, 17, 3)])
@pytest.mark.parametrize("size", [(50, 40), (7, 90)])
def test_whole_pictures_are_prepared_as_the_training_images_were(tmp_path, image_shape, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    (digit,) = find_digits(pixels, image_shape, "resize")
    assert np.array_equal(digit.image, image_folder.load_image(path, image_shape))
    assert digit.box == (0, 0, size[1], size[0])


def test_pieces_are_those_that_a_flood_fill_finds():
    generator = np.random.default_rng(0)
    for height, width, density in [
        (1, 1, 1),
        (1, 9, 0.5),
        (9, 1, 0.5),
        (23, 17, 0.4),
        (30, 31, 0.6),
    ]:
        mask = generator.random((height, width)) < density
        pieces = label(mask)
        assert np.array_equal(pieces > 0, mask)
        seen = set()
        for start in zip(*np.nonzero(mask), strict=True):
            if start in seen:
                continue
            piece, waiting = {start}, [start]
            while waiting:
                row, column = waiting.pop()
                for near in np.ndindex(3, 3):
                    other = (row + near[0] - 1, column + near[1] - 1)
                    inside = 0 <= other[0] < height and 0 <= other[1] < width
                    if inside and mask[other] and other not in piece:
                        piece.add(other)
                        waiting.append(other)
            number = pieces[start]
            assert set(zip(*np.nonzero(pieces == number), strict=True)) == piece
            seen |= piece


@pytest.mark.parametrize(("old", "new"), [(20, 20), (60, 20), (7, 20), (53, 20), (1, 1), (9, 1)])
def test_resampling_keeps_a_plain_row_plain(old, new):
    matrix = _resampling(old, new)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix @ np.ones(old), np.ones(new), rtol=1e-6)
    if old == new:
        assert np.array_equal(matrix, np.eye(old))


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_real_mnist_comes_out_as_it_went_in():
    path = next(Path(os.environ["MNIST_DIR"]).glob("t10k-images-idx3-ubyte*"))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)[:500]
    differences = [difference(prepare(to_rgb(image)).image[:, :, 0], image) for image in images]
    assert np.mean(differences) < 0.3
    assert np.mean(np.array(differences) == 0) > 0.7
    assert np.quantile(differences, 0.99) < 1  # Now and then a centre lies between two pixels.


def test_deslanted_where_one_digit_fills_the_picture_and_where_a_place_is_divided():
    bar = np.zeros((28, 28), np.uint8)
    for row in range(4, 24):
        bar[row, 20 - row // 2 : 23 - row // 2] = 255
    slanted, upright = (
        find_places(to_rgb(bar), SHAPE, "mnist", is_deslanted=chosen)[0].digits[0].image[:, :, 0]
        for chosen in (False, True)
    )
    assert np.ptp(np.flatnonzero(slanted.any(axis=0))) >= 10
    assert np.ptp(np.flatnonzero(upright.any(axis=0))) <= 5
    joined = np.kron(np.concatenate([bar, bar[:, 8:]], axis=1), np.ones((4, 4), np.uint8))
    joined[90:94, 20:140] = 255
    (place,) = find_places(to_rgb(np.pad(joined, 20)), SHAPE, "mnist", is_deslanted=True)
    assert place.strokes is not None
    divided, _ = place.divide()
    straight, _ = dataclasses.replace(
        place, strokes=dataclasses.replace(place.strokes, is_deslanted=False)
    ).divide()
    assert len(divided) > 1 and divided.keys() == straight.keys()
    assert any(np.any(divided[span].image != straight[span].image) for span in divided)
