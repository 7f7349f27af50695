import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from input_pipeline.augment import _random_displacement, augment
from input_pipeline.augmentation import Augmentation

SEED = tf.constant([5, 7], tf.int64)
EVERYTHING = Augmentation(shift=0.2, rotation=30, zoom=0.3, shear=20, elastic=10)


def random_images(n, height, width, channels=1):
    shape = n, height, width, channels
    return np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)


def distort(images, seed=SEED, **values):
    return augment(tf.constant(images), Augmentation(**values), seed).numpy()


@pytest.fixture
def draw_largest(monkeypatch):
    """Lets every draw be 0 but one, which is the largest there is."""

    def patch(which):
        def draw(shape, seed, low, high):
            draws = np.zeros(shape, np.float32)
            draws[which] = 1.0
            return tf.constant(draws)

        monkeypatch.setattr(tf.random, "stateless_uniform", draw)

    return patch


def test_nothing_asked_for_changes_nothing():
    images = random_images(3, 13, 9, 3)
    np.testing.assert_allclose(distort(images), images, atol=1e-3)
    assert not Augmentation()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Augmentation)])
def test_each_distortion_alone_changes_every_image_in_its_own_way(name):
    image = random_images(1, 13, 9, 3)
    value = {"shift": 0.2, "zoom": 0.3}.get(name, 20.0)
    assert Augmentation(**{name: value})
    images = np.repeat(image, 4, axis=0)
    distorted = distort(images, **{name: value})
    for i, one in enumerate(distorted):
        for other in [image[0], *distorted[:i]]:
            assert np.abs(one - other).max() > 1.0


def test_shift_moves_by_its_share_of_the_side(draw_largest):
    images = random_images(2, 12, 8, 3)
    draw_largest(3)  # rows
    moved = distort(images, shift=0.25)
    np.testing.assert_allclose(moved[:, :9], images[:, 3:], atol=1e-3)
    assert np.all(moved[:, 9:] == 0)
    draw_largest(4)  # columns
    moved = distort(images, shift=0.25)
    np.testing.assert_allclose(moved[:, :, :6], images[:, :, 2:], atol=1e-3)
    assert np.all(moved[:, :, 6:] == 0)


