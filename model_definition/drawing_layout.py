"""Where on a picture the groups of an architecture's layers stand.

Groups stand in rows. A residual stays in one row where it fits. Lengths are points, x is
counted from the picture's left, y from its top.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from model_definition.architecture import IMAGES, Architecture
from model_definition.drawing_groups import (
    SMALL,
    SUM_RADIUS,
    Group,
    Shortcut,
    find_shortcuts,
    make_groups,
    text_width,
)
from model_definition.layer_kinds import format_shape

MARGIN = 28.0
LEADING = 12.5  # from line to line of a label
BRANCH = 12.0  # that an arrow is longer for each shortcut that leaves it

_HEADING = 76.0  # of the picture, above the first row
_ROW_WIDTH = 900.0  # of a picture that fits on a page; of a longer one it grows with the height
_PAGE = 1.3  # height of a longer picture, in widths
_BETWEEN_ROWS = 28.0
_ARROW = 22.0  # the shortest
_LANE = 20.0  # from the arc of a residual to the arc of one around it


@dataclass(frozen=True)
class Place:
    """A group's place in its row, and the arrow before it.

    Attributes:
      group: the group.
      start: x where the arrow begins.
      clear: x from where on nothing of the group before is over the arrow.
      left: x where the arrow ends and the group begins.
      shape: the text over the arrow; empty where it would say nothing new.
    """

    group: Group
    start: float
    clear: float
    left: float
    shape: str

    @property
    def centre(self) -> float:
        """Where the middle of its block and of its label is."""
        return self.left + self.group.block_width / 2

    @property
    def end(self) -> float:
        """Where the next arrow begins."""
        return self.left + self.group.end

    @property
    def right(self) -> float:
        """Where the group ends."""
        return self.left + self.group.width

    @property
    def label_right(self) -> float:
        """Where its label ends."""
        return self.centre + self.group.label_width / 2


@dataclass(frozen=True)
class Row:
    """Groups from left to right.

    Attributes:
      places: the groups' places.
      top: y of the highest arc or block.
      ceiling: y of the highest block's top; arcs run above.
      middle: y of the arrows and of the middle of each block.
      floor: y of the highest block's bottom; labels stand below.
      bottom: y of the longest label's end.
    """

    places: tuple[Place, ...]
    top: float
    ceiling: float
    middle: float
    floor: float
    bottom: float


@dataclass(frozen=True)
class Arc:
    """A shortcut, or the part of it that is in one row.

    Attributes:
      row: the row.
      y: of its horizontal run.
      start: x where it leaves the row's arrow; None if it comes from the row above.
      end: x of the ⊕ that it leads to; None if it goes on in the row below.
      projection: the family of the layer on it; empty if there is none.
    """

    row: Row
    y: float
    start: float | None
    end: float | None
    projection: str


@dataclass(frozen=True)
class Layout:
    """A picture's size, its rows from top to bottom, and the arcs over them."""

    width: float
    height: float
    rows: tuple[Row, ...]
    arcs: tuple[Arc, ...]


def arrange(architecture: Architecture, *, min_width: float) -> Layout:
    """Gives every layer of an architecture its place.

    Args:
      architecture: the architecture.
      min_width: of the picture between its margins.

    Returns:
      The layout.
    """
    shortcuts = find_shortcuts(architecture)
    rows = _break_into_rows(make_groups(architecture, shortcuts), shortcuts)
    right = max(_right(row.places) for row in rows)
    return Layout(
        width=max(right, MARGIN + min_width) + MARGIN,
        height=rows[-1].bottom + MARGIN,
        rows=tuple(rows),
        arcs=tuple(arc for shortcut in shortcuts for arc in _make_arcs(shortcut, shortcuts, rows)),
    )


def _break_into_rows(groups: Sequence[Group], shortcuts: Sequence[Shortcut]) -> list[Row]:
    """Places groups in rows of about one length, on a page that is large enough for them."""
    limit = _ROW_WIDTH
    lines = _fill(groups, limit)
    while _stack(lines, shortcuts)[-1].bottom > _PAGE * limit:
        limit *= 1.05
        lines = _fill(groups, limit)
    widths = [_right(_place_all(chunk, None)) for chunk in _split(groups, limit)]
    for _ in range(20):  # Narrower, as long as that splits no chunk and takes no further row.
        limit *= 0.98
        narrower = _fill(groups, limit)
        if limit < max(widths) or len(narrower) > len(lines):
            break
        lines = narrower
    return _stack(lines, shortcuts)


