import numpy as np
import pytest
from PIL import Image, ImageDraw

from data_prep import non_digits
from data_prep.non_digits import draw_non_digits, prepare

DIGITS = tuple("0123456789")


def draw(num_images=24, *, shape=(28, 28, 1), names=DIGITS, preparation="mnist", seed=0):
    images = np.random.default_rng(1).integers(0, 256, (5, *shape), np.uint8)
    return draw_non_digits(
        num_images, images=images, class_names=names, image_preparation=preparation, seed=seed
    )


def test_the_seed_decides_all():
    first, again, other = draw(), draw(), draw(seed=1)
    np.testing.assert_array_equal(first, again)
    assert all((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("preparation", ["mnist", "resize"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 9, 3), (1, 1, 1), (40, 64, 3)])
def test_any_shape(shape, preparation):
    images = draw(shape=shape, preparation=preparation)
    assert images.shape == (24, *shape) and images.dtype == np.uint8
    if min(shape[:2]) > 1:
        assert all(len(np.unique(image)) > 1 for image in images)


def test_as_mnist_the_ink_fits_and_is_centred():
    random = np.random.default_rng(0)
    paper = Image.new("L", (56, 56))
    paper.paste(200, (5, 30, 15, 50))  # twice as high as wide, at a corner
    image = prepare(paper, (28, 28, 1), "mnist", random)[:, :, 0]
    rows, columns = np.nonzero(image)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 10)
    assert (rows.min(), columns.min()) == (4, 10) and image.max() == 255


def test_without_ink_it_stays_black():
    empty = Image.new("L", (56, 56))
    assert not prepare(empty, (28, 28, 1), "mnist", np.random.default_rng(0)).any()


def test_whole_frames_take_two_tones_of_any_colour():
    paper = Image.new("L", (56, 56))
    paper.paste(255, (0, 0, 28, 56))
    image = prepare(paper, (10, 8, 3), "resize", np.random.default_rng(0))
    assert len(np.unique(image[:, :4].reshape(-1, 3), axis=0)) == 1
    assert (image[:, :4] != image[:, 4:]).any()


@pytest.mark.parametrize(("names", "written"), [(DIGITS, True), (("A", "B"), False)])
def test_letters_are_drawn_only_where_no_class_is_one(monkeypatch, names, written):
    letters = []

    def write(*args):
        letters.append(args)
        return Image.new("L", (56, 56), 255)

    monkeypatch.setattr(non_digits, "write", write)
    draw(names=names)
    assert bool(letters) == written


@pytest.mark.parametrize("kind", [non_digits._half, non_digits._intruded, non_digits._pair])
def test_what_cuts_leave_is_drawn_from_any_images(kind):
    bar, blank = np.zeros((28, 28, 1), np.uint8), np.zeros((28, 28, 1), np.uint8)
    bar[4:24, 13:15] = 255
    for images in (bar[None], blank[None]):
        paper = kind(np.random.default_rng(0), images)
        assert (paper.getbbox() is None) == (not images.any())


def test_half_is_a_side_of_an_image_and_no_stroke_alone():
    ring = Image.new("L", (28, 28))
    ImageDraw.Draw(ring).ellipse((5, 4, 23, 24), outline=255, width=3)
    images = np.asarray(ring)[None, :, :, None]
    whole = np.count_nonzero(np.asarray(non_digits._enlarge(np.random.default_rng(0), images)))
    for seed in range(20):
        half = np.asarray(non_digits._half(np.random.default_rng(seed), images))
        assert 0.2 * whole < np.count_nonzero(half) < 0.8 * whole
        rows, columns = np.nonzero(half)
        assert np.ptp(columns) + 1 > 0.35 * (np.ptp(rows) + 1)


def test_mosaics_are_made_of_the_images_given():
    images = np.stack([np.full((7, 5, 1), tone, np.uint8) for tone in (10, 20, 30)])
    mosaic = non_digits._mosaic(np.random.default_rng(0), images)
    assert mosaic.shape == (7, 5, 1)
    assert set(np.unique(mosaic)) <= {10, 20, 30} and len(np.unique(mosaic)) > 1
