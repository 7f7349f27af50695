"""Puts digits into reading order: lines from top to bottom, each from left to right."""

from __future__ import annotations

import numpy as np

from predict.page.median import median

# A digit's neighbour on its line is at most so many heights away, and up or down at most this
# share of the height: about 20 degrees.
_REACH, _TILT = 3.0, 0.55
# Turned level, a digit belongs to a line whose middle is within this share of its height.
_SAME_LINE = 0.5


def find_lines(boxes: np.ndarray) -> list[list[int]]:
    """Groups boxes into lines of text, which may be slightly turned.

    Args:
      boxes: int [n, 4]: top, left, bottom, right.

    Returns:
      For each line from top to bottom the indices of its boxes from left to right.
    """
    middles = np.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], axis=1) / 2
    heights = (boxes[:, 2] - boxes[:, 0]).astype(float)
    slope = _find_slope(middles, heights)
    level = middles[:, 0] - slope * middles[:, 1]
    lines: list[list[int]] = []
    for index in np.argsort(level, kind="stable"):
        height = max(heights[index], median(heights))
        if lines:
            middle = median(level[lines[-1]])
            if abs(level[index] - middle) <= _SAME_LINE * height:
                lines[-1].append(int(index))
                continue
        lines.append([int(index)])
    across = middles[:, 1] + slope * middles[:, 0]
    return [sorted(line, key=lambda index: float(across[index])) for line in lines]


def _find_slope(middles: np.ndarray, heights: np.ndarray) -> float:
    """Returns how much the lines go down for each pixel to the right: the median over neighbours.

    Args:
      middles: float [n, 2], row and column.
      heights: float [n].
    """
    slopes = []
    typical = float(median(heights))
    for index, (row, column) in enumerate(middles):
        down, right = middles[:, 0] - row, middles[:, 1] - column
        height = max(heights[index], typical)
        is_next = (right > 0) & (right < _REACH * height) & (np.abs(down) < _TILT * height)
        if is_next.any():
            nearest = int(np.argmin(np.where(is_next, right, np.inf)))
            slopes.append(down[nearest] / right[nearest])
    return float(median(slopes)) if slopes else 0.0
