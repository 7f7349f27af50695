from __future__ import annotations

import numpy as np
import pytest

from predict.page.lines import find_lines
from predict.page.rules import remove_rules


@pytest.mark.parametrize("slope", [-0.12, 0.0, 0.12])
def test_lines_from_top_to_bottom_and_left_to_right(slope):
    generator = np.random.default_rng(2)
    expected = [(row, column) for row in range(3) for column in range(7)]
    order = generator.permutation(len(expected))
    boxes = []
    for place in order:
        row, column = expected[place]
        top, left = 100 + 70 * row + slope * 50 * column + generator.uniform(-4, 4), 50 * column
        boxes.append([top, left, top + 40, left + 28])
    lines = find_lines(np.array(boxes).astype(int))
    assert [[expected[order[index]] for index in line] for line in lines] == [
        [(row, column) for column in range(7)] for row in range(3)
    ]


def test_one_box_is_one_line():
    assert find_lines(np.array([[3, 4, 9, 7]])) == [[0]]


def crossed_page():
    """A thin line across the page, and an upright stroke over it; bool [90, 200]."""
    line, stroke = np.zeros((90, 200), bool), np.zeros((90, 200), bool)
    line[50:52] = True
    stroke[30:70, 80:86] = True
    return line, stroke


def test_rule_is_removed_and_the_stroke_over_it_stays_whole():
    line, stroke = crossed_page()
    assert np.array_equal(remove_rules(line | stroke), stroke)


def test_bent_rule_is_removed():
    line = np.zeros((90, 400), bool)
    rows = np.rint(40 + 6 * np.sin(np.arange(400) / 120)).astype(int)
    line[rows, np.arange(400)] = line[rows + 1, np.arange(400)] = True
    assert remove_rules(line).sum() < 0.02 * line.sum()


def test_long_bar_of_a_digit_is_no_rule():
    seven = np.zeros((150, 200), bool)
    seven[20:24, 40:160] = True
    for step in range(110):
        seven[22 + step, 158 - step // 2 : 162 - step // 2] = True
    assert np.array_equal(remove_rules(seven), seven)
