"""Draws what was read: the answers on the picture, and what the network saw of each digit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_definition.run_dir import write_atomically
from predict.reader import ReadDigit, Reading

# Told apart by any eye, and legible under white text.
_ACCEPTED, _REJECTED, _WHITE = (0, 90, 200), (190, 70, 0), (255, 255, 255)
_SMALLEST_SIDE = 400  # Pictures with a longer side below this are enlarged, for the text to fit.
_ENLARGEMENT = 10  # of what the network saw: each pixel becomes 10x10
_GAP = 4  # pixels between digits


def draw_reading(pixels: np.ndarray, reading: Reading) -> Image.Image:
    """Draws a box around each region, with its answer and how probable it is.

    Args:
      pixels: uint8 [height, width, 3], the picture.
      reading: what stands on it. Rejected regions get a dashed box of another colour.

    Returns:
      The picture with boxes; a small one is enlarged by a whole number.
    """
    picture = Image.fromarray(pixels)
    scale = -(-_SMALLEST_SIDE // max(picture.size))
    if scale > 1:
        size = (picture.width * scale, picture.height * scale)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    heights = sorted(digit.box[3] * scale for digit in reading.digits)
    # A third of a digit, within what can be read and what leaves the picture to be seen.
    text_size = min(max(heights[len(heights) // 2] // 3, 12), max(12, picture.height // 12))
    font = ImageFont.load_default(text_size)
    width = max(1, text_size // 8)
    for digit in reading.digits:
        x, y, box_width, box_height = (side * scale for side in digit.box)
        box = (x - width, y - width, x + box_width + width, y + box_height + width)
        _draw_box(draw, box, width, digit.is_digit)
        _draw_label(draw, box, font, digit)
    return picture


def _draw_box(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], width: int, is_digit: bool
) -> None:
    """Draws a frame around a box, on a white one, so that it shows on any background."""
    left, top, right, bottom = box
    frame = (left - width, top - width, right + width, bottom + width)
    draw.rectangle(frame, outline=_WHITE, width=2 * width)
    if is_digit:
        draw.rectangle(box, outline=_ACCEPTED, width=width)
        return
    dash = 4 * width
    for start in range(left, right, 2 * dash):
        end = min(start + dash, right)
        for y in (top, bottom - width + 1):
            draw.rectangle((start, y, end, y + width - 1), fill=_REJECTED)
    for start in range(top, bottom, 2 * dash):
        end = min(start + dash, bottom)
        for x in (left, right - width + 1):
            draw.rectangle((x, start, x + width - 1, end), fill=_REJECTED)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    digit: ReadDigit,
) -> None:
    """Writes the answer above the box, or below it where the picture ends above."""
    text = f"{digit.class_name} {digit.probability:.0%}" if digit.is_digit else "not a digit"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    margin = max(2, round((bottom - top) / 5))
    width, height = round(right - left) + 2 * margin, round(bottom - top) + 2 * margin
    picture_width, picture_height = draw.im.size
    x = max(0, min(box[0], picture_width - width))
    y = box[1] - height if box[1] >= height else min(box[3], picture_height - height)
    colour = _ACCEPTED if digit.is_digit else _REJECTED
    draw.rectangle((x, y, x + width, y + height), fill=colour, outline=_WHITE)
    draw.text((x + margin - left, y + margin - top), text, fill=_WHITE, font=font)


def draw_inputs(digits: Sequence[ReadDigit]) -> Image.Image:
    """Draws what the network saw, enlarged: the lines of a page as rows.

    Args:
      digits: in reading order, at least one.

    Returns:
      Their images side by side on grey; a single one without anything around it.
    """
    lines: dict[int, list[np.ndarray]] = {}
    for digit in digits:
        lines.setdefault(digit.line, []).append(digit.image)
    height, width, channels = digits[0].image.shape
    rows, columns = len(lines), max(map(len, lines.values()))
    step_y, step_x = height * _ENLARGEMENT + _GAP, width * _ENLARGEMENT + _GAP
    sheet = np.full((rows * step_y - _GAP, columns * step_x - _GAP, channels), 128, np.uint8)
    for row, images in enumerate(lines.values()):
        for column, image in enumerate(images):
            large = image.repeat(_ENLARGEMENT, axis=0).repeat(_ENLARGEMENT, axis=1)
            y, x = row * step_y, column * step_x
            sheet[y : y + large.shape[0], x : x + large.shape[1]] = large
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes a picture as a PNG file, whole or not at all.

    Args:
      path: the file.
      picture: what to write.
    """
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=1)  # A photo takes seconds at the default.
    write_atomically(path, png.getvalue())
