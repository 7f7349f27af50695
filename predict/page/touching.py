"""Splits digits that touch, where it is clear that there are two and where to cut.

The cut is the way from top to bottom that crosses least ink. It is clear where that way crosses a
single stroke about as thick as the pen is, and what lies on both sides is as high as a digit.
"""

from __future__ import annotations

import numpy as np

from predict.page import morphology
from predict.page.pieces import Pieces, measure, typical_height

# A piece that is so many times as wide as high is looked at; without so many others to compare it
# with, it must be wider.
_WIDE, _SEVERAL, _WIDE_ALONE = 1.4, 3, 1.5
# It is also at least so wide, of the writing's height.
_WIDTH = 0.85
# Cuts are sought within bands so wide to both sides, of the piece's height.
_BAND = 0.25
# A cut goes through at most so many pen widths; each side has these shares of the piece's height.
_PEN_WIDTHS, _LEAST_HEIGHT, _LEAST_WIDTH = 2.2, 0.7, 0.25
# What is wider than any digit may also touch in two places, or side by side: so many times as wide
# as high, with a cut through so much of the height.
_TOO_WIDE, _LONGEST_CUT = 1.5, 0.45


def split(pieces: Pieces, strength: np.ndarray) -> Pieces:
    """Splits each piece that is clearly several digits.

    Args:
      pieces: of the page.
      strength: float32 [height, width].
    """
    if not pieces.areas.size:
        return pieces
    numbers, height = pieces.numbers.copy(), typical_height(pieces)
    wide = _WIDE if pieces.areas.size >= _SEVERAL else _WIDE_ALONE
    is_wide = (pieces.widths > wide * pieces.heights) & (pieces.widths > _WIDTH * height)
    waiting = [int(index) + 1 for index in np.flatnonzero(is_wide)]
    next_number = int(pieces.areas.size) + 1
    boxes = {number: tuple(pieces.boxes[number - 1]) for number in waiting}
    while waiting:
        number = waiting.pop()
        top, left, bottom, right = boxes[number]
        part = numbers[top:bottom, left:right]
        right_side = _cut(part == number)
        if right_side is None:
            continue
        part[right_side] = next_number
        for side in (number, next_number):
            rows, columns = np.nonzero(part == side)
            box = (top + rows.min(), left + columns.min(), top + rows.max() + 1)
            boxes[side] = (*box, left + columns.max() + 1)
            if boxes[side][3] - boxes[side][1] > wide * (boxes[side][2] - boxes[side][0]):
                waiting.append(side)
        next_number += 1
    return measure(numbers, strength)


def _cut(mask: np.ndarray) -> np.ndarray | None:
    """Returns which pixels are right of the clearest cut, like `mask`; None without one."""
    height, width = mask.shape
    margin = max(1, round(_LEAST_WIDTH * height))
    if width <= 2 * margin + 1 or height < 5:
        return None
    pen, reach = _pen_width(mask), max(2, round(_BAND * height))
    best, least = None, np.inf
    for middle in range(margin, width - margin + 1, max(1, reach // 2)):
        left, right = max(middle - reach, margin), min(middle + reach + 1, width - margin)
        seam = _find_seam(mask[:, left:right]) + left
        on_seam = mask[np.arange(height), seam]
        length = int(on_seam.sum())
        crossings = np.count_nonzero(np.diff(on_seam.astype(np.int8), prepend=0) == 1)
        is_clear = crossings <= 1 and length <= _PEN_WIDTHS * pen
        is_needed = crossings <= 2 and length <= _LONGEST_CUT * height
        if length < least and (is_clear or (is_needed and width >= _TOO_WIDE * height)):
            is_right = mask & (np.arange(width)[None, :] >= seam[:, None])
            if _is_digit_sized(is_right, height) and _is_digit_sized(mask & ~is_right, height):
                best, least = is_right, length
    return best


def _is_digit_sized(part: np.ndarray, height: int) -> bool:
    """Tells whether a part of a piece this high is high and wide enough to be a digit."""
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if not rows.size:
        return False
    return bool(
        np.ptp(rows) + 1 >= _LEAST_HEIGHT * height and np.ptp(columns) + 1 >= _LEAST_WIDTH * height
    )


def _find_seam(mask: np.ndarray) -> np.ndarray:
    """Returns the column at each row of the way down that crosses least ink."""
    height, width = mask.shape
    # Going aside costs a little, so that of equal ways the straightest is taken.
    cost = mask.astype(np.float32)
    total = cost[0].copy()
    came_from = np.zeros((height, width), np.int8)
    for row in range(1, height):
        padded = np.pad(total, 1, constant_values=np.inf)
        ways = np.stack([padded[:-2] + 0.02, padded[1:-1], padded[2:] + 0.02])
        best = np.argmin(ways, axis=0)
        came_from[row] = best - 1
        total = ways[best, np.arange(width)] + cost[row]
    seam = np.empty(height, int)
    seam[-1] = int(np.argmin(total))
    for row in range(height - 1, 0, -1):
        seam[row - 1] = seam[row] + came_from[row, seam[row]]
    return seam


def _pen_width(mask: np.ndarray) -> float:
    """Estimates how thick strokes are: their area by half the length of their outline."""
    padded = np.pad(mask, 1)
    area = int(np.count_nonzero(mask))
    outline = area - int(np.count_nonzero(morphology.erode(padded, 3, 3)))
    return 2 * area / max(outline, 1)
