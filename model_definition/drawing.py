"""Draws an architecture as a picture for a report, in SVG or PNG.

Layers stand in rows and are read as text is. A block is as high and as deep as the image that its
layer puts out, on a logarithmic scale, and the wider, the more channels that has; a flat output is
a bar. What leaves the shape as it is (batch normalisation, activation, dropout) is a slice on the
block before it. Over the arrows stand the shapes, under the blocks the parameters, a slice's after
its block's. The shortcut of a residual is an arc from where its body begins to the ⊕ that adds it.

`drawing_groups.py` says what is drawn for a layer, `drawing_layout.py` where; here it is drawn.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from model_definition.architecture import Architecture
from model_definition.drawing_groups import (
    FONT,
    LABEL,
    SMALL,
    SUM_RADIUS,
    Solid,
    family,
    text_width,
)
from model_definition.drawing_layout import BRANCH, LEADING, MARGIN, Arc, Place, Row, arrange

_PNG_DPI = 144  # two pixels a point
_TITLE = 14.0  # size of its letters
_LONGEST_NAME = 60  # letters of an architecture's name; the rest is left out
_INK, _PALE, _ARROW, _SHORTCUT = "#222222", "#666666", "#7d8790", "#3d6fa8"
_COLOURS = {
    "images": "#e6e6e6",
    "convolution": "#9fc5e8",
    "pooling": "#f6b98c",
    "normalisation": "#cfc3e8",
    "activation": "#fde49a",
    "dropout": "#d9dde1",
    "flatten": "#d9dde1",
    "dense": "#a9d7b5",
    "output": "#f0a3a3",
}
_LEGEND = ("convolution", "pooling", "normalisation", "activation", "dropout", "dense", "output")
_PROJECTIONS = {"convolution": "1x1 conv", "dense": "dense"}

# What is drawn over what; matplotlib's own order within each.
_SOLIDS, _LINES, _MARKS, _TEXT = 1, 2, 3, 4

Point = tuple[float, float]


def draw_network(architecture: Architecture) -> Figure:
    """Draws a network.

    Args:
      architecture: what to draw, of any length.

    Returns:
      The figure, for `encode`. Its rows are at most 900 points long; a network for which that would
      make more than a page gets a larger picture of a page's proportions.
    """
    title = _format_title(architecture)
    with _fixed_style():
        layout = arrange(architecture, min_width=text_width(title, _TITLE, bold=True))
        figure, axes = _make_figure(layout.width, layout.height)
        _write(axes, (MARGIN, MARGIN), title, _TITLE, ha="left", weight="bold")
        _draw_legend(axes, architecture)
        for row in layout.rows:
            for place in row.places:
                _draw_place(axes, place, row)
        for above, below in pairwise(layout.rows):
            _draw_row_break(axes, above, below, layout.width)
        for arc in layout.arcs:
            _draw_arc(axes, arc, layout.width)
    return figure


def encode(figure: Figure, file_format: str) -> bytes:
    """Returns a figure as the bytes of a file, the same for the same network.

    Args:
      figure: what `draw_network` drew.
      file_format: `svg`, whose text stays text, or `png`.
    """
    # What matplotlib would say of itself and of the time.
    unsaid = {"svg": ("Creator", "Date", "Format", "Type"), "png": ("Software",)}[file_format]
    file = io.BytesIO()
    with _fixed_style():
        figure.savefig(file, format=file_format, dpi=_PNG_DPI, metadata=dict.fromkeys(unsaid))
    return file.getvalue()


def _format_title(architecture: Architecture) -> str:
    """Returns `lenet: 3,274,634 parameters, 13.9 M multiply-adds`."""
    name = Path(architecture.filename).stem
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    count = architecture.multiply_adds
    multiply_adds = f"{count:,}" if count < 1e6 else f"{count / 1e6:,.1f} M"
    return f"{name}: {architecture.num_parameters:,} parameters, {multiply_adds} multiply-adds"


@contextmanager
def _fixed_style() -> Iterator[None]:
    """Draws as matplotlib does by itself, whatever settings of their own its users have."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter of a file's name; who shows an SVG may have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "sans-serif",
                "font.sans-serif": [FONT],
                "svg.fonttype": "none",
                "svg.hashsalt": "network",
                "text.hinting": "none",  # Letters as wide as `text_width` says.
            }
        )
        yield


