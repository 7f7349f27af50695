"""Line charts as SVG that stands in a page; the page's style gives the colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

NUM_COLOURS = 8  # of which the page's style has one each; further series are dashed
_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 10, 42
_MOST_POINTS = 60

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
      name: what it shows, in the tip that a pointer brings up.
      series: the number of its series, which decides its colour.
      points: (x, y), by rising x; y at least 0.
      is_faint: whether it stands back behind the others, without marks at its points.
    """

    name: str
    series: int
    points: Points
    is_faint: bool = False


def draw_lines(lines: Sequence[Line], *, title: str, x_title: str, y_unit: str = "") -> str:
    """Draws lines over a linear x from 0 and a logarithmic y.

    Args:
      lines: what to draw; those without points are left out.
      title: for those who do not see the picture.
      x_title: what x is.
      y_unit: stands behind the numbers of the y axis.

    Returns:
      An `svg` element; empty where there is nothing to draw.
    """
    drawn = [line for line in lines if line.points]
    positive = [y for line in drawn for _, y in line.points if y > 0]
    if not positive:
        return ""
    # A logarithm has no place for 0: it is drawn at the lower edge.
    low, high = min(positive) / 1.15, max(positive) * 1.15
    x_end = max(x for line in drawn for x, _ in line.points) or 1.0
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(max(y, low) / low) / math.log(high / low)
        return _LEFT + plot_width * x / x_end, _TOP + plot_height * (1 - share)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for y in _log_ticks(low, high):
        height = place(0, y)[1]
        parts.append(f'<path class="grid" d="M{_LEFT} {height:.1f}h{plot_width}"/>')
        text = f"{y:g}{html.escape(y_unit)}"
        parts.append(f'<text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{text}</text>')
    for x in _linear_ticks(x_end):
        left = place(x, high)[0]
        parts.append(f'<path class="grid" d="M{left:.1f} {_TOP}v{plot_height}"/>')
        anchor = "end" if left > _WIDTH - 30 else "middle"
        parts.append(
            f'<text x="{left:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">'
            f"{_write_large(x)}</text>"
        )
    parts.append(
        f'<text x="{_LEFT + plot_width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{html.escape(x_title)}</text>"
    )
    for line in sorted(drawn, key=lambda line: not line.is_faint):
        parts.append(_draw_line(line, [place(*point) for point in _thin_out(line.points)]))
    return "".join([*parts, "</svg>"])


def series_classes(series: int) -> str:
    """Returns the style classes of a series: its colour, and dashes where colours come again."""
    dashes = series // NUM_COLOURS % 3
    return f"s{series % NUM_COLOURS}" + f" d{dashes}" * (dashes > 0)


def _draw_line(line: Line, places: Points) -> str:
    faint = " faint" if line.is_faint else ""
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in places if not line.is_faint
    )
    return (
        f'<g class="line {series_classes(line.series)}{faint}"><title>{html.escape(line.name)}'
        f'</title><polyline points="{way}"/>{marks}</g>'
    )


def _thin_out(points: Points) -> Points:
    """Returns at most 60 points: the means of so many neighbours each."""
    size = math.ceil(len(points) / _MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]


def _log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two; 1, 2 and 5 of each power of ten, or 1 of many powers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _linear_ticks(end: float) -> list[float]:
    """Returns three to seven round numbers from 0 to `end`."""
    step = 10.0 ** math.floor(math.log10(end))
    step *= next(factor for factor in (0.2, 0.25, 0.5, 1, 2) if end / (step * factor) <= 6)
    return [number * step for number in range(int(end / step) + 1)]


def _write_large(number: float) -> str:
    for factor, letter in ((1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:g}{letter}"
    return f"{number:g}"