def test_shift_is_uniform_in_both_directions():
    images = np.zeros((500, 41, 21, 1), np.float32)
    images[:, 20, 10] = 1.0
    moved = distort(images, shift=0.1)[..., 0]
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1.0, atol=1e-4)
    for axis, reach in ((2, 4.1), (1, 2.1)):
        line = moved.sum(axis=axis)
        shifts = line @ (np.arange(line.shape[1]) - line.shape[1] // 2)
        assert np.abs(shifts).max() <= reach + 1e-3
        # A uniform distribution over [-reach, reach].
        assert shifts.min() < -0.95 * reach
        assert shifts.max() > 0.95 * reach
        assert np.std(shifts) == pytest.approx(reach / np.sqrt(3), rel=0.1)


def test_rotation_turns_about_the_centre(draw_largest):
    draw_largest(0)
    images = random_images(2, 7, 7, 3)
    turned = distort(images, rotation=90)
    assert any(np.allclose(turned, np.rot90(images, k, axes=(1, 2)), atol=1e-2) for k in (1, -1))
    images = random_images(2, 13, 9)
    np.testing.assert_allclose(distort(images, rotation=180), images[:, ::-1, ::-1], atol=1e-2)
    quarter = distort(images, rotation=45)
    np.testing.assert_allclose(quarter[:, 6, 4], images[:, 6, 4], atol=1e-3)
    assert np.all(quarter[:, 0, 0] == 0)


def test_zoom_scales_about_the_centre(draw_largest):
    draw_largest(1)
    images = random_images(2, 13, 9)
    larger = distort(images, zoom=0.5)
    # What was 2 pixels from the centre is now 3 pixels from it.
    np.testing.assert_allclose(larger[:, 6 + 3, 4 - 3], images[:, 6 + 2, 4 - 2], atol=1e-2)
    np.testing.assert_allclose(larger[:, 0, 4], images[:, 2, 4], atol=1e-2)


def test_shear_slants_rows(draw_largest):
    draw_largest(2)
    images = random_images(2, 5, 9)
    slanted = distort(images, shear=45)
    for row in range(5):
        offset = row - 2
        columns = np.arange(9)
        inside = (columns + offset >= 0) & (columns + offset < 9)
        np.testing.assert_allclose(
            slanted[:, row, columns[inside]], images[:, row, columns[inside] + offset], atol=1e-2
        )
        assert np.all(np.abs(slanted[:, row, columns[~inside]]) < 1e-2)


def test_an_affine_map_is_the_same_with_and_without_an_elastic_field():
    # Two operations look places up: a vanishing field leads to the one that takes any places.
    images = random_images(40, 13, 9, 3)
    affine = {"shift": 0.3, "rotation": 40.0, "zoom": 0.4, "shear": 25.0}
    alone, with_field = distort(images, **affine), distort(images, **affine, elastic=1e-9)
    np.testing.assert_allclose(alone, with_field, atol=1e-2)
    # What lies outside has come into nearly all of them, so their borders are compared, too.
    assert np.mean(np.min(alone, axis=(1, 2, 3)) == 0.0) > 0.9


def test_elastic_field_is_that_of_simard():
    # Uniform noise, deviation sqrt(1/3), smoothed by a Gaussian of 4 pixels: the deviation shrinks
    # by 1 / (2 sqrt(pi) 4), and places d apart correlate by exp(-d^2 / (4 * 4^2)).
    field = _random_displacement(tf.constant(12), 96, 80, SEED).numpy()
    assert field.shape == (12, 96, 80, 2)
    inner = field[:, 12:-12, 12:-12]
    assert np.std(inner) == pytest.approx(np.sqrt(1 / 3) / (2 * np.sqrt(np.pi) * 4), rel=0.08)
    for d in (2, 4, 8):
        for near, far in ((inner[:, :-d], inner[:, d:]), (inner[:, :, :-d], inner[:, :, d:])):
            found = np.corrcoef(near.ravel(), far.ravel())[0, 1]
            assert found == pytest.approx(np.exp(-(d**2) / 64), abs=0.06)
    assert abs(np.corrcoef(inner[..., 0].ravel(), inner[..., 1].ravel())[0, 1]) < 0.15


def test_elastic_grows_with_alpha():
    images = random_images(4, 28, 28)
    changes = [np.abs(distort(images, elastic=alpha) - images).mean() for alpha in (2, 8, 32)]
    assert changes[0] < changes[1] < changes[2]


def test_values_stay_between_0_and_the_brightest():
    images = random_images(20, 13, 9, 3)
    distorted = augment(tf.constant(images), EVERYTHING, SEED).numpy()
    assert distorted.shape == images.shape
    assert distorted.dtype == np.float32
    assert distorted.min() >= 0.0
    assert distorted.max() <= images.max() * (1 + 1e-6)


def test_channels_move_together():
    images = np.repeat(random_images(3, 13, 9), 3, axis=-1)
    distorted = augment(tf.constant(images), EVERYTHING, SEED).numpy()
    np.testing.assert_array_equal(distorted[..., 0], distorted[..., 1])
    np.testing.assert_array_equal(distorted[..., 0], distorted[..., 2])


def test_seed_decides():
    images = tf.constant(random_images(3, 13, 9))
    first, same, *others = (
        augment(images, EVERYTHING, tf.constant(seed, tf.int64)).numpy()
        for seed in ([1, 2], [1, 2], [1, 3], [2, 2])
    )
    np.testing.assert_array_equal(first, same)
    for other in others:
        assert np.abs(first - other).max() > 1.0


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("shift", 0.6, "0.5"),
        ("rotation", -1.0, "180.0"),
        ("zoom", 1.0, "0.9"),
        ("shear", 61.0, "60.0"),
        ("elastic", float("nan"), "100.0"),
    ],
)
def test_values_out_of_range_are_refused(name, value, limit):
    with pytest.raises(UserError, match=f"^--{name}={value}: expected a number from 0 to {limit}$"):
        Augmentation(**{name: value})
