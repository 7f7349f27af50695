"""Draws what is none of a dataset's classes: scribbles, letters, shapes, textures, broken images.

A network answers with one of its classes whatever it sees. From these drawings a run learns which
answers not to give. They come in the form of the training images: as MNIST has it, the ink fitted
into the middle and centred by mass, or filling the frame in two random tones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

SIDE = 56  # pixels of the paper that is drawn on, twice MNIST's
_INK_SHARE = 20 / 28  # of the frame's side, as in MNIST
# Letters but those that are digits by shape: O, D and Q look like 0, I and l like 1, and so on.
LETTERS = "ACEFGHJKLMNPRTUVWXYacdefhjkmnprtuvwxy"

Random = np.random.Generator
# Draws on paper: greyscale, white ink on black. May use training images, uint8 [m, h, w, c].
Kind = Callable[[Random, np.ndarray], Image.Image]


def draw_non_digits(
    num_images: int,
    *,
    images: np.ndarray,
    class_names: Sequence[str],
    image_preparation: str,
    seed: int,
) -> np.ndarray:
    """Draws images that belong to none of a dataset's classes.

    Args:
      num_images: how many; the kinds take turns.
      images: uint8 [m, height, width, channels], at least one training image: some kinds are made
        of pieces of them, and all come in their shape.
      class_names: where one of them is a letter, no letters are drawn.
      image_preparation: `mnist` or `resize`, the dataset's.
      seed: decides all of it.

    Returns:
      uint8 [num_images, height, width, channels].
    """
    random = np.random.default_rng(seed)
    kinds = list(_KINDS)
    if not any(len(name) == 1 and name.isalpha() for name in class_names):
        kinds += [_letter, _letter]  # The likeliest thing to stand beside digits counts twice.
    if image_preparation == "mnist":
        kinds += [_pair, _half, _intruded]
    drawn = []
    for number in range(num_images):
        kind = number % (len(kinds) + 1)
        if kind == len(kinds):
            drawn.append(_mosaic(random, images))
        else:
            paper = kinds[kind](random, images)
            drawn.append(prepare(paper, images.shape[1:], image_preparation, random))
    return np.stack(drawn)


def prepare(
    paper: Image.Image, image_shape: tuple[int, ...], image_preparation: str, random: Random
) -> np.ndarray:
    """Brings a drawing to the form of the training images.

    Args:
      paper: white ink on black, of any size; without ink it becomes black.
      image_shape: height, width, channels.
      image_preparation: `mnist` fits the ink into 20/28 of the frame and centres it by mass,
        `resize` stretches the paper over the frame and gives ink and paper a random tone each.
      random: for the tones.

    Returns:
      uint8 [height, width, channels].
    """
    height, width, channels = image_shape
    if image_preparation == "resize":
        ink = np.asarray(paper.resize((width, height), Image.Resampling.BOX), np.float32) / 255
        first = random.uniform(0, 255, channels)
        second = (first + random.uniform(60, 195, channels)) % 255  # well apart
        return np.round(first + (second - first) * ink[:, :, None]).astype(np.uint8)
    frame = np.zeros((height, width), np.uint8)
    box = paper.getbbox()
    if box is not None:
        paper = paper.crop(box)
        scale = min(height * _INK_SHARE / paper.height, width * _INK_SHARE / paper.width)
        rows, columns = (max(1, round(side * scale)) for side in (paper.height, paper.width))
        # Whole numbers, whose sums are the same on every processor.
        ink = np.asarray(paper.resize((columns, rows), Image.Resampling.BOX), np.int64)
        mass = max(ink.sum(), 1)
        down, across = ink.sum(1) @ np.arange(rows) / mass, ink.sum(0) @ np.arange(columns) / mass
        top = min(max(round(height / 2 - down), 0), height - rows)
        left = min(max(round(width / 2 - across), 0), width - columns)
        frame[top : top + rows, left : left + columns] = np.round(ink * (255 / max(ink.max(), 1)))
    return np.repeat(frame[:, :, None], channels, axis=2)


def new_paper() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Returns black paper, and what draws on it."""
    paper = Image.new("L", (SIDE, SIDE))
    return paper, ImageDraw.Draw(paper)


def draw_stroke(draw: ImageDraw.ImageDraw, points: np.ndarray, pen: float) -> None:
    """Draws a stroke with round ends.

    Args:
      draw: of the paper.
      points: [n, 2], x and y in pixels, at least two.
      pen: its width in pixels.
    """
    places = [(float(x), float(y)) for x, y in points]
    draw.line(places, 255, max(1, round(pen)), joint="curve")
    for x, y in (places[0], places[-1]):
        draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)


