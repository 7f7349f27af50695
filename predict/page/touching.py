"""Finds where digits that touch can be cut apart.

A cut is a way from top to bottom that crosses little ink. It is clear where that way crosses a
single stroke about as thick as the pen is; elsewhere it is but a possibility.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predict.page import morphology

# Going aside costs so much of a pixel of ink, so that of equal ways the straightest is taken.
_ASIDE = 0.02
# A cut goes through no more than this share of the piece's height.
_LONGEST = 0.6
# Between two cuts, and beyond the last ones, is the ink of a stroke this long, of the height: a
# fifth of a digit. Ways with less between them are one cut.
_APART = 0.4
# A clear cut goes through at most so many pen widths.
_PEN_WIDTHS = 2.2
# Of two crossed strokes, one that goes through less than this share of the height will do where
# there must be a cut.
_LONGEST_NEEDED = 0.45
_MOST = 24  # cuts of a piece; what has more is no number


@dataclass(frozen=True)
class Cut:
    """A cut through a piece.

    Attributes:
      columns: int [height], the first column right of it in each row.
      length: how many pixels of ink it crosses.
      is_clear: it crosses one stroke only.
      is_short: it crosses no more than two, and little of the height.
    """

    columns: np.ndarray
    length: int
    is_clear: bool
    is_short: bool


def find_cuts(mask: np.ndarray) -> list[Cut]:
    """Finds the cuts of a piece.

    Args:
      mask: bool [height, width], the piece.

    Returns:
      The cuts from left to right.
    """
    height = len(mask)
    if height < 5:
        return []
    through, ways = _find_ways(mask)
    left_of = np.pad(mask.cumsum(axis=1), ((0, 0), (1, 0)))
    left = left_of[np.arange(height)[:, None], ways].sum(axis=0)
    pen = _pen_width(mask)
    apart = _APART * height * pen
    through[(left < apart) | (left > left_of[:, -1].sum() - apart)] = np.inf
    cuts: dict[int, Cut] = {}
    while len(cuts) < _MOST and through.min() <= _LONGEST * height:
        column = _middle_of_least(through)
        cuts[column] = _make_cut(ways[:, column], mask, pen)
        through[np.abs(left - left[column]) < apart] = np.inf
    return [cuts[column] for column in sorted(cuts)]


def _find_ways(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the cheapest way from top to bottom through each column of the middle row.

    Args:
      mask: bool [height, width], the piece.

    Returns:
      float32 [width], what each costs, and int [height, width], the column of each in each row.
    """
    height, width = mask.shape
    cost = mask.astype(np.float32)
    down, came_down = _go_down(cost)
    up, came_up = (steps[::-1] for steps in _go_down(cost[::-1]))
    middle = height // 2
    ways = np.empty((height, width), int)
    ways[middle] = np.arange(width)
    for row in range(middle, 0, -1):
        ways[row - 1] = ways[row] + came_down[row, ways[row]]
    for row in range(middle, height - 1):
        ways[row + 1] = ways[row] + came_up[row, ways[row]]
    return down[middle] + up[middle] - cost[middle], ways


def _go_down(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cost of the cheapest way from the top to each pixel, and where it came from.

    Args:
      cost: float32 [height, width], of each pixel.

    Returns:
      float32 [height, width], and int [height, width], how many columns to the right (-1, 0 or 1)
      it was in the row above.
    """
    total, came_from = cost.copy(), np.zeros(cost.shape, int)
    ways = np.empty((3, cost.shape[1]), np.float32)
    for row in range(1, len(cost)):
        above = np.pad(total[row - 1], 1, constant_values=np.inf)
        ways[0], ways[1], ways[2] = above[:-2] + _ASIDE, above[1:-1], above[2:] + _ASIDE
        came_from[row] = ways.argmin(axis=0) - 1
        total[row] += ways.min(axis=0)
    return total, came_from


def _middle_of_least(values: np.ndarray) -> int:
    """Returns the middle of the first run of columns that have the smallest value."""
    is_least = values <= values.min() + _ASIDE / 2
    first = int(is_least.argmax())
    length = int((~is_least[first:]).argmax()) or len(values) - first
    return first + length // 2


def _make_cut(columns: np.ndarray, mask: np.ndarray, pen: float) -> Cut:
    """Describes a way."""
    on_way = mask[np.arange(len(mask)), columns]
    length = int(on_way.sum())
    crossings = np.count_nonzero(np.diff(on_way.astype(np.int8), prepend=0) == 1)
    return Cut(
        columns,
        length,
        is_clear=bool(crossings <= 1 and length <= _PEN_WIDTHS * pen),
        is_short=bool(crossings <= 2 and length <= _LONGEST_NEEDED * len(mask)),
    )


def _pen_width(mask: np.ndarray) -> float:
    """Estimates how thick strokes are: their area by half the length of their outline."""
    padded = np.pad(mask, 1)
    area = int(np.count_nonzero(mask))
    outline = area - int(np.count_nonzero(morphology.erode(padded, 3, 3)))
    return 2 * area / max(outline, 1)
