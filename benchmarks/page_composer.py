"""Composes pages of handwritten digits whose text and boxes are known, to measure reading with.

A digit is enlarged smoothly and laid on paper as ink is: it covers the paper's own pattern as far
as it is opaque. A disturbance is one thing that makes pages hard; `mixed` has several at a time.
Every page is a function of the digits, the seed, its number and its disturbance.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

EASY = (
    *("clean", "scale", "coloured ink", "light on dark", "soft shadow", "noise", "jpeg", "specks"),
)
HARD = (
    *("hard shadow", "ruled", "squared", "texture", "pencil", "pen width", "blur", "turned"),
    *("touching", "mixed"),
)


_MOST_TURNED = 5  # degrees


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      pixels: uint8 [height, width, 3], RGB.
      text: what stands on it, lines parted by line breaks.
      boxes: x, y, width and height of each digit's ink in reading order, where nothing turned it.
    """

    pixels: np.ndarray
    text: str
    boxes: tuple[tuple[int, int, int, int], ...]


@dataclass
class _Sheet:
    """A page in the making: paper and ink apart, so that each is disturbed as it would be."""

    generator: np.random.Generator
    paper: np.ndarray  # float [height, width, 3], 0 to 255
    cover: np.ndarray  # float [height, width], how much of the paper ink covers
    ink: np.ndarray  # float [3]
    height: float  # of the digits, in pixels
    finish: list[Callable[[np.ndarray], np.ndarray]] = field(default_factory=list)


def compose_page(
    images: np.ndarray, labels: np.ndarray, disturbance: str, seed: int, number: int
) -> Page:
    """Composes a page.

    Args:
      images: uint8 [n, 28, width], digits to choose from.
      labels: int [n].
      disturbance: one of `EASY` and `HARD`.
      seed: of the set of pages.
      number: of the page.
    """
    kinds = (*EASY, *HARD)
    generator = np.random.default_rng([seed, number, kinds.index(disturbance)])
    applied = _choose(disturbance, generator)
    digit_height = _choose_height(applied, generator)
    lines = [
        generator.integers(0, len(images), generator.integers(2, 9))
        for _ in range(generator.integers(1, 5))
    ]
    cover, boxes = _write(images, lines, digit_height, applied, generator)
    tone = generator.uniform(205, 250)
    paper = np.empty((*cover.shape, 3))
    paper[:] = tone + generator.uniform(-8, 4, 3)
    sheet = _Sheet(generator, paper, cover, np.full(3, generator.uniform(10, 60)), digit_height)
    for name in applied:
        _DISTURBANCES.get(name, _leave)(sheet)
    share = sheet.cover[:, :, None]
    pixels = sheet.paper * (1 - share) + sheet.ink * share
    for step in sheet.finish:
        pixels = step(pixels)
    text = "\n".join("".join(str(labels[index]) for index in line) for line in lines)
    return Page(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), text, tuple(boxes))


def slant(images: np.ndarray, degrees: float) -> np.ndarray:
    """Makes digits lean to the right by so many degrees more than they do.

    Args:
      images: uint8 [n, height, width].
      degrees: between -90 and 90; negative ones to the left.

    Returns:
      uint8 [n, height, wider], so that nothing is cut off.
    """
    slope, middle = np.tan(np.radians(degrees)), images.shape[1] / 2
    spare = int(np.ceil(abs(slope) * middle))
    wide = np.pad(images, ((0, 0), (0, 0), (spare, spare)))
    # Where each row's pixels come from: from the left below the middle, if that leans to the right.
    sources = (1, slope, -slope * middle, 0, 1, 0)
    leaning = [
        Image.fromarray(image).transform(
            wide.shape[:0:-1], Image.Transform.AFFINE, sources, Image.Resampling.BICUBIC
        )
        for image in wide
    ]
    return np.stack([np.asarray(image) for image in leaning])


def _choose(disturbance: str, generator: np.random.Generator) -> list[str]:
    if disturbance != "mixed":
        return [disturbance]
    paper = str(generator.choice(["ruled", "squared", "texture"]))
    light = str(generator.choice(["soft shadow", "hard shadow"]))
    pen = str(generator.choice(["pencil", "coloured ink", "pen width"]))
    camera = [str(name) for name in generator.choice(["turned", "noise", "specks"], 2, False)]
    return [pen, paper, light, *camera, "jpeg"]


def _choose_height(applied: list[str], generator: np.random.Generator) -> float:
    if "scale" in applied:
        return float(np.exp(generator.uniform(np.log(18), np.log(120))))
    return float(generator.uniform(36, 80))