def round_off(points: np.ndarray) -> np.ndarray:
    """Returns places on a smooth curve through points, [n, 2] (Catmull and Rom 1974)."""
    ends = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = ends[:-3, None], ends[1:-2, None], ends[2:-1, None], ends[3:, None]
    t = np.linspace(0, 1, 8)[:, None]
    curve = (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2) / 2
    return (curve + (3 * b - a - 3 * c + d) * t**3 / 2).reshape(-1, 2)


def write(random: Random, font: ImageFont.FreeTypeFont, characters: str) -> Image.Image:
    """Writes one of the characters, slanted, turned, perhaps bold.

    Args:
      random: decides which one and how.
      font: of about 3/4 of the paper's side.
      characters: which there are.

    Returns:
      The paper.
    """
    paper, draw = new_paper()
    character = characters[random.integers(len(characters))]
    draw.text((SIDE / 2, SIDE / 2), character, 255, font, anchor="mm")
    if random.random() < 0.4:
        paper = paper.filter(ImageFilter.MaxFilter(3))
    return _transform(paper, turn=random.normal(0, 0.1), slant=random.normal(0, 0.2))


def _transform(paper: Image.Image, *, turn: float, slant: float) -> Image.Image:
    """Turns (in radians) and slants what is on the paper around its middle."""
    cos, sin = math.cos(turn), math.sin(turn)
    down, across = (cos, slant - sin), (sin, cos)
    middle = SIDE / 2
    numbers = [number for x, y in (down, across) for number in (x, y, middle * (1 - x - y))]
    return paper.transform(paper.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)


@cache
def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(SIDE * 3 / 4)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built with FreeType"
    return font


def _letter(random: Random, images: np.ndarray) -> Image.Image:
    return write(random, _font(), LETTERS)


def _pen(random: Random) -> float:
    return random.uniform(2, 8)


def _scribble(random: Random, images: np.ndarray) -> Image.Image:
    """One long line that turns back and forth."""
    paper, draw = new_paper()
    points = random.uniform(8, SIDE - 8, (random.integers(7, 16), 2))
    draw_stroke(draw, round_off(points), 0.7 * _pen(random))
    return paper


def _strokes(random: Random, images: np.ndarray) -> Image.Image:
    """A few lines, straight or bent, as signs have them that are not known here."""
    paper, draw = new_paper()
    pen = _pen(random)
    for _ in range(random.integers(2, 6)):
        points = random.uniform(8, SIDE - 8, (random.integers(2, 5), 2))
        draw_stroke(draw, round_off(points), pen)
    return paper


def _sign(random: Random, images: np.ndarray) -> Image.Image:
    """A sign of no script, made as letters are: bars, bows and hooks between few places."""
    paper, draw = new_paper()
    pen = _pen(random)
    places = np.stack(np.meshgrid([16, 28, 40], [8, 21, 34, 48]), axis=-1).reshape(-1, 2)
    places = places + random.normal(0, 1.5, places.shape)
    for start, end in random.permutation(len(places))[: 2 * random.integers(3, 5)].reshape(-1, 2):
        line = places[[start, end]]
        if random.random() < 0.5:  # A bow, to either side.
            across = (line[1] - line[0])[::-1] * [1, -1]
            middle = line.mean(axis=0) + random.uniform(-0.7, 0.7) * across
            line = round_off(np.stack([line[0], middle, line[1]]))
        draw_stroke(draw, line, pen)
    return paper


def _polygon(random: Random, images: np.ndarray) -> Image.Image:
    """A regular polygon or a star, hollow or full."""
    paper, draw = new_paper()
    corners = int(random.integers(3, 9))
    is_star = random.random() < 0.4
    radii = np.resize([0.4, random.uniform(0.15, 0.3)] if is_star else [0.4], 2 * corners)
    if not is_star:
        radii = radii[:corners]
    angles = random.uniform(0, 7) + np.arange(len(radii)) * 2 * np.pi / len(radii)
    places = np.stack([np.cos(angles), random.uniform(0.5, 1) * np.sin(angles)], 1)
    places = SIDE * (0.5 + radii[:, None] * places)
    if random.random() < 0.4:
        draw.polygon([(float(x), float(y)) for x, y in places], 255)
    else:
        draw_stroke(draw, np.concatenate([places, places[:1]]), 0.6 * _pen(random))
    return paper


def _grid(random: Random, images: np.ndarray) -> Image.Image:
    """Straight lines that cross: plus signs, hashes, pieces of tables."""
    paper, draw = new_paper()
    pen = 0.6 * _pen(random)
    for upright in (False, True):
        count = random.integers(1, 4)
        for place in np.linspace(0, SIDE, count + 2)[1:-1]:
            line = np.array([[place, 6], [place + random.normal(0, 3), SIDE - 6]])
            draw_stroke(draw, line if upright else line[:, ::-1], pen)
    return _transform(paper, turn=random.normal(0, 0.3), slant=random.normal(0, 0.2))


