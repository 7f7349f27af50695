"""The rule by which the benchmark of updates finds crossed sevens."""

import numpy as np
import pytest

from benchmarks.update import is_crossed
from data_prep import synthetic
from data_prep.digit_strokes import load_styles

NAMES = {0: False, 1: False, 6: True}  # sevens' styles: a corner, a hook; a bar across the stem


@pytest.mark.parametrize(("style", "crossed"), NAMES.items())
def test_drawn_sevens(monkeypatch, style, crossed):
    styles, firsts, chances = load_styles()
    chances = chances.copy()
    chances[7] = np.where(np.arange(chances.shape[1]) < style, 0.0, 2.0)
    monkeypatch.setattr(synthetic, "load_styles", lambda: (styles, firsts, chances))
    drawn = synthetic.draw_digits(np.full(200, 7), seed=3, first_index=0)
    share = np.mean([is_crossed(image[:, :, 0]) for image in drawn])
    assert share > 0.6 if crossed else share < 0.03


def test_empty_image():
    assert not is_crossed(np.zeros((28, 28), np.uint8))
