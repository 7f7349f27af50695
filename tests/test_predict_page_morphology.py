from __future__ import annotations

import numpy as np
import pytest

from predict.page import morphology


def windows(image, height, width):
    padded = np.pad(image, ((height // 2,) * 2, (width // 2,) * 2), mode="symmetric")
    return np.lib.stride_tricks.sliding_window_view(padded, (height, width))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 1), (7, 5), (3, 11)])
def test_dilate_and_erode_take_extremes_of_windows(size):
    image = np.random.default_rng(0).integers(0, 256, (13, 9)).astype(np.uint8)
    expected = windows(image, *size)
    assert np.array_equal(morphology.dilate(image, *size), expected.max(axis=(2, 3)))
    assert np.array_equal(morphology.erode(image, *size), expected.min(axis=(2, 3)))


def test_closing_fills_narrow_darkness_and_keeps_steps():
    image = np.full((9, 40), 200, np.uint8)
    image[:, 20:] = 90
    step = image.copy()
    image[:, 5:8] = 10
    image[:, 30:33] = 10
    assert np.array_equal(morphology.close(image, 5, 5), step)


@pytest.mark.parametrize("side", [1, 3, 7])
def test_mean_around(side):
    image = np.random.default_rng(1).random((11, 8)).astype(np.float32)
    expected = windows(image, side, side).mean(axis=(2, 3))
    np.testing.assert_allclose(morphology.mean_around(image, side), expected, rtol=1e-5)
