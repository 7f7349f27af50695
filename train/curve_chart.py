"""The chart of a learning curve, drawn by matplotlib's Agg canvas without its global state."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from train.curve import Summary

_BLUE, _INK, _GRID = "#1f5aa6", "#222222", "#d8d8d8"


def draw_chart(summaries: Sequence[Summary], *, title: str, measured_on: str) -> bytes:
    """Draws the error rate against the number of training images.

    Both axes are logarithmic, since on those a curve that follows a power law is a straight line;
    the error rate's is linear where a run makes no error. The line joins the means; the band spans
    the lowest and the highest run, and the bars one standard deviation.

    Args:
      summaries: the fewest images first, at least one.
      title: stands above.
      measured_on: what the error rate was measured on.

    Returns:
      The PNG file.
    """
    figure = Figure(figsize=(9, 5), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    images = [entry.images for entry in summaries]
    errors = [100 * (1 - entry.mean) for entry in summaries]
    lowest = [100 * (1 - entry.highest) for entry in summaries]
    highest = [100 * (1 - entry.lowest) for entry in summaries]
    axes.fill_between(images, lowest, highest, color=_BLUE, alpha=0.18, linewidth=0)
    axes.errorbar(
        images,
        errors,
        yerr=[100 * (entry.deviation or 0.0) for entry in summaries],
        color=_BLUE,
        marker="o",
        markersize=5,
        capsize=3,
    )
    axes.set_xscale("log")
    if min(lowest) > 0:
        axes.set_yscale("log")
        axes.set_ylim(min(lowest) / 1.6, min(100.0, 1.6 * max(highest)))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xticks(images, [f"{n:,}" for n in images], fontsize=9)
    axes.xaxis.set_minor_formatter(NullFormatter())
    for n, error, top in zip(images, errors, highest, strict=True):
        axes.annotate(
            f"{error:.2f} %",
            (n, top),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            color=_INK,
            fontsize=9,
        )
    axes.set_xlabel("training images")
    axes.set_ylabel(f"error rate on {measured_on}")
    axes.set_title(title, color=_INK, fontsize=11)
    axes.grid(color=_GRID, linewidth=0.6)
    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    return png.getvalue()