def _write(
    images: np.ndarray,
    lines: list[np.ndarray],
    height: float,
    applied: list[str],
    generator: np.random.Generator,
) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Writes lines of digits; returns the cover, float [height, width], and the digits' boxes."""
    pitch = height * generator.uniform(1.5, 2.2)
    rows = []
    for line in lines:
        left = 0.0
        row: list[tuple[np.ndarray, float]] = []
        for position, index in enumerate(line):
            digit = _enlarge(
                images[index], height * generator.uniform(0.88, 1.12), applied, generator
            )
            if position:
                touches = "touching" in applied and generator.random() < 0.35
                left += 0 if touches else height * generator.uniform(0.16, 0.6)
                if touches:
                    left -= _gap(row[-1][0], digit)
            row.append((digit, left))
            left += digit.shape[1]
        rows.append(row)
    written = max(row[-1][1] + row[-1][0].shape[1] for row in rows)
    margin = height * generator.uniform(0.8, 2)
    if "turned" in applied:
        margin += np.tan(np.radians(_MOST_TURNED)) * max(written, pitch * len(rows))
    margin = round(margin)
    width = round(written) + 2 * margin
    cover = np.zeros((round(2 * margin + pitch * (len(rows) - 1) + 1.3 * height), width))
    boxes = []
    for number, row in enumerate(rows):
        for digit, left in row:
            middle = margin + 0.6 * height + number * pitch
            if "touching" not in applied:
                middle += generator.normal(0, 0.04) * height
            top = max(0, round(middle - digit.shape[0] / 2))
            x = margin + round(left)
            place = cover[top : top + digit.shape[0], x : x + digit.shape[1]]
            np.maximum(place, digit[: place.shape[0], : place.shape[1]], out=place)
            boxes.append((x, top, place.shape[1], place.shape[0]))
    return cover, boxes


def _enlarge(
    image: np.ndarray, height: float, applied: list[str], generator: np.random.Generator
) -> np.ndarray:
    """Enlarges a digit: MNIST's 20 pixels become `height`; returns its cover, cropped."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    tight = np.pad(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 2)
    fine = 4  # times the wanted size, so that the edge of the ink is smooth
    scale = height / 20 * fine
    size = (max(1, round(tight.shape[1] * scale)), max(1, round(tight.shape[0] * scale)))
    smooth = Image.fromarray(tight).resize(size, Image.Resampling.BICUBIC)
    smooth = smooth.filter(ImageFilter.GaussianBlur(0.35 * scale))
    level = generator.uniform(95, 125)
    if "pen width" in applied:
        level = generator.choice([generator.uniform(30, 60), generator.uniform(140, 165)])
    solid = Image.fromarray(np.where(np.asarray(smooth) > level, 255, 0).astype(np.uint8))
    small = solid.resize((max(1, size[0] // fine), max(1, size[1] // fine)), Image.Resampling.BOX)
    cover = np.asarray(small) / 255
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if not rows.size:  # A hair line that such a thin pen leaves nothing of.
        return _enlarge(image, height, [], generator)
    return cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _gap(left: np.ndarray, right: np.ndarray) -> float:
    """Returns how far apart two digits' inks are when their boxes touch, middles level."""
    height = max(left.shape[0], right.shape[0])

    def place(digit: np.ndarray) -> np.ndarray:
        top = (height - digit.shape[0]) // 2
        return np.pad(digit > 0.5, ((top, height - digit.shape[0] - top), (0, 0)))

    left_ink, right_ink = place(left), place(right)
    both = left_ink.any(axis=1) & right_ink.any(axis=1)
    if not both.any():
        return 0.0
    free = np.argmax(left_ink[both][:, ::-1], axis=1) + np.argmax(right_ink[both], axis=1)
    return float(free.min()) + 1


def _leave(sheet: _Sheet) -> None:
    """Clean pages, and what `_write` did already."""


def _colour_ink(sheet: _Sheet) -> None:
    inks = [(20, 40, 150), (170, 20, 30), (10, 110, 50), (110, 30, 130), (200, 90, 0)]
    sheet.ink = np.array(inks[sheet.generator.integers(len(inks))], float)
    sheet.ink += sheet.generator.uniform(-10, 30, 3)


def _turn_light_on_dark(sheet: _Sheet) -> None:
    sheet.paper[:] = sheet.generator.uniform(20, 60) + sheet.generator.uniform(-10, 30, 3)
    sheet.ink = sheet.generator.uniform(190, 250) + sheet.generator.uniform(-30, 5, 3)


def _edge(sheet: _Sheet, softness: float) -> np.ndarray:
    """A half plane's indicator, float [height, width], with an edge this soft, in pixels."""
    height, width = sheet.cover.shape
    angle = sheet.generator.uniform(0, 2 * np.pi)
    row, column = sheet.generator.uniform(0.25, 0.75, 2) * (height, width)
    down, across = np.mgrid[:height, :width]
    distance = (down - row) * np.sin(angle) + (across - column) * np.cos(angle)
    return 1 / (1 + np.exp(-np.clip(distance / softness, -50, 50)))


def _cast_soft_shadow(sheet: _Sheet) -> None:
    light = 1 - sheet.generator.uniform(0.3, 0.55) * _edge(sheet, max(sheet.cover.shape) / 12)
    sheet.finish.append(lambda pixels: pixels * light[:, :, None])


