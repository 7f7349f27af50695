"""Tells digits among the pieces of ink: drops what is none, joins what is one, splits what is two.

Every rule compares a piece with the height of the writing around it or with the pen's width, so
that none depends on the picture's scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predict.page import morphology


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of a mask; those of index i have the number i + 1.

    Attributes:
      numbers: int32 [height, width], 0 outside the pieces.
      boxes: int [n, 4], the rows and columns that each spans: top, left, bottom, right, the last
        two exclusive.
      areas: int [n], in pixels.
      peaks: float [n], the strength that a tenth of its ink exceeds.
    """

    numbers: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    peaks: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """Int [n], in pixels."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @property
    def widths(self) -> np.ndarray:
        """Int [n], in pixels."""
        return self.boxes[:, 3] - self.boxes[:, 1]


def measure(numbers: np.ndarray, strength: np.ndarray) -> Pieces:
    """Measures numbered pieces.

    Args:
      numbers: int32 [height, width], 0 outside the pieces, 1 to n within them.
      strength: float32 [height, width].
    """
    places = np.flatnonzero(numbers)
    rows, columns = np.divmod(places, numbers.shape[1])
    piece, values = numbers.ravel()[places] - 1, strength.ravel()[places]
    count = int(piece.max(initial=-1)) + 1
    boxes = np.zeros((count, 4), int)
    boxes[:, :2] = max(numbers.shape)
    np.minimum.at(boxes[:, 0], piece, rows)
    np.minimum.at(boxes[:, 1], piece, columns)
    np.maximum.at(boxes[:, 2], piece, rows + 1)
    np.maximum.at(boxes[:, 3], piece, columns + 1)
    areas = np.bincount(piece, minlength=count)
    ordered = values[np.lexsort((values, piece))]
    ends = np.cumsum(areas)
    peaks = ordered[ends - 1 - areas // 10] if count else np.zeros(0)
    return Pieces(numbers, boxes, areas, peaks)


def select(pieces: Pieces, kept: np.ndarray) -> Pieces:
    """Returns some of the pieces, numbered anew; `kept` is bool [n]."""
    if kept.all():
        return pieces
    new = np.zeros(kept.size + 1, np.int32)
    new[1:][kept] = np.arange(1, np.count_nonzero(kept) + 1)
    return Pieces(new[pieces.numbers], pieces.boxes[kept], pieces.areas[kept], pieces.peaks[kept])


def typical_height(pieces: Pieces) -> float:
    """Returns the height of the writing: the median, where a piece weighs as its ink does.

    A page has more specks than digits, but together they have less ink; so have single long lines.
    """
    order = np.argsort(pieces.heights)
    weights = np.cumsum(pieces.areas[order])
    return float(pieces.heights[order][np.searchsorted(weights, weights[-1] / 2)])


# Of the writing's height: smaller pieces are specks, lower digits are dashes and dots, higher ones
# are frames, page edges or pictures.
_SPECK, _LOWEST, _HIGHEST = 0.14, 0.36, 3.0
# Of the page's usual ink: paler pieces are stains, shadows, or show through from the other side.
_PALEST = 0.25
# Of the outline: what lies along the picture's border with more than this is no digit.
_ALONG_BORDER = 0.25
# Of the writing's height: how far apart the pieces of one digit may be, in any direction where one
# of them is a part only, and one above the other.
_NEAR, _BELOW = 0.12, 0.25
# Of the digit's height: a part is lower than this, also where it stands above or below the rest.
_PART, _UPPER_PART = 0.6, 0.75
# Of the smaller box: boxes that overlap so much are of one digit; slanted neighbours' do less.
_OVERLAP = 0.5
# Joined pieces are no higher and no wider than this, of the writing's height.
_JOINED_HEIGHT, _JOINED_WIDTH = 1.4, 1.5


def drop_specks(pieces: Pieces) -> Pieces:
    """Drops what is too small or too pale to be a part of a digit, and what is far too large."""
    if not pieces.areas.size:
        return pieces
    height = typical_height(pieces)
    sides = np.maximum(pieces.heights, pieces.widths)
    pieces = select(pieces, (sides >= _SPECK * height) & (pieces.heights <= _HIGHEST * height))
    order = np.argsort(pieces.peaks)
    weights = np.cumsum(pieces.areas[order])
    usual = pieces.peaks[order][np.searchsorted(weights, weights[-1] / 2)]
    return select(pieces, pieces.peaks >= _PALEST * usual)


def drop_cuttings(pieces: Pieces) -> Pieces:
    """Drops what lies along the picture's border: of a page's edge, a shadow, what is beside it.

    A digit that the border cuts meets it with its strokes' ends, a small part of its outline.
    """
    number = pieces.numbers
    padded = np.pad(number, 1)
    around, width = padded.ravel(), padded.shape[1]
    places = np.flatnonzero(around)
    own = around[places]
    is_outline = np.zeros(places.size, bool)
    for step in (-width, width, -1, 1):
        is_outline |= around[places + step] != own
    count = pieces.areas.size + 1
    outlines = np.bincount(own[is_outline], minlength=count)[1:]
    border = np.concatenate([number[0], number[-1], number[1:-1, 0], number[1:-1, -1]])
    along_border = np.bincount(border, minlength=count)[1:]
    kept = along_border <= _ALONG_BORDER * outlines
    return select(pieces, kept) if kept.any() else pieces


def drop_dashes(pieces: Pieces) -> Pieces:
    """Drops what is too low to be a digit, once all that belongs together is joined."""
    if not pieces.areas.size:
        return pieces
    return select(pieces, pieces.heights >= _LOWEST * typical_height(pieces))


def join(pieces: Pieces, strength: np.ndarray) -> Pieces:
    """Joins the pieces of a digit that was drawn in several strokes, or whose stroke broke.

    Args:
      pieces: of the page.
      strength: float32 [height, width].
    """
    if pieces.areas.size < 2:
        return pieces
    height = typical_height(pieces)
    reach = round(_NEAR * height) | 1
    near = _neighbours(pieces.numbers, reach, reach)
    below = _neighbours(pieces.numbers, round(_BELOW * height) | 1, 1)
    owner = np.arange(pieces.areas.size)
    boxes = pieces.boxes.copy()
    for first, second in sorted(near | below):
        first, second = _root(owner, first), _root(owner, second)
        if first == second or not _belong_together(boxes[first], boxes[second], height):
            continue
        owner[second] = first
        boxes[first, :2] = np.minimum(boxes[first, :2], boxes[second, :2])
        boxes[first, 2:] = np.maximum(boxes[first, 2:], boxes[second, 2:])
    roots = np.array([_root(owner, index) for index in range(owner.size)])
    new = np.cumsum(owner == np.arange(owner.size), dtype=np.int32)[roots]
    return measure(np.concatenate([np.zeros(1, np.int32), new])[pieces.numbers], strength)


def _neighbours(numbers: np.ndarray, height: int, width: int) -> set[tuple[int, int]]:
    """Returns the pairs of pieces that one window, of this size, can touch."""
    far = np.int32(numbers.max() + 1)
    step = max(1, min(height, max(width, 5)) // 5)  # Every stroke is several pixels wide there.
    height, width = height // step | 1, width // step | 1
    numbers = numbers[::step, ::step]
    highest = morphology.dilate(numbers, height, width)
    lowest = morphology.erode(np.where(numbers > 0, numbers, far), height, width)
    both = (highest > 0) & (highest != lowest)
    pairs = np.sort(lowest[both].astype(np.int64) * (int(far) + 1) + highest[both])
    pairs = pairs[np.diff(pairs, prepend=0) > 0]
    return {divmod(int(pair), int(far) + 1) for pair in pairs - (int(far) + 2)}


def _root(owner: np.ndarray, index: int) -> int:
    while owner[index] != index:
        index = int(owner[index])
    return int(index)


def _belong_together(first: np.ndarray, second: np.ndarray, writing: float) -> bool:
    """Tells whether two neighbouring boxes hold parts of one digit."""
    heights = sorted((first[2] - first[0], second[2] - second[0]))
    top, left = np.minimum(first[:2], second[:2])
    bottom, right = np.maximum(first[2:], second[2:])
    whole = max(heights[1], writing)
    if bottom - top > _JOINED_HEIGHT * whole or right - left > _JOINED_WIDTH * whole:
        return False
    overlap = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    smaller = min(np.prod(box[2:] - box[:2]) for box in (first, second))
    if overlap.min() > 0 and np.prod(overlap) >= _OVERLAP * smaller:
        return True
    shared = min(first[3], second[3]) - max(first[1], second[1])
    is_above = shared >= 0.5 * min(first[3] - first[1], second[3] - second[1])
    return bool(heights[0] < (_UPPER_PART if is_above else _PART) * whole)
