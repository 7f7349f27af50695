from __future__ import annotations

import numpy as np
import pytest

from benchmarks.page_composer import EASY, HARD, compose_page, slant
from benchmarks.pages import Score, count_errors


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Bars of several widths as images: uint8 [5, 28, 28], and their labels."""
    images = np.zeros((5, 28, 28), np.uint8)
    for label, image in enumerate(images):
        image[4:24, 8 : 12 + 2 * label] = 255
    return images, np.arange(5)


@pytest.mark.parametrize("disturbance", [*EASY, *HARD])
def test_page_is_a_function_of_seed_number_and_disturbance(disturbance):
    page = compose_page(*digits(), disturbance, 3, 0)
    again = compose_page(*digits(), disturbance, 3, 0)
    assert np.array_equal(page.pixels, again.pixels) and page.text == again.text
    assert page.pixels.dtype == np.uint8 and page.pixels.shape[2] == 3
    assert len(page.text.replace("\n", "")) == len(page.boxes)
    assert set(page.text) <= set("01234\n")
    other = compose_page(*digits(), disturbance, 3, 1)
    assert page.pixels.shape != other.pixels.shape or np.any(page.pixels != other.pixels)


def test_boxes_of_a_clean_page_hold_all_of_its_ink():
    page = compose_page(*digits(), "clean", 1, 0)
    grey = page.pixels.min(axis=2)
    is_ink = grey < (int(grey.min()) + int(grey.max())) / 2
    for x, y, width, height in page.boxes:
        assert is_ink[y : y + height, x : x + width].mean() > 0.5
        is_ink[y : y + height, x : x + width] = False
    assert not is_ink.any()


def test_slanted_digits_lean_to_the_right_and_lose_nothing():
    images, _ = digits()
    leaning = slant(images, 45)
    middles = (
        leaning[0].astype(float) @ np.arange(leaning.shape[2]) / leaning[0].sum(axis=1).clip(1)
    )
    assert np.allclose(np.diff(middles[4:24]), -1, atol=0.2)  # a column a row
    assert np.allclose(leaning.sum(axis=(1, 2)), images.sum(axis=(1, 2)), rtol=0.02)
    mirrored = slant(images[:, :, ::-1], -45)[:, :, ::-1]
    assert np.allclose(mirrored.astype(int), leaning, atol=1)


@pytest.mark.parametrize(
    ("right", "read", "errors"),
    [
        ("12", "12", 0),
        ("12", "", 2),
        ("", "7", 1),
        ("12\n3", "123", 1),  # a line break counts
        ("1234", "1324", 2),
        ("0123", "123", 1),
    ],
)
def test_errors_are_insertions_deletions_and_substitutions(right, read, errors):
    assert count_errors(right, read) == errors


def test_scores_add_up():
    total = Score(1, 1, 10, 0, 0, 0.5) + Score(1, 0, 30, 2, 1, 0.1)
    assert (total.pages, total.faultless, total.characters, total.errors) == (2, 1, 40, 2)
    assert str(total).split() == ["2", "50.0%", "5.00%", "0.50", "300"]