def _cast_hard_shadow(sheet: _Sheet) -> None:
    light = 1 - sheet.generator.uniform(0.35, 0.6) * _edge(sheet, sheet.generator.uniform(0.7, 4))
    sheet.finish.append(lambda pixels: pixels * light[:, :, None])


def _rule(sheet: _Sheet, *, squared: bool) -> None:
    """Prints lines; strokes cross them wherever they happen to be."""
    height, width = sheet.cover.shape
    distance = sheet.height * sheet.generator.uniform(*((0.45, 1.1) if squared else (1.1, 1.9)))
    thickness = max(1.0, sheet.height * sheet.generator.uniform(0.02, 0.045))
    colour = sheet.generator.choice([[130, 160, 215], [150, 150, 150], [190, 140, 150]])
    fine = 4
    lines = Image.new("L", (width * fine, height * fine), 0)
    draw = ImageDraw.Draw(lines)
    across = sheet.generator.uniform(0, distance)
    for axis, length in ((0, height), (1, width)) if squared else ((0, height),):
        for place in np.arange(across, length, distance):
            start, end = place * fine, (place + thickness) * fine - 1
            box = (0, start, width * fine, end) if axis == 0 else (start, 0, end, height * fine)
            draw.rectangle(box, fill=255)
    share = np.asarray(lines.resize((width, height), Image.Resampling.BOX))[:, :, None] / 255
    sheet.paper = sheet.paper * (1 - share) + np.array(colour) * share


def _smooth_noise(sheet: _Sheet, size: float) -> np.ndarray:
    """Noise with grains of a size in pixels: float [height, width], standard deviation 1."""
    height, width = sheet.cover.shape
    small = (max(2, round(height / size)), max(2, round(width / size)))
    coarse = Image.fromarray(sheet.generator.normal(0, 1, small).astype(np.float32))
    noise = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return noise / noise.std()


def _roughen(sheet: _Sheet) -> None:
    grain = np.sum([_smooth_noise(sheet, size) for size in (1.5, 4, 20)], axis=0)
    sheet.paper += sheet.generator.uniform(3, 6) * grain[:, :, None]


def _write_in_pencil(sheet: _Sheet) -> None:
    sheet.ink = np.full(3, sheet.generator.uniform(90, 130))
    grain = np.clip(0.8 + 0.25 * _smooth_noise(sheet, 2), 0.25, 1)
    sheet.cover = sheet.cover * grain
    sheet.paper += 2 * _smooth_noise(sheet, 1.5)[:, :, None]


def _add_noise(sheet: _Sheet) -> None:
    deviation = sheet.generator.uniform(6, 14)
    sheet.finish.append(lambda pixels: pixels + sheet.generator.normal(0, deviation, pixels.shape))


def _compress(sheet: _Sheet) -> None:
    quality = int(sheet.generator.integers(20, 60))

    def compress(pixels: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
            file, "JPEG", quality=quality
        )
        return np.asarray(Image.open(file)).astype(float)

    sheet.finish.append(compress)


def _blur(sheet: _Sheet) -> None:
    radius = sheet.height * sheet.generator.uniform(0.03, 0.06)

    def blur(pixels: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))).astype(float)

    sheet.finish.append(blur)


def _turn(sheet: _Sheet) -> None:
    """Turns the page, and cuts off what would show that there is nothing beyond it."""
    angle = sheet.generator.choice([-1, 1]) * sheet.generator.uniform(1, _MOST_TURNED)

    def turn(pixels: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        turned = np.asarray(picture.rotate(angle, Image.Resampling.BICUBIC)).astype(float)
        height, width = turned.shape[:2]
        share = np.tan(np.radians(abs(angle))) / 2
        down, across = int(np.ceil(share * width)) + 2, int(np.ceil(share * height)) + 2
        return turned[down : height - down, across : width - across]

    sheet.finish.append(turn)


def _add_specks(sheet: _Sheet) -> None:
    height, width = sheet.cover.shape
    specks = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(specks)
    for _ in range(sheet.generator.integers(10, 40)):
        x, y = sheet.generator.uniform(0, 1, 2) * (width, height)
        radius = sheet.height * sheet.generator.uniform(0.008, 0.04)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    share = np.asarray(specks)[:, :, None] / 255 * 0.8
    sheet.paper = sheet.paper * (1 - share) + 50 * share


_DISTURBANCES: dict[str, Callable[[_Sheet], None]] = {
    "coloured ink": _colour_ink,
    "light on dark": _turn_light_on_dark,
    "soft shadow": _cast_soft_shadow,
    "hard shadow": _cast_hard_shadow,
    "noise": _add_noise,
    "jpeg": _compress,
    "specks": _add_specks,
    "ruled": lambda sheet: _rule(sheet, squared=False),
    "squared": lambda sheet: _rule(sheet, squared=True),
    "texture": _roughen,
    "pencil": _write_in_pencil,
    "blur": _blur,
    "turned": _turn,
}
