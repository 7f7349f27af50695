"""Draws handwritten digits, prepared as MNIST's are: a dataset that needs no network.

The pen follows a spline through a style's jittered control points (`digit_strokes.py`). The whole
skeleton is bent, stretched, slanted and turned, scaled until its ink fits a box of 20x20 pixels,
drawn with a pen of varying width, and put on 28x28 pixels with its centre of mass in the middle.

Every number comes from a hash of (seed, image index, slot) and goes through +, -, *, / and square
roots of single elements only, which IEEE 754 rounds in one way: an image is the same bytes on
every machine, whatever batch it is drawn in. (Sines, powers, matrix products and numpy's
generators promise no such thing.) Arrays have the images last, so that the inner loops are long.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_prep.command_line import UserError
from data_prep.digit_strokes import NUM_CLASSES, NUM_POINTS, load_styles
from data_prep.source import Batch, Source, SourceSplit

IMAGE_SIZE = 28
BOX_SIZE = 20  # MNIST fits the ink into this box, keeping its aspect ratio.
MAX_IMAGES = 10_000_000  # a split; MNIST has 70,000 images in all
TEST_FIRST_INDEX = 1 << 32  # far behind every training image, however many are asked for

_BATCH = 1000  # images drawn at once
_RENDER_BATCH = 125  # images rendered at once: their pixels stay in the processor's cache
_MAX_CONTROLS = 20  # of a style
_PEN_KNOTS = 8  # places along the strokes where the pen's pressure is drawn
_EDGE = 1.1  # pixels from full ink to none

# How a skeleton is bent: powers of x and of y, and the deviations of their effect on x and on y.
# x * y makes the head wider than the foot or the reverse, y * y moves the waist up or down.
_BENDS = (
    (2, 0, 0.08, 0.08),
    (1, 1, 0.16, 0.06),
    (0, 2, 0.08, 0.12),
    (3, 0, 0.04, 0.04),
    (2, 1, 0.05, 0.05),
    (1, 2, 0.05, 0.05),
    (0, 3, 0.06, 0.04),
)

_MASK = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: np.ndarray) -> np.ndarray:
    """Hashes uint64 words as SplitMix64 does (Steele, Lea and Flood, OOPSLA 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


class _Random:
    """Random numbers for consecutive images, each a hash of seed, image index and slot.

    Every call takes the next slots, so the order of calls is part of what an image looks like.
    """

    def __init__(self, seed: int, first_index: int, num_images: int) -> None:
        key = _mix(np.array([seed & _MASK], np.uint64) + _GOLDEN)
        index = np.arange(first_index, first_index + num_images).astype(np.uint64)
        self._state = _mix(key ^ _mix(index + np.uint64(1)))
        self._next_slot = 1

    def _words(self, count: int) -> np.ndarray:
        slots = np.arange(self._next_slot, self._next_slot + count).astype(np.uint64)
        self._next_slot += count
        return _mix(self._state + (slots * _GOLDEN)[:, None])

    def uniform(self, count: int) -> np.ndarray:
        """Returns float32 [count, num_images], 0 to 1."""
        return (self._words(count) >> np.uint64(40)).astype(np.float32) * 2.0**-24

    def normal(self, count: int) -> np.ndarray:
        """Returns float32 [count, num_images], mean 0, deviation 1, never beyond 3.47.

        The sum of a word's four 16-bit parts is normal enough here, and needs no logarithm.
        """
        words = self._words(count)
        total = sum((words >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
        return (np.asarray(total).astype(np.float32) - 131070) / 37837


def _draw_skeletons(labels: np.ndarray, random: _Random) -> np.ndarray:
    """Returns places along the pen's way, float32 [2, NUM_POINTS, n]: x and y, about -1 to 1."""
    styles, firsts, chances = load_styles()
    chosen = firsts[labels] + (random.uniform(1)[0][:, None] >= chances[labels]).sum(axis=1)
    # The mixture of the two forms drifts along the way, and goes a little beyond either.
    begin, end = random.uniform(2) * 1.5 - 0.25
    haste = random.uniform(1)[0]
    noise = random.normal(2 * (_MAX_CONTROLS + 2)).reshape(2, _MAX_CONTROLS + 2, -1)
    # Neighbours move together, or strokes would look shaky instead of differently shaped.
    jitter = (noise[:, :-2] + noise[:, 1:-1] + noise[:, 2:]) * (0.05 + 0.1 * haste * haste)
    points = np.empty([2, NUM_POINTS, len(labels)], np.float32)
    for number in np.unique(chosen):
        style, images = styles[number], np.flatnonzero(chosen == number)
        form, other = style.forms
        along = np.linspace(0, 1, form.shape[1], dtype=np.float32)[:, None]
        mixture = begin[images] + along * (end - begin)[images]
        controls = form + mixture * (other - form) + jitter[:, : form.shape[1], images]
        drawn = style.weights[0] * controls[:, style.taps[0]]
        for tap in (1, 2, 3):
            drawn += style.weights[tap] * controls[:, style.taps[tap]]
        points[:, :, images] = drawn
    return points


def _distort(points: np.ndarray, random: _Random) -> np.ndarray:
    """Bends the skeletons smoothly, then stretches, slants and turns them."""
    x, y = points
    powers_x, powers_y = (1, x, x * x, x * x * x), (1, y, y * y, y * y * y)
    bent_x, bent_y = x.copy(), y.copy()
    for i, j, effect_x, effect_y in _BENDS:
        term = powers_x[i] * powers_y[j]
        amount_x, amount_y = random.normal(2)
        bent_x += (amount_x * effect_x) * term
        bent_y += (amount_y * effect_y) * term
    u, v = random.uniform(2)
    width = 0.75 + 0.5 * (u + v * v)
    slant = 0.15 - 0.25 * random.normal(1)[0]
    x = bent_x * width - bent_y * slant
    t = random.normal(1)[0] * 0.06  # the tangent of half the angle, which spares sines
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return np.stack([x * cos - bent_y * sin, x * sin + bent_y * cos])


def _draw_pens(random: _Random) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pen's radius in pixels, float32 [n], and its factor at each point."""
    u, v, w = random.uniform(3)
    rare = w * w * w
    radius = 0.65 + 0.42 * (u + v) + rare * rare
    pressure = random.normal(_PEN_KNOTS) * (0.2 * random.uniform(1)[0])
    place = np.arange(NUM_POINTS) * ((_PEN_KNOTS - 1) / NUM_POINTS)
    knot = place.astype(np.int64)
    t = (place - knot).astype(np.float32)[:, None]
    roughness = random.normal(NUM_POINTS) * (0.2 * random.uniform(1)[0])
    factor = 1 + pressure[knot] + t * (pressure[knot + 1] - pressure[knot]) + roughness
    return radius, np.maximum(factor, 0.4)


def _fit(
    points: np.ndarray, radius: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Makes the ink's longer side as long as the box, and puts the ink in its middle.

    Args:
      points: float32 [2, NUM_POINTS, n], of any scale.
      radius: float32 [n], the pen's radius in pixels.
      factor: float32 [NUM_POINTS, n], what multiplies it at each point.

    Returns:
      x and y in pixels, float32 [NUM_POINTS, n], and the radius, hardly changed.
    """
    extent = (points.max(axis=1) - points.min(axis=1)).max(axis=0)
    points = points * ((BOX_SIZE - 2 * radius) / extent)
    low = (points - radius * factor).min(axis=1)
    high = (points + radius * factor).max(axis=1)
    scale = BOX_SIZE / (high - low).max(axis=0)
    x, y = (points - ((low + high) / 2)[:, None]) * scale + BOX_SIZE / 2
    return x, y, radius * scale


def _render(x: np.ndarray, y: np.ndarray, radius: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Returns the ink in each pixel of the box, uint8 [BOX_SIZE, BOX_SIZE, n].

    A stroke is the union of discs around its points. How deep a pixel's centre lies inside or
    outside the nearest disc tells how much of the pixel is covered.
    """
    centres = np.arange(BOX_SIZE, dtype=np.float32)[:, None] + 0.5
    inverse = (1 / (radius * factor))[:, None]
    # Distances from each disc's centre in units of its radius: [NUM_POINTS, BOX_SIZE, n].
    across, down = (centres - x[:, None]) * inverse, (centres - y[:, None]) * inverse
    across *= across
    down *= down
    nearest = np.full([BOX_SIZE, BOX_SIZE, x.shape[1]], np.inf, np.float32)
    squared = np.empty_like(nearest)
    for point in range(NUM_POINTS):
        np.add(down[point][:, None], across[point], out=squared)
        np.minimum(nearest, squared, out=nearest)
    covered = (1 - np.sqrt(nearest)) * radius / _EDGE + 0.5
    return (np.clip(covered, 0, 1) * 255 + 0.5).astype(np.uint8)


def _centre(ink: np.ndarray) -> np.ndarray:
    """Puts boxes [BOX_SIZE, BOX_SIZE, n] where their centre of mass is nearest the image's.

    As in MNIST, boxes move by whole pixels, and the image's centre is the pixel (14, 14).
    """
    place = np.arange(BOX_SIZE)
    mass = ink.astype(np.int64)
    corners = []
    for sums in (mass.sum(axis=1), mass.sum(axis=0)):
        centre = (sums * place[:, None]).sum(axis=0) / sums.sum(axis=0)
        corner = np.floor(IMAGE_SIZE / 2 - centre + 0.5).astype(np.int64)
        corners.append(np.clip(corner, 0, IMAGE_SIZE - BOX_SIZE)[:, None, None])
    top, left = corners
    images = np.zeros([ink.shape[2], IMAGE_SIZE, IMAGE_SIZE, 1], np.uint8)
    image = np.arange(ink.shape[2])[:, None, None]
    images[image, top + place[:, None], left + place, 0] = ink.transpose(2, 0, 1)
    return images


def draw_digits(labels: np.ndarray, *, seed: int, first_index: int) -> np.ndarray:
    """Draws one handwritten digit for each label, white on black, prepared as MNIST's are.

    Image i depends on `seed`, `first_index + i` and `labels[i]` alone, not on the others that are
    drawn with it, and is the same bytes each time and everywhere.

    Args:
      labels: int64 [n], the digits to draw, 0 to 9.
      seed: any integer; another seed draws other images.
      first_index: the index of the first image, 0 or more.

    Returns:
      uint8 [n, 28, 28, 1].

    Raises:
      ValueError: a label is not a digit, or the index is negative.
    """
    if labels.ndim != 1 or not np.isin(labels, range(NUM_CLASSES)).all():
        raise ValueError(f"expected labels [n] from 0 to {NUM_CLASSES - 1}, found {labels}")
    if first_index < 0:
        raise ValueError(f"expected a first_index of 0 or more, found {first_index}")
    images = np.empty([len(labels), IMAGE_SIZE, IMAGE_SIZE, 1], np.uint8)
    for start in range(0, len(labels), _BATCH):
        batch = labels[start : start + _BATCH]
        random = _Random(seed, first_index + start, len(batch))
        points = _distort(_draw_skeletons(batch, random), random)
        radius, factor = _draw_pens(random)
        x, y, radius = _fit(points, radius, factor)
        for begin in range(0, len(batch), _RENDER_BATCH):
            part = slice(begin, begin + _RENDER_BATCH)
            ink = _render(x[:, part], y[:, part], radius[part], factor[:, part])
            images[start + begin : start + begin + ink.shape[2]] = _centre(ink)
    return images


def _draw_labels(num_images: int, *, seed: int, first_index: int) -> np.ndarray:
    """Returns int64 [num_images], each digit equally likely."""
    # Another key than the images have, so that a digit's label and its style are independent.
    random = _Random(seed ^ 0x6C6162656C, first_index, num_images)
    return (random.uniform(1)[0] * NUM_CLASSES).astype(np.int64)


def _make_split(first_index: int, num_images: int, seed: int) -> SourceSplit:
    def read() -> Iterator[Batch]:
        for start in range(0, num_images, _BATCH):
            index, count = first_index + start, min(_BATCH, num_images - start)
            labels = _draw_labels(count, seed=seed, first_index=index)
            yield draw_digits(labels, seed=seed, first_index=index), labels

    return SourceSplit(num_examples=num_images, read=read)


def make_source(*, num_train: int, num_test: int, seed: int) -> Source:
    """Returns synthetic digits as a source with a training and a test split.

    The n-th image of a split depends on the seed and on n alone, not on the sizes.

    Args:
      num_train: images to draw for training, 1 to 10,000,000.
      num_test: images to draw for the test, likewise; none is a training image.
      seed: any integer; it decides both labels and images.

    Returns:
      A source whose splits draw their images while they are read, 1,000 at a time.

    Raises:
      UserError: a size is out of range.
    """
    for flag, size in (("synthetic_train", num_train), ("synthetic_test", num_test)):
        if not 1 <= size <= MAX_IMAGES:
            raise UserError(f"--{flag}: expected 1 to {MAX_IMAGES:,} images, found {size:,}")
    return Source(
        image_shape=(IMAGE_SIZE, IMAGE_SIZE, 1),
        class_names=tuple(map(str, range(NUM_CLASSES))),
        files=(),
        splits={
            "train": _make_split(0, num_train, seed),
            "test": _make_split(TEST_FIRST_INDEX, num_test, seed),
        },
    )
