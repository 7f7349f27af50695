"""Takes the lines of ruled and squared paper away, and leaves the strokes that cross them.

A rule is thin, far longer than a digit is high, and nearly level or upright. It may be bent a
little, as paper is on a photo, so it is followed from column to column.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from predict.page import morphology
from predict.page.median import median

# A level run of at least this share of the picture's width, within these pixels, may be a rule's.
_RUN_SHARE, _SHORTEST_RUN, _LONGEST_RUN = 1 / 60, 9, 31
# A rule is at least this share of the picture's width, so many times as long as it is thick, and
# so many times as long as the writing is high.
# It goes on behind what is written on it: no further up or down than this, in pixels and as a share
# of the gap, and with so much of the gap covered by ink. So much of the whole is seen.
_STEP, _STEEPEST_GAP, _INK_IN_GAP, _DRAWN_SHARE = 2.5, 0.02, 0.8, 0.35
_STROKE_GOES_ON = 3  # pixels beyond the rule's thickness
_SEVERAL = 3  # rules make ruled paper
_WIDTH_SHARE, _THICKNESSES, _WRITING_HEIGHTS = 0.25, 25, 2.5


@dataclass(frozen=True, eq=False)
class _Line:
    """A level line.

    Attributes:
      columns: int [n], where it was seen, ascending.
      middles: float [n], its middle's row there.
      thickness: in pixels.
    """

    columns: np.ndarray
    middles: np.ndarray
    thickness: float

    @property
    def length(self) -> int:
        """From end to end, in pixels."""
        return int(self.columns[-1] - self.columns[0]) + 1


def remove_rules(mask: np.ndarray) -> np.ndarray:
    """Removes level rules, then upright ones.

    Args:
      mask: bool [height, width], what stands out from the paper.

    Returns:
      bool [height, width].
    """
    return _remove_level_rules(_remove_level_rules(mask).T).T


def _remove_level_rules(mask: np.ndarray) -> np.ndarray:
    width = mask.shape[1]
    length = int(np.clip(width * _RUN_SHARE, _SHORTEST_RUN, _LONGEST_RUN)) | 1
    runs = morphology.open_(mask, 1, length)
    long_lines = [line for line in _find_lines(mask, runs, length) if _is_long(line, width)]
    if not long_lines:
        return mask
    # Strokes are often thicker. Without them, no stroke connects two rules.
    thickness = float(median([line.thickness for line in long_lines]))
    thin = runs & ~morphology.open_(mask, 2 * round(thickness) + 3, 1)
    lines = _find_lines(mask, thin, length)
    long_lines = [line for line in lines if _is_long(line, width)] or long_lines
    height = _writing_height(mask, long_lines)
    rules = [line for line in long_lines if _is_rule(line, height, width, length)]
    if len(rules) >= _SEVERAL:  # Then what comes in from the border as they do is one of them.
        rules += [
            line for line in lines if line not in rules and _is_rest(line, rules, width, length)
        ]
    return _without(mask, rules) if rules else mask


def _is_long(line: _Line, width: int) -> bool:
    """Tells whether a line may be a rule by its length."""
    return bool(
        line.length >= max(_WIDTH_SHARE * width, _THICKNESSES * line.thickness)
        and len(line.columns) >= _DRAWN_SHARE * line.length
    )


def _is_rest(line: _Line, rules: list[_Line], width: int, slack: int) -> bool:
    """Tells whether a line is what can be seen of a rule between the border and the writing."""
    thickest = max(rule.thickness for rule in rules)
    touches = line.columns[0] < slack or line.columns[-1] >= width - slack
    return bool(touches and line.thickness <= thickest and line.length >= 10 * line.thickness)


def _is_rule(line: _Line, height: float, width: int, slack: int) -> bool:
    """Tells a rule from a long stroke: it is longer than strokes are, or crosses the picture."""
    crosses = line.columns[0] < slack and line.columns[-1] >= width - slack
    return bool(crosses or line.length >= _WRITING_HEIGHTS * height)


def _find_lines(mask: np.ndarray, runs: np.ndarray, length: int) -> list[_Line]:
    """Finds lines that go from left to right.

    Args:
      mask: bool [height, width].
      runs: bool [height, width], the part of the mask where rules are sought.
      length: of the shortest piece that counts.
    """
    numbers = morphology.label(morphology.close(runs, 3, length // 2 | 1))
    places = np.flatnonzero(runs)
    rows, columns = np.divmod(places, runs.shape[1])
    piece = numbers.ravel()[places]
    order = np.argsort(piece, kind="stable")
    bounds = np.searchsorted(piece[order], np.arange(1, piece.max(initial=0) + 2))
    traces = [
        _trace(rows[order[start:end]], columns[order[start:end]])
        for start, end in itertools.pairwise(bounds)
    ]
    return _chain([trace for trace in traces if len(trace.columns) >= length], mask)


def _trace(rows: np.ndarray, columns: np.ndarray) -> _Line:
    """Follows a piece from left to right, given the rows and columns of its pixels."""
    left = int(columns.min())
    counts = np.bincount(columns - left)
    filled = np.flatnonzero(counts)
    middles = np.bincount(columns - left, weights=rows)[filled] / counts[filled]
    # A stroke along the rule pulls the middle aside; most of the neighbourhood knows better.
    reach = min(filled.size // 8, 40)
    around = np.arange(filled.size)[:, None] + np.arange(-reach, reach + 1, max(1, reach // 8))
    middles = median(middles[np.clip(around, 0, filled.size - 1)])
    return _Line(left + filled, middles, float(median(counts[filled])))


def _chain(traces: list[_Line], mask: np.ndarray) -> list[_Line]:
    """Joins each trace to the one that ends before it with nothing but ink between them."""
    chains: list[_Line] = []
    ends, rows = np.empty(len(traces), int), np.empty(len(traces))  # where each chain ends
    for trace in sorted(traces, key=lambda trace: int(trace.columns[0])):
        gaps = trace.columns[0] - ends[: len(chains)]
        apart = np.abs(trace.middles[0] - rows[: len(chains)])
        near = np.flatnonzero((gaps > 0) & (apart <= _STEP + _STEEPEST_GAP * gaps))
        near = near[np.argsort(apart[near], kind="stable")]
        joined = (int(index) for index in near if _is_ink_between(chains[index], trace, mask))
        best = next(joined, len(chains))
        if best == len(chains):
            chains.append(trace)
        else:
            chain = chains[best]
            chains[best] = _Line(
                np.concatenate([chain.columns, trace.columns]),
                np.concatenate([chain.middles, trace.middles]),
                min(chain.thickness, trace.thickness),
            )
        ends[best], rows[best] = trace.columns[-1], trace.middles[-1]
    return chains


def _is_ink_between(chain: _Line, trace: _Line, mask: np.ndarray) -> bool:
    """Tells whether ink covers nearly all of the gap between a chain and a trace behind it."""
    columns = np.arange(chain.columns[-1], trace.columns[0] + 1)
    rows = np.rint(np.linspace(chain.middles[-1], trace.middles[0], columns.size)).astype(int)
    near = mask[np.maximum(rows - 1, 0), columns] | mask[rows, columns]
    near |= mask[np.minimum(rows + 1, len(mask) - 1), columns]
    return bool(near.mean() >= _INK_IN_GAP)


def _writing_height(mask: np.ndarray, rules: list[_Line]) -> float:
    """Returns the height that most of what is not a rule has, in pixels."""
    rest = mask & ~_cover(mask.shape, rules)
    pieces = morphology.label(rest)
    rows = np.flatnonzero(rest.any(axis=1))
    if not rows.size:
        return 0.0
    rows, columns = np.nonzero(rest)
    numbers = pieces[rows, columns]
    tops, bottoms = np.full(numbers.max() + 1, 1 << 30), np.zeros(numbers.max() + 1, int)
    np.minimum.at(tops, numbers, rows)
    np.maximum.at(bottoms, numbers, rows + 1)
    heights = np.sort((bottoms - tops)[1:])
    weights = np.cumsum(heights.astype(float) ** 2)
    return float(heights[np.searchsorted(weights, weights[-1] / 2)])


def _cover(shape: tuple[int, ...], rules: list[_Line]) -> np.ndarray:
    """Returns which pixels rules cover, bool of this shape."""
    height, width = shape
    covered = np.zeros(shape, bool)
    for rule in rules:
        # Where it crosses another rule it is not seen, also at the picture's border.
        columns = np.arange(rule.columns[0], rule.columns[-1] + 1)
        middle = np.interp(columns, rule.columns, rule.middles)
        slack = max(_SHORTEST_RUN, round(_RUN_SHARE * width))
        left = columns[0] if columns[0] < slack else 0
        right = width - 1 - columns[-1] if columns[-1] >= width - slack else 0
        columns = np.arange(columns[0] - left, columns[-1] + 1 + right)
        middle = np.pad(middle, (left, right), mode="edge")
        half = rule.thickness / 2 + 1
        for offset in range(-int(np.ceil(half)), int(np.ceil(half)) + 1):
            row = np.rint(middle).astype(int) + offset
            inside = (np.abs(row - middle) <= half) & (row >= 0) & (row < height)
            covered[row[inside], columns[inside]] = True
    return covered


def _without(mask: np.ndarray, rules: list[_Line]) -> np.ndarray:
    """Removes rules, save where a stroke goes on above or below them."""
    thickness = float(median([rule.thickness for rule in rules]))
    crossing = morphology.open_(mask, round(thickness) + _STROKE_GOES_ON | 1, 1)
    return mask & (~_cover(mask.shape, rules) | crossing)