def _blobs(random: Random, images: np.ndarray) -> Image.Image:
    """Stains: ellipses on each other."""
    paper, draw = new_paper()
    for _ in range(random.integers(1, 6)):
        (x, y), (across, down) = random.uniform(12, SIDE - 12, 2), random.uniform(4, 16, 2)
        draw.ellipse((x - across, y - down, x + across, y + down), 255)
    return paper


def _texture(random: Random, images: np.ndarray) -> Image.Image:
    """Noise, fine or coarse, smooth or in squares, in many tones or two."""
    grains = int(random.integers(2, 24))
    noise = Image.fromarray(random.integers(0, 256, (grains, grains), np.uint8))
    how = Image.Resampling.BICUBIC if random.random() < 0.6 else Image.Resampling.NEAREST
    paper = noise.resize((SIDE, SIDE), how)
    return paper.point(lambda tone: 255 * (tone > 128)) if random.random() < 0.6 else paper


_TRIES = 10  # to draw what not every training image gives
_KINDS: tuple[Kind, ...] = (_scribble, _strokes, _sign, _polygon, _grid, _blobs, _texture)


def _enlarge(random: Random, images: np.ndarray) -> Image.Image:
    """Returns a random training image's ink, cropped, at the size of the paper."""
    image = Image.fromarray(images[random.integers(len(images))].max(axis=2))
    paper = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    paper = paper.point(lambda tone: tone if tone > 40 else 0)  # resampling leaves traces
    return paper.crop(paper.getbbox())


def _pair(random: Random, images: np.ndarray) -> Image.Image:
    """Two training images that touch, side by side or one above the other."""
    first, second = _enlarge(random, images), _enlarge(random, images)
    gap, shift = int(random.integers(-6, 5)), int(random.integers(0, 6))
    size = 2 * SIDE + 6, 2 * SIDE + 6
    together, other = Image.new("L", size), Image.new("L", size)
    together.paste(first, (0, 0))
    if random.random() < 0.7:
        other.paste(second, (max(1, first.width + gap), shift))
    else:
        other.paste(second, (shift, max(1, first.height + gap)))
    return ImageChops.lighter(together, other)


def _half(random: Random, images: np.ndarray) -> Image.Image:
    """One side of a training image that was cut, but no upright stroke, for that may be a 1."""
    for _ in range(_TRIES):
        whole = _enlarge(random, images)
        half = _cut(random, whole, random.uniform(0.35, 0.65))[random.integers(2)]
        box = half.getbbox()
        if box is not None and box[2] - box[0] > 0.35 * (box[3] - box[1]):
            return half
    return _pair(random, images)


def _intruded(random: Random, images: np.ndarray) -> Image.Image:
    """A training image with a part of its neighbour, as a cut at a wrong place leaves it."""
    image, neighbour = _enlarge(random, images), _enlarge(random, images)
    left, right = _cut(random, neighbour, random.uniform(0.2, 0.8))
    first, second = (image, left) if random.random() < 0.5 else (right, image)
    together, other = (Image.new("L", (2 * SIDE, 2 * SIDE)) for _ in range(2))
    together.paste(first, (0, 0))
    together = together.crop(together.getbbox())
    other.paste(second, (together.width + int(random.integers(-4, 2)), int(random.integers(0, 6))))
    canvas = Image.new("L", other.size)
    canvas.paste(together, (0, 0))
    return ImageChops.lighter(canvas, other)


def _cut(random: Random, paper: Image.Image, share: float) -> tuple[Image.Image, Image.Image]:
    """Cuts paper from top to bottom, a little aslant, at a share of its width; returns both."""
    lean, place = random.normal(0, 0.15) * paper.height, share * paper.width
    side = Image.new("L", paper.size)
    corners = [(0, 0), (place + lean, 0), (place - lean, paper.height), (0, paper.height)]
    ImageDraw.Draw(side).polygon(corners, 255)
    return ImageChops.darker(paper, side), ImageChops.darker(paper, ImageChops.invert(side))


def _mosaic(random: Random, images: np.ndarray) -> np.ndarray:
    """The quarters of four training images."""
    height, width = images.shape[1:3]
    result = images[random.integers(len(images))].copy()
    for rows in (slice(0, height // 2), slice(height // 2, None)):
        for columns in (slice(0, width // 2), slice(width // 2, None)):
            result[rows, columns] = images[random.integers(len(images))][rows, columns]
    return result
