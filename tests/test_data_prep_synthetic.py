from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep import digit_strokes, idx, synthetic
from data_prep.command_line import UserError


def digits_in_turn(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) % 10


def read_split(name: str, *, num_train: int = 30, num_test: int = 20, seed: int = 0):
    source = synthetic.make_source(num_train=num_train, num_test=num_test, seed=seed)
    images, labels = zip(*source.splits[name].read(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_draws_uint8_images_of_mnists_shape():
    images = synthetic.draw_digits(digits_in_turn(13), seed=0, first_index=0)
    assert images.shape == (13, 28, 28, 1)
    assert images.dtype == np.uint8
    assert images.max() >= 250  # white ink
    assert images.min() == 0  # on black


def test_draws_no_images_for_no_labels():
    assert synthetic.draw_digits(digits_in_turn(0), seed=0, first_index=0).shape == (0, 28, 28, 1)


def test_the_bytes_never_change():
    """Whoever changes them on purpose says so here: datasets drawn earlier will differ."""
    images = synthetic.draw_digits(digits_in_turn(200), seed=7, first_index=1_000_000)
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "df7690e208c3390e61d91dd7309cd7f5c9635ffcdbb42fcaea59f6a5ee518d8b"
    )


def test_an_image_does_not_depend_on_its_batch(monkeypatch: pytest.MonkeyPatch):
    labels = digits_in_turn(301)
    together = synthetic.draw_digits(labels, seed=3, first_index=5)
    one = synthetic.draw_digits(labels[300:], seed=3, first_index=305)
    np.testing.assert_array_equal(one, together[300:])
    monkeypatch.setattr(synthetic, "_BATCH", 77)
    monkeypatch.setattr(synthetic, "_RENDER_BATCH", 10)
    np.testing.assert_array_equal(synthetic.draw_digits(labels, seed=3, first_index=5), together)


def test_an_image_does_not_depend_on_other_labels():
    labels = digits_in_turn(20)
    others = labels.copy()
    others[1:] = (others[1:] + 4) % 10
    first, second = (synthetic.draw_digits(y, seed=0, first_index=0) for y in (labels, others))
    np.testing.assert_array_equal(first[0], second[0])
    assert all((first[i] != second[i]).any() for i in range(1, 20))


@pytest.mark.parametrize("seed", [1, -1, 2**31, 2**64 - 1])
def test_another_seed_draws_other_images(seed: int):
    labels = digits_in_turn(50)
    usual = synthetic.draw_digits(labels, seed=0, first_index=0)
    other = synthetic.draw_digits(labels, seed=seed, first_index=0)
    assert (usual != other).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("digit", range(10))
def test_every_digit_is_prepared_as_mnists_are(digit: int):
    labels = np.full(300, digit)
    images = synthetic.draw_digits(labels, seed=11, first_index=0)[..., 0].astype(float)
    rows, columns = images.max(axis=2) > 0, images.max(axis=1) > 0
    heights = 28 - rows[:, ::-1].argmax(axis=1) - rows.argmax(axis=1)
    widths = 28 - columns[:, ::-1].argmax(axis=1) - columns.argmax(axis=1)
    longer = np.maximum(heights, widths)
    assert longer.max() == 20
    # A round stroke's end may leave too little ink in the outermost pixel.
    assert longer.min() >= 18
    mass = images.sum(axis=(1, 2))
    centre_y = images.sum(axis=2) @ np.arange(28) / mass
    centre_x = images.sum(axis=1) @ np.arange(28) / mass
    assert np.abs(centre_y - 14).max() <= 0.501
    assert np.abs(centre_x - 14).max() <= 0.501
    # Thin pens and thick ones, and grey edges.
    assert np.percentile(mass, 95) > 1.7 * np.percentile(mass, 5)
    grey = ((images > 0) & (images < 255)).sum() / (images > 0).sum()
    assert 0.3 < grey < 0.8
    # No two alike.
    assert len({image.tobytes() for image in images}) == 300


@pytest.mark.parametrize(
    ("labels", "first_index", "message"),
    [
        (np.array([3, 10]), 0, r"labels \[n\] from 0 to 9, found \[ 3 10\]"),
        (np.array([-1]), 0, r"labels \[n\] from 0 to 9, found \[-1\]"),
        (np.array([[1]]), 0, r"labels \[n\] from 0 to 9, found \[\[1\]\]"),
        (np.array([1]), -4, "first_index of 0 or more, found -4"),
    ],
)
def test_refuses_what_it_cannot_draw(labels: np.ndarray, first_index: int, message: str):
    with pytest.raises(ValueError, match=message):
        synthetic.draw_digits(labels, seed=0, first_index=first_index)


def test_source_describes_itself():
    source = synthetic.make_source(num_train=1234, num_test=5, seed=0)
    assert source.image_shape == (28, 28, 1)
    assert source.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert source.files == ()
    assert {name: split.num_examples for name, split in source.splits.items()} == {
        "train": 1234,
        "test": 5,
    }


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 2100])
def test_source_streams_as_many_images_as_it_says(size: int):
    source = synthetic.make_source(num_train=size, num_test=1, seed=0)
    batches = list(source.splits["train"].read())
    assert sum(len(labels) for _, labels in batches) == size
    for images, labels in batches:
        assert 1 <= len(images) == len(labels) <= 1000
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64


def test_source_reads_the_same_each_time():
    source = synthetic.make_source(num_train=40, num_test=1, seed=5)
    (first, first_labels), (second, second_labels) = (
        next(iter(source.splits["train"].read())) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first_labels, second_labels)


