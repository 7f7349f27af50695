"""Small pages of printed digits, with the ink and the paper as a test wants them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from predict.digits import Digit, find_digits

SHAPE = (28, 28, 1)


def write(lines: list[str], *, size: int = 60, pitch: int = 90, gap: int = 24) -> np.ndarray:
    """How much ink covers each pixel, 0 to 1: float [height, width]."""
    font = ImageFont.load_default(size)
    width = max(len(line) for line in lines) * (size // 2 + gap) + 2 * size
    page = Image.new("L", (width, len(lines) * pitch + size), 0)
    draw = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        for column, text in enumerate(line):
            place = (size + column * (size // 2 + gap), size // 2 + row * pitch)
            draw.text(place, text, fill=255, font=font)
    return np.asarray(page) / 255


def print_page(cover: np.ndarray, paper: np.ndarray | float = 230.0, ink: float = 40) -> np.ndarray:
    """Lays ink on paper: uint8 [height, width, 3]; `paper` may differ from pixel to pixel."""
    grey = np.broadcast_to(paper, cover.shape) * (1 - cover) + ink * cover
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def find(pixels: np.ndarray) -> list[Digit]:
    return find_digits(pixels, SHAPE, "mnist")


def count_by_line(pixels: np.ndarray) -> list[int]:
    """How many digits are found on each line."""
    lines = [digit.line for digit in find(pixels)]
    assert lines == sorted(lines)
    return [lines.count(line) for line in range(max(lines) + 1)]


def assert_same_digits(found: np.ndarray, expected: np.ndarray) -> None:
    """Compares what is found on two pages: the same digits, looking nearly the same."""
    ours, theirs = find(found), find(expected)
    assert [digit.line for digit in ours] == [digit.line for digit in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(np.subtract(one.box, other.box)).max() <= 6
        shifted = [
            np.roll(one.image, (down, right), (0, 1)).astype(int)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        ]
        assert min(np.abs(image - other.image).mean() for image in shifted) < 20
