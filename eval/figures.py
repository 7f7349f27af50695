"""Pictures of an evaluation, drawn by matplotlib's Agg canvas without its global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_DPI = 100
_FONT = "DejaVu Sans"  # It comes with matplotlib.
_INK = "#222222"
_BLUE = np.array([0x1F, 0x5A, 0xA6]) / 255
_RED = np.array([0xC8, 0x2A, 0x1E]) / 255
_BORDER = 16  # pixels around what is drawn
_LONGEST_NAME = 16  # letters; the rest of a class's name is left out
_TILE = 112  # pixels of the longer side of an image in a grid


def draw_confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Draws how often the images of each class were taken for each class.

    A cell is the darker, the larger its share of its row. The diagonal is blue; mistakes are red,
    on a scale of their own that ends at the largest, as beside the diagonal they would vanish.
    Zeros are blank.

    Args:
      counts: int64 [num_classes, num_classes]; row = label, column = prediction.
      class_names: the name of each class; in place of one that the font cannot write stands the
        class's number.

    Returns:
      uint8 [height, width, 3]; about 700 pixels high for 10 classes, 1,500 for 50 and more.
    """
    num_classes = len(class_names)
    cell = int(np.clip(1_300 / num_classes, 2, 52))  # pixels
    side, margin = cell * num_classes, 260
    axes = _make_axes(side + 2 * margin, side + 2 * margin)
    colours = _colour_cells(counts)
    extent = (margin, margin + side, margin + side, margin)
    axes.imshow(colours, extent=extent, interpolation="nearest")
    step = cell if cell >= 10 else side  # On less, a grid would hide the cells: draw a frame.
    grid = np.arange(margin, margin + side + 1, step)
    axes.hlines(grid, margin, margin + side, color="#d8d8d8", linewidth=0.5)
    axes.vlines(grid, margin, margin + side, color="#d8d8d8", linewidth=0.5)
    centres = margin + cell * (np.arange(num_classes) + 0.5)
    if cell >= 20:
        for row, column in np.argwhere(counts):
            count = f"{counts[row, column]}"
            size = min(16.0, 0.42 * cell, 1.4 * cell / len(count))
            colour = "white" if colours[row, column].mean() < 0.6 else _INK
            _write(axes, centres[column], centres[row], count, size, color=colour)

    bottom = margin + side + 8
    names_width = names_height = 0.0
    if cell >= 8:  # On less, names would overlap.
        names = [_writable(name, number) for number, name in enumerate(class_names)]
        size = min(14.0, 0.75 * cell)
        rotation = 90 if max(map(len, names)) * 0.65 * size > cell else 0
        for name, centre in zip(names, centres, strict=True):
            left = _write(axes, margin - 8, centre, name, size, ha="right")
            below = _write(axes, centre, bottom, name, size, va="top", rotation=rotation)
            names_width = max(names_width, left.get_window_extent().width)
            names_height = max(names_height, below.get_window_extent().height)
    middle = margin + side / 2
    _write(axes, middle, bottom + names_height + 10, "prediction", 15, va="top")
    _write(axes, margin - names_width - 18, middle, "label", 15, ha="right", rotation=90)
    right, total = int(np.trace(counts)), int(counts.sum())
    share = f" ({right / total:.2%})".replace("%", " %") if total else ""
    _write(axes, middle, margin - 16, f"{right:,} of {total:,} right{share}", 17, va="bottom")
    return _crop(axes)


def draw_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    """Draws images in a grid, each under a title such as `7 read as 1 (99 %)`.

    Args:
      images: uint8 [n, height, width, channels] of 1 or 3 channels, in the order to draw them in:
        left to right, eight a row. n may be 0: then the picture says that there is no mistake.
      labels: int64 [n], what each image is.
      predictions: int64 [n], what it was taken for.
      probabilities: float [n], the probability that the prediction was given, 0 to 1.
      class_names: the name of each class, as in `draw_confusion_matrix`.

    Returns:
      uint8 [height, width, 3].
    """
    if len(images) == 0:
        axes = _make_axes(400, 200)
        _write(axes, 200, 100, "no mistakes", 17)
        return _crop(axes)
    names = [_writable(name, number) for number, name in enumerate(class_names)]
    titles = [
        f"{names[label]} read as {names[prediction]} ({probability:.0%})".replace("%", " %")
        for label, prediction, probability in zip(labels, predictions, probabilities, strict=True)
    ]
    # Long names make two lines, of which the second begins with "read as".
    if max(map(len, titles)) > 20:
        titles = [title.replace(" read as ", "\nread as ", 1) for title in titles]
    lines = [title.split("\n") for title in titles]
    longest = max(len(line) for title in lines for line in title)
    title_height = 14 * max(map(len, lines)) + 6
    columns = min(8, len(images))
    height, width = (round(_TILE * side / max(images.shape[1:3])) for side in images.shape[1:3])
    pitch_x = max(width, 7 * longest) + 18
    pitch_y = height + title_height + 20
    rows = -(-len(images) // columns)
    axes = _make_axes(columns * pitch_x + 2 * _BORDER, rows * pitch_y + 2 * _BORDER)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        centre = _BORDER + pitch_x * (number % columns + 0.5)
        top = _BORDER + pitch_y * (number // columns) + title_height
        extent = (centre - width / 2, centre + width / 2, top + height, top)
        rgb = np.broadcast_to(image, (*image.shape[:2], 3))
        axes.imshow(rgb, extent=extent)
        _write(axes, centre, top - 6, title, 11, va="bottom")
    return _crop(axes)


def _colour_cells(counts: np.ndarray) -> np.ndarray:
    """Returns float [num_classes, num_classes, 3], colours from 0 to 1."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    is_right = np.eye(len(counts), dtype=bool)
    largest_mistake = np.max(shares, where=~is_right, initial=0.0)
    # A square root tells few from none; the factors keep the numbers on the colours legible.
    depths = np.where(is_right, 0.9 * shares, 0.75 * np.sqrt(shares / max(largest_mistake, 1e-9)))
    hues = np.where(is_right[..., None], _BLUE, _RED)
    return 1 - np.clip(depths, 0, 1)[..., None] * (1 - hues)


def _make_axes(width: int, height: int) -> Axes:
    """Returns axes that fill a white picture: a unit is a pixel, and y grows downwards."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return axes


def _write(axes: Axes, x: float, y: float, text: str, size: float, **options: Any) -> Text:
    """Writes text of a size in pixels at a place, by default centred there."""
    options = {"ha": "center", "va": "center", "color": _INK, **options}
    points = size * 72 / _DPI
    # A $ in a class's name is a letter, not the beginning of a formula.
    return axes.text(x, y, text, fontsize=points, family=_FONT, parse_math=False, **options)


def _writable(name: str, number: int) -> str:
    """Returns a class's name, cut to a length, or its number where the font lacks a letter."""
    font = font_manager.get_font(font_manager.findfont(_FONT))
    if not name.strip() or not all(font.get_char_index(ord(letter)) for letter in name):
        return str(number)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _crop(axes: Axes) -> np.ndarray:
    """Draws and returns the picture, with a border of white around what is on it."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    is_drawn = np.any(picture != 255, axis=-1)
    spans = []
    for axis in (1, 0):
        places = np.flatnonzero(is_drawn.any(axis=axis))
        spans.append(slice(places[0], places[-1] + 1))
    border = ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0))
    return np.pad(picture[tuple(spans)], border, constant_values=255)