def _make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns a white picture and axes that fill it: a unit is a point, and y grows downwards."""
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return figure, axes


def _draw_legend(axes: Axes, architecture: Architecture) -> None:
    """Draws the families that the network has, side by side under the title."""
    present = {family(layer.kind) for layer in architecture.layers}
    present |= {
        family(layer.options["activation"])
        for layer in architecture.layers
        if layer.options.get("activation", "none") != "none"
    }
    x, y = MARGIN, MARGIN + 24
    for name in _LEGEND:
        if name in present:
            _draw_box(axes, (x, y - 5), 10, 10, name)
            _write(axes, (x + 15, y), name, SMALL, ha="left", color=_PALE)
            x += 31 + text_width(name, SMALL)


def _draw_place(axes: Axes, place: Place, row: Row) -> None:
    """Draws a group at its place, the arrow that leads to it, and its label."""
    group = place.group
    if place.start < place.left:
        _draw_line(axes, [(place.start, row.middle), (place.left, row.middle)])
    shape_centre = (place.clear + group.num_branches * BRANCH + place.left) / 2
    _write(axes, (shape_centre, row.middle - 8), place.shape, SMALL, color=_PALE)
    if group.is_sum:
        _draw_sum(axes, (place.centre, row.middle))
        if group.solids:
            left = place.left + group.solids[0].left
            _draw_line(axes, [(place.centre + SUM_RADIUS, row.middle), (left, row.middle)])
    for solid in group.solids:
        _draw_solid(axes, solid, place.left, row.middle)
    y = row.floor + 8
    for number, line in enumerate(group.label):
        size, weight = (LABEL, "bold") if number == 0 else (SMALL, "normal")
        _write(axes, (place.centre, y), line, size, weight=weight, va="top")
        y += LEADING
    _write(axes, (place.centre, y), group.parameters, SMALL, color=_PALE, va="top")


def _draw_solid(axes: Axes, solid: Solid, group_left: float, middle: float) -> None:
    dx, dy = solid.depth
    left, right = group_left + solid.left, group_left + solid.left + solid.width
    top, bottom = middle - solid.height / 2 + dy, middle + solid.height / 2
    colour, side = _COLOURS[solid.family], _COLOURS[solid.side]
    if dx > 0:
        above = [(left, top), (left + dx, top - dy), (right + dx, top - dy), (right, top)]
        beside = [(right, top), (right + dx, top - dy), (right + dx, bottom - dy), (right, bottom)]
        _draw_polygon(axes, above, _mix(colour, "white", 0.45), edge=colour)
        _draw_polygon(axes, beside, _mix(side, "black", 0.12), edge=side)
    _draw_box(axes, (left, top), right - left, bottom - top, solid.family)
    if solid.text:
        room = (bottom - top) * 0.92
        size = SMALL * min(1.0, room / text_width(solid.text, SMALL))
        centre = ((left + right) / 2, (top + bottom) / 2)
        _write(axes, centre, solid.text, size, rotation=90)


def _draw_sum(axes: Axes, centre: Point) -> None:
    """Draws a ⊕."""
    (x, y), arm = centre, 0.55 * SUM_RADIUS
    circle = Circle(centre, SUM_RADIUS, facecolor="white", edgecolor=_INK, zorder=_MARKS)
    plus = Curve(
        [(x - arm, y), (x + arm, y), (x, y - arm), (x, y + arm)],
        [Curve.MOVETO, Curve.LINETO, Curve.MOVETO, Curve.LINETO],
    )
    _add(axes, circle)
    _add(axes, PathPatch(plus, edgecolor=_INK, zorder=_MARKS))


def _draw_arc(axes: Axes, arc: Arc, width: float) -> None:
    """Draws a shortcut, or its part in a row, from margin to margin where it has no end there."""
    points = [(MARGIN, arc.y)]
    if arc.start is not None:
        points = [(arc.start, arc.row.middle), (arc.start, arc.y)]
    if arc.end is not None:
        points += [(arc.end, arc.y), (arc.end, arc.row.middle - SUM_RADIUS)]
    else:
        points += [(width - MARGIN, arc.y)]
    _draw_line(axes, points, colour=_SHORTCUT, has_head=arc.end is not None)
    if arc.projection:
        text = _PROJECTIONS[arc.projection]
        centre, box = (points[0][0] + points[-1][0]) / 2, text_width(text, SMALL) + 10
        _draw_box(axes, (centre - box / 2, arc.y - 7), box, 14, arc.projection, zorder=_MARKS)
        _write(axes, (centre, arc.y), text, SMALL)


def _draw_row_break(axes: Axes, above: Row, below: Row, width: float) -> None:
    """Draws the line from the end of a row to where the arrow into the next one begins."""
    left, right = MARGIN / 2, width - MARGIN / 2
    between = (above.bottom + below.top) / 2
    start = (above.places[-1].end, above.middle)
    corners = [(right, above.middle), (right, between), (left, between), (left, below.middle)]
    end = (below.places[0].start, below.middle)
    _draw_line(axes, [start, *corners, end], has_head=False)


def _draw_line(
    axes: Axes, points: Sequence[Point], *, colour: str = _ARROW, has_head: bool = True
) -> None:
    """Draws a line through points, round at its corners, with an arrow's head at its end."""
    if has_head:
        tip, back = points[-1], _toward(points[-1], points[-2], 6)
        aside = ((tip[1] - back[1]) * 0.44, (back[0] - tip[0]) * 0.44)
        sides = [(back[0] + sign * aside[0], back[1] + sign * aside[1]) for sign in (1, -1)]
        _add(axes, Polygon([tip, *sides], facecolor=colour, linewidth=0, zorder=_LINES))
        points = [*points[:-1], back]
    places, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        places += [_toward(corner, before, 9), corner, _toward(corner, after, 9)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    curve = Curve([*places, points[-1]], [*codes, Curve.LINETO])
    _add(axes, PathPatch(curve, fill=False, edgecolor=colour, linewidth=1.1, zorder=_LINES))


def _toward(start: Point, goal: Point, length: float) -> Point:
    """Returns the point that lies so far from `start`, at most half the way to `goal`."""
    share = min(0.5, length / max(math.dist(start, goal), 1e-9))
    return start[0] + share * (goal[0] - start[0]), start[1] + share * (goal[1] - start[1])


def _draw_box(
    axes: Axes, corner: Point, width: float, height: float, name: str, zorder: int = _SOLIDS
) -> None:
    """Draws a rectangle in a family's colour, given its upper left corner."""
    (x, y), colour = corner, _COLOURS[name]
    corners = [corner, (x + width, y), (x + width, y + height), (x, y + height)]
    _draw_polygon(axes, corners, to_rgb(colour), edge=colour, zorder=zorder)


def _draw_polygon(
    axes: Axes,
    corners: Sequence[Point],
    colour: tuple[float, float, float],
    *,
    edge: str,
    zorder: int = _SOLIDS,
) -> None:
    polygon = Polygon(corners, facecolor=colour, edgecolor=_mix(edge, "black", 0.45), zorder=zorder)
    polygon.set(linewidth=0.6, joinstyle="round")
    _add(axes, polygon)


def _add(axes: Axes, patch: Patch) -> None:
    """Adds what lies within the axes; as matplotlib need not check that, it takes less time."""
    patch.set_clip_on(False)
    axes.add_artist(patch)


def _mix(colour: str, other: str, share: float) -> tuple[float, float, float]:
    """Returns a colour with a share of another one."""
    (r, g, b), (r2, g2, b2) = to_rgb(colour), to_rgb(other)
    return r + share * (r2 - r), g + share * (g2 - g), b + share * (b2 - b)


def _write(axes: Axes, place: Point, text: str, size: float, **options: Any) -> None:
    """Writes text at a place, by default centred there."""
    options = {"ha": "center", "va": "center", "color": _INK, "zorder": _TEXT, **options}
    # A $ in a file's name is a letter, not the beginning of a formula.
    axes.text(*place, text, fontsize=size, parse_math=False, **options)
