from __future__ import annotations

import numpy as np
import pytest

from benchmarks.page_composer import slant
from predict.page.mnist_form import deslant, fit
from tests.predict_fixtures import DIGITS, draw

SHAPE = (28, 28, 1)


def crop(image):
    """The ink of a uint8 image, light on black, as float32 of 0 to 1."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32) / 255


def lean(image, degrees):
    return crop(slant(image[None], degrees)[0])


def correlation(ink):
    """Of rows and columns, weighed by ink: 0 where the principal axis is upright or level."""
    rows, columns = np.indices(ink.shape) - np.array(
        [[[(np.indices(ink.shape)[axis] * ink).sum() / ink.sum()]] for axis in (0, 1)]
    )
    spread = (rows**2 * ink).sum() * (columns**2 * ink).sum()
    return (rows * columns * ink).sum() / np.sqrt(spread)


@pytest.mark.parametrize("degrees", [-40, -20, 15, 35])
def test_slanted_bar_becomes_upright(degrees):
    bar = np.zeros((80, 60), np.uint8)
    bar[5:75, 25:33] = 255
    leaning = lean(bar, degrees)
    assert leaning.shape[1] > 20
    upright = deslant(leaning)
    assert upright.shape[0] == 70 and 8 <= upright.shape[1] <= 10  # a soft edge each side
    assert np.all(upright[:, 2:-2] > 0.9)


@pytest.mark.parametrize("text", DIGITS)
def test_slant_makes_no_difference_any_more(text):
    image = 255 - draw(text)
    assert abs(correlation(deslant(crop(image)))) < 0.03
    upright = fit(crop(image), SHAPE, is_deslanted=True).astype(int)
    for degrees in (-20, 10, 25):
        again = fit(lean(image, degrees), SHAPE, is_deslanted=True).astype(int)
        moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        shifted = [np.roll(again, move, (0, 1)) for move in moves]
        assert min(np.abs(one - upright).mean() for one in shifted) < 12  # Without it, 20 to 45.


@pytest.mark.parametrize("text", DIGITS)
def test_deslanted_digit_has_the_form_of_mnist(text):
    image = fit(lean(255 - draw(text), 25), SHAPE, is_deslanted=True)
    rows, columns = np.flatnonzero(image.any(axis=(1, 2))), np.flatnonzero(image.any(axis=(0, 2)))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert image.max() == 255 and image.shape == SHAPE and image.dtype == np.uint8
    for axis in (0, 1):
        mass = image[:, :, 0].sum(axis=axis)
        assert abs(mass @ np.arange(28) / mass.sum() - 14) <= 0.5


def test_upright_digit_stays_as_it_is():
    ink = np.zeros((20, 9), np.float32)  # A zero: the same from left and right.
    ink[:2], ink[-2:], ink[:, :2], ink[:, -2:] = 1, 1, 1, 1
    assert np.allclose(deslant(ink), ink, atol=1e-5)
    assert np.array_equal(fit(ink, SHAPE, is_deslanted=True), fit(ink, SHAPE))


@pytest.mark.parametrize(
    "ink",
    [
        np.ones((1, 1)),
        np.ones((1, 9)),
        np.ones((9, 1)),
        np.eye(2),
        np.eye(30)[::-1],
        np.array([[1.0] * 40 + [0] * 40, [0] * 40 + [1.0] * 40]),  # Its axis is nearly level.
        np.where(np.eye(9) > 0, 1, -0.2),  # Paper scatters about 0.
        np.full((3, 3), 1e-12),
    ],
)
def test_degenerate_ink_is_no_exception(ink):
    ink = ink.astype(np.float32)
    upright = deslant(ink)
    assert len(upright) == len(ink) and np.isfinite(upright).all() and upright.max() > 0
    assert upright.shape[1] <= sum(ink.shape)
    assert fit(ink, SHAPE, is_deslanted=True).max() == 255
