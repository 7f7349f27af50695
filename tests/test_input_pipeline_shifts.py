from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.shifts import build_copies_apart, build_shifted_copies, count_copies


@pytest.mark.parametrize(("reach", "copies"), [(0, 1), (1, 9), (3, 49)])
def test_every_shift_is_there_once_with_zeros_shifted_in(reach, copies):
    images = np.random.default_rng(0).uniform(1, 2, (3, 7, 5, 2)).astype(np.float32)
    assert count_copies(reach) == copies
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pixels = tf.compat.v1.placeholder(tf.float32, [None, 7, 5, 2])
        shifted = build_shifted_copies(pixels, reach)
        apart = build_copies_apart(tf.reshape(shifted, [-1, 7 * 5 * 2]), reach)
        found = session.run(apart, {pixels: images}).reshape(copies, 3, 7, 5, 2)
    expected = {}
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = np.roll(images, (down, right), axis=(1, 2))
            moved[:, : max(down, 0)] = 0
            moved[:, 7 + min(down, 0) :] = 0
            moved[:, :, : max(right, 0)] = 0
            moved[:, :, 5 + min(right, 0) :] = 0
            expected[moved.tobytes()] = (down, right)
    assert len(expected) == copies
    assert {copy.tobytes() for copy in found} == set(expected)
