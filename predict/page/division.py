"""Divides ink into parts, and tells which runs of them could be a digit each.

Where digits touch, a piece is cut into parts; where strokes are broken, neighbouring pieces are
parts of one digit. Ink alone does not tell which, so more cuts are made than are needed, and the
network that reads the runs of parts decides: over-segmentation, as in LeCun et al., "Gradient-based
learning applied to document recognition", 1998, section VI.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predict.page.touching import Cut, find_cuts

Span = tuple[int, int]  # of a run of parts: the first, and the one after the last

# Fuller than this, of 255, a pixel is of a stroke and not only of its edge.
_FULL = 100
# A piece is cut if it is wider than this share of its height.
_NARROW = 0.6
# It is two digits for sure, where a clear cut shows how, if it is so many times as wide as high;
# if it is even wider, also where a cut is but short.
_TOO_WIDE, _FAR_TOO_WIDE = 1.4, 1.5
# Both sides of a sure cut have these shares of the piece's height.
_SURE_HEIGHT, _SURE_WIDTH = 0.7, 0.25
# A run of parts has this share of the whole's height, and is no wider than so many heights.
_LEAST_HEIGHT, _WIDEST = 0.6, 1.6
# Pieces side by side may be one digit if the gap between their boxes is no wider than this share
# of the writing's height, and the lower one shares so much of its height with the other.
_GAP, _SHARED_HEIGHT = 0.12, 0.5


@dataclass(frozen=True)
class Division:
    """Ink divided into parts.

    Attributes:
      parts: int [height, width], the parts numbered from 1 on, from left to right; 0 is paper.
      spans: the runs of parts that could be digits.
      usual: the runs that ink alone speaks for, from left to right; together they are all parts.
    """

    parts: np.ndarray
    spans: tuple[Span, ...]
    usual: tuple[Span, ...]


def is_narrow(height: int, width: int) -> bool:
    """Tells whether a piece is too narrow to be cut."""
    return width <= _NARROW * height


def is_too_wide(height: int, width: int) -> bool:
    """Tells whether a box is too wide for one digit."""
    return width > _TOO_WIDE * height


def divide(ink: np.ndarray, pieces: np.ndarray) -> Division:
    """Divides ink.

    Args:
      ink: uint8 [height, width], how much of each pixel it covers.
      pieces: int [height, width], its pieces numbered from 1 on, from left to right; 0 is paper.
    """
    parts = np.zeros(ink.shape, int)
    usual: list[Span] = []
    count = 0
    for number in range(1, int(pieces.max()) + 1):
        own = pieces == number
        area = _bounds(own)
        cuts, order = _cut(own[area] & (ink[area] >= _FULL))
        parts[area][own[area]] = count + 1 + order[own[area]]
        boxes = [_bounds(parts == count + 1 + part) for part in range(len(cuts) + 1)]
        usual += [
            (count + start, count + end)
            for start, end in _divide_clearly(boxes, cuts, (0, len(boxes)))
        ]
        count += len(boxes)
    spans = _find_spans([_bounds(parts == part) for part in range(1, count + 1)])
    return Division(parts, tuple(sorted({*spans, *usual})), tuple(usual))


Area = tuple[slice, slice]  # rows and columns


def _bounds(mask: np.ndarray) -> Area:
    """Returns the rows and columns that a mask spans; it is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.s_[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def _size(areas: list[Area]) -> tuple[int, int]:
    """Returns the height and the width that areas take together."""
    height, width = (
        max(area[axis].stop for area in areas) - min(area[axis].start for area in areas)
        for axis in (0, 1)
    )
    return height, width


def _cut(mask: np.ndarray) -> tuple[list[Cut], np.ndarray]:
    """Cuts a piece; returns the cuts, and how many of them are left of each pixel."""
    height, width = mask.shape
    cuts = [] if is_narrow(height, width) else find_cuts(mask)
    while True:
        order = np.zeros(mask.shape, int)
        for cut in cuts:
            order += np.arange(width)[None, :] >= cut.columns[:, None]
        empty = np.flatnonzero(np.bincount(order[mask], minlength=len(cuts) + 1) == 0)
        if not (empty.size and cuts):
            return cuts, order
        del cuts[min(int(empty[0]), len(cuts) - 1)]  # It meets another, and nothing is between.


def _divide_clearly(areas: list[Area], cuts: list[Cut], span: Span) -> list[Span]:
    """Divides a piece as far as it is too wide for one digit and a cut is clear.

    Args:
      areas: of the piece's parts.
      cuts: between them.
      span: the parts to divide.
    """
    height, width = _size(areas[slice(*span)])
    if not is_too_wide(height, width):
        return [span]
    sure = []
    for place in range(span[0] + 1, span[1]):
        cut = cuts[place - 1]
        sides = (_size(areas[span[0] : place]), _size(areas[place : span[1]]))
        if (cut.is_clear or (cut.is_short and width >= _FAR_TOO_WIDE * height)) and all(
            high >= _SURE_HEIGHT * height and across >= _SURE_WIDTH * height
            for high, across in sides
        ):
            sure.append((cut.length, place))
    if not sure:
        return [span]
    place = min(sure)[1]
    return [
        *_divide_clearly(areas, cuts, (span[0], place)),
        *_divide_clearly(areas, cuts, (place, span[1])),
    ]


def _find_spans(areas: list[Area]) -> list[Span]:
    """Returns the runs of parts that could be a digit by their size."""
    whole = _size(areas)[0]
    spans = []
    for start in range(len(areas)):
        for end in range(start + 1, len(areas) + 1):
            height, width = _size(areas[start:end])
            if height >= _LEAST_HEIGHT * whole and width <= _WIDEST * height:
                spans.append((start, end))
    return spans


def find_chains(boxes: np.ndarray, writing: float) -> list[list[int]]:
    """Groups pieces that stand so close side by side that they may be parts of one digit.

    Args:
      boxes: int [n, 4]: top, left, bottom, right.
      writing: the height of the writing.

    Returns:
      The indices of each group, from left to right.
    """
    top, left, bottom, right = boxes.T
    nearest: dict[int, tuple[float, int]] = {}  # of each box the gap to the one before, and that
    for index, box in enumerate(boxes):
        shared = np.minimum(bottom, box[2]) - np.maximum(top, box[0])
        lower = np.minimum(bottom - top, box[2] - box[0])
        gap, width = left - box[3], np.maximum(right, box[3]) - np.minimum(left, box[1])
        is_next = (left + right > box[1] + box[3]) & (gap <= _GAP * writing)
        is_next &= (shared >= _SHARED_HEIGHT * lower) & (width <= _WIDEST * writing)
        if is_next.any():
            following = int(np.argmin(np.where(is_next, gap, np.inf)))
            found = (float(gap[following]), index)
            nearest[following] = min(found, nearest.get(following, found))
    after = {index: following for following, (_, index) in nearest.items()}
    chains = []
    for first in range(len(boxes)):
        if first not in nearest:
            chains.append([first])
            while chains[-1][-1] in after:
                chains[-1].append(after[chains[-1][-1]])
    return chains