def _fill(groups: Sequence[Group], limit: float) -> list[list[Place]]:
    """Places groups from left to right; a chunk that does not fit any more begins a new line."""
    lines: list[list[Place]] = [[]]
    for chunk in _split(groups, limit):
        places = _place_all(chunk, lines[-1][-1] if lines[-1] else None)
        if lines[-1] and _right(places) > limit:
            places = _place_all(chunk, None)
            lines.append([])
        lines[-1] += places
    return lines


def _split(groups: Sequence[Group], limit: float) -> list[Sequence[Group]]:
    """Returns chunks to keep in one line: whole residuals where they fit, else single groups."""
    if len(groups) == 1 or _right(_place_all(groups, None)) <= limit:
        return [groups]
    chunks: list[list[Group]] = []
    num_open = 0  # residuals around all these groups, which are to be split
    while len(chunks) < 2:
        chunks = []
        depth = -num_open
        for group in groups:
            if depth <= 0:
                chunks.append([])
            chunks[-1].append(group)
            depth += group.num_branches - group.is_sum
        num_open += 1
    return [part for chunk in chunks for part in _split(chunk, limit)]


def _place_all(groups: Iterable[Group], before: Place | None) -> list[Place]:
    """Gives groups their places to the right of another, or at the left margin."""
    places: list[Place] = []
    for group in groups:
        before = _place(group, before)
        places.append(before)
    return places


def _right(places: Iterable[Place]) -> float:
    return max(max(place.right, place.label_right) for place in places)


def _place(group: Group, before: Place | None) -> Place:
    """Gives a group its place to the right of another, or at the left margin."""
    is_images = group.layers[0].kind == IMAGES
    says_shape = not is_images and (group.is_new_shape or before is None)
    shape = format_shape(group.shape) if says_shape else ""
    arrow = 0.0 if is_images else max(_ARROW, text_width(shape, SMALL) + 12)
    clear = before.right if before else MARGIN
    # The label is centred under the block, and keeps away from the label before it.
    label_left = before.label_right + 10 if before else MARGIN
    left = max(
        clear + group.num_branches * BRANCH + arrow,
        label_left + (group.label_width - group.block_width) / 2,
    )
    start = before.end if before else left if is_images else MARGIN
    return Place(group, start, clear, left, shape)


def _stack(lines: Sequence[Sequence[Place]], shortcuts: Sequence[Shortcut]) -> list[Row]:
    """Returns lines as rows one below the other, with room for their arcs and labels."""
    levels = [0] * len(lines)
    numbers = _number_heads(lines)
    for shortcut in shortcuts:
        for number in range(numbers[shortcut.body], numbers[shortcut.layer.name] + 1):
            levels[number] = max(levels[number], shortcut.level)
    rows: list[Row] = []
    for line, level in zip(lines, levels, strict=True):
        groups = [place.group for place in line]
        heights = [solid.height for group in groups for solid in group.solids]
        num_lines = max(len(group.label) + bool(group.parameters) for group in groups)
        top = rows[-1].bottom + _BETWEEN_ROWS if rows else _HEADING
        ceiling = top + level * _LANE
        floor = ceiling + max(heights, default=4 * SUM_RADIUS)
        bottom = floor + 8 + num_lines * LEADING
        rows.append(Row(tuple(line), top, ceiling, (ceiling + floor) / 2, floor, bottom))
    return rows


def _number_heads(lines: Iterable[Iterable[Place]]) -> dict[str, int]:
    """Returns the number of the line of each group, by its first layer's name."""
    return {
        place.group.layers[0].name: number for number, line in enumerate(lines) for place in line
    }


def _make_arcs(
    shortcut: Shortcut, shortcuts: Iterable[Shortcut], rows: Sequence[Row]
) -> Iterator[Arc]:
    """Yields the parts of a shortcut, one for each row that it passes."""
    numbers = _number_heads(row.places for row in rows)
    first, last = numbers[shortcut.body], numbers[shortcut.layer.name]
    heads = {place.group.layers[0].name: place for row in rows for place in row.places}
    # Of the shortcuts that leave one arrow, the outermost leaves first.
    rank = sum(other.body == shortcut.body and other.level > shortcut.level for other in shortcuts)
    start = heads[shortcut.body].clear + (rank + 0.5) * BRANCH
    end = heads[shortcut.layer.name].centre
    projection = ""
    if shortcut.layer.num_parameters:
        projection = "convolution" if len(shortcut.layer.output_shape) == 3 else "dense"
    for number in range(first, last + 1):
        yield Arc(
            row=rows[number],
            y=rows[number].ceiling + 8 - shortcut.level * _LANE,
            start=start if number == first else None,
            end=end if number == last else None,
            projection=projection if number == first else "",
        )