def test_source_draws_its_own_labels():
    images, labels = read_split("test", num_test=25, seed=9)
    drawn = synthetic.draw_digits(labels, seed=9, first_index=synthetic.TEST_FIRST_INDEX)
    np.testing.assert_array_equal(images, drawn)


def test_a_larger_source_begins_with_a_smaller_one():
    small, small_labels = read_split("train", num_train=1010)
    large, large_labels = read_split("train", num_train=1020, num_test=50)
    np.testing.assert_array_equal(large[:1010], small)
    np.testing.assert_array_equal(large_labels[:1010], small_labels)


def test_the_seed_decides_labels_and_images():
    (images, labels), (others, other_labels) = (read_split("train", seed=seed) for seed in (0, 1))
    assert (labels != other_labels).any()
    assert (images != others).any(axis=(1, 2, 3)).all()


def test_no_test_image_is_a_training_image():
    train, _ = read_split("train", num_train=1500)
    test, _ = read_split("test", num_test=1500)
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    assert synthetic.TEST_FIRST_INDEX > synthetic.MAX_IMAGES


def test_labels_are_about_uniform():
    _, labels = read_split("train", num_train=5000)
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 420  # 500 expected, deviation 21
    assert counts.max() < 580


@pytest.mark.parametrize(
    ("num_train", "num_test", "message"),
    [
        (0, 5, "--synthetic_train: expected 1 to 10,000,000 images, found 0"),
        (5, -3, "--synthetic_test: expected 1 to 10,000,000 images, found -3"),
        (10_000_001, 5, "--synthetic_train: expected 1 to 10,000,000 images, found 10,000,001"),
    ],
)
def test_source_refuses_absurd_sizes(num_train: int, num_test: int, message: str):
    with pytest.raises(UserError, match=f"^{message}$"):
        synthetic.make_source(num_train=num_train, num_test=num_test, seed=0)


def test_memory_does_not_grow_with_the_dataset():
    def peak(num_train: int) -> int:
        source = synthetic.make_source(num_train=num_train, num_test=1, seed=0)
        tracemalloc.start()
        for _ in source.splits["train"].read():
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # The styles are read once.
    few, many = peak(2000), peak(8000)
    assert many < 1.05 * few
    assert many < 60e6


def test_strokes_are_well_formed():
    lines = digit_strokes.STYLES.strip().splitlines()
    assert len(lines) % 3 == 0
    headers = [line.split(maxsplit=2) for line in lines[::3]]
    digits = [int(digit) for digit, _, _ in headers]
    assert digits == sorted(digits)
    assert set(digits) == set(range(10))
    assert all(float(share) > 0 for _, share, _ in headers)
    for header, form, other in zip(headers, lines[1::3], lines[2::3], strict=True):
        (points, pieces), (others, other_pieces) = map(digit_strokes.parse_form, (form, other))
        assert pieces == other_pieces, header
        assert points.shape == others.shape == (len(points), 2), header
        assert len(points) <= synthetic._MAX_CONTROLS, header
        assert all(last > first for first, last in pieces), header
        for controls in (points, others):
            assert (np.abs(controls - [35, 50]) <= [70, 52]).all(), header


def test_parse_form_finds_corners_and_pen_lifts():
    points, pieces = digit_strokes.parse_form("0,1 2,3! 4,5 / 6,7 -8,9")
    np.testing.assert_array_equal(points, [[0, 1], [2, 3], [4, 5], [6, 7], [-8, 9]])
    assert pieces == [(0, 1), (1, 2), (3, 4)]


def test_splines_pass_through_their_control_points():
    styles, firsts, chances = digit_strokes.load_styles()
    assert len(firsts) == len(chances) == 10
    assert (np.diff(chances, axis=1) >= 0).all()
    assert (chances[:, -1] == 1).all()
    for style in styles:
        np.testing.assert_allclose(style.weights.sum(axis=0), 1, atol=1e-6)
        controls = style.forms.mean(axis=0)
        points = sum(style.weights[tap] * controls[:, style.taps[tap]] for tap in range(4))
        distances = np.sqrt(((points[:, :, None] - controls[:, None]) ** 2).sum(axis=0))
        assert distances.min(axis=0).max() < 0.05, "a control point that the pen does not reach"


def test_every_style_is_chosen():
    styles, firsts, chances = digit_strokes.load_styles()
    shares = np.diff(chances, axis=1, prepend=0)
    assert (shares > 0).sum() == len(styles)
    assert shares[shares > 0].min() > 0.005
    assert firsts.tolist() == sorted(set(firsts.tolist()))


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_digits_resemble_mnists():
    """The nearest of 3,000 drawn digits names 88 % of the first 2,674 training images rightly."""

    def prepare(images: np.ndarray) -> np.ndarray:
        halved = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 14 * 14)
        return halved / np.linalg.norm(halved, axis=1, keepdims=True)

    folder = Path(os.environ["MNIST_DIR"])
    pairs = idx.find_files(folder, {"train": "train", "test": "t10k"}, required=("train",))
    source = idx.read_idx_dataset(pairs, class_names=tuple("0123456789"))
    real, real_labels = next(iter(source.splits["train"].read()))
    drawn, drawn_labels = read_split("train", num_train=3000)
    nearest = (prepare(real) @ prepare(drawn).T).argmax(axis=1)
    assert (drawn_labels[nearest] == real_labels).mean() > 0.84
