import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.photo import photograph


def photos(images, seed=(0, 0)):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.constant(images, tf.float32)
        return session.run(photograph(pixels, tf.constant(seed, tf.int64)))


def strokes(n=40, shape=(28, 28, 1)):
    images = np.zeros((n, *shape), np.float32)
    images[:, shape[0] // 4 : -shape[0] // 4, shape[1] // 2 - 1 : shape[1] // 2 + 2] = 255
    return images


def test_the_seed_decides_all():
    first = photos(strokes())
    np.testing.assert_array_equal(first, photos(strokes()))
    assert (first != photos(strokes(), (0, 1))).any(axis=(1, 2, 3)).all()
    assert (first != photos(strokes(), (1, 0))).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 9, 3)])
def test_each_image_is_distorted_in_its_own_way_and_within_range(shape):
    found = photos(strokes(40, shape))
    assert found.shape == (40, *shape) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 255
    assert len({image.tobytes() for image in found}) == 40


def test_strokes_become_thicker_and_thinner():
    ink = photos(strokes()).sum(axis=(1, 2, 3)) / strokes()[0].sum()
    assert ink.min() < 0.9 and ink.max() > 1.3
    assert ink.min() > 0.3  # none vanishes


def test_edges_become_softer_and_harder():
    found = photos(np.clip(strokes() * 0.6, 0, 255))
    middle = ((found > 40) & (found < 215)).mean(axis=(1, 2, 3))
    assert middle.min() < 0.5 * middle.max()
