"""Tells ink from what it is written on, wherever on a picture, whatever the light.

Paper is what remains of a picture when everything narrow is taken out of it: a morphological
closing fills dark strokes, an opening removes light ones, and both leave slopes and steps of the
light where they are, so shadows take no part in it. What differs from the paper is ink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from predict.page import morphology
from predict.page.median import median
from predict.page.rules import remove_rules

# Windows wider than this are chosen only if strokes need them; smaller pictures have but one.
_SMALLEST_WINDOW = 33
# A window explains an edge if it finds this share of the edge's step, and is wide enough if it
# explains this share of all edges that the widest explains.
_EXPLAINED_STEP, _EXPLAINED_EDGES = 0.5, 0.85
# Levels of 255 by which ink must differ from its background.
SMALLEST_CONTRAST = 16
# What the whole picture says of the paper's side counts so much beside what is around.
_WHOLE = 0.1
# By so much a stroke's edge stands out: levels on perfect paper, otherwise standard deviations of
# the paper's noise.
_LEAST_EDGE, _EDGE_NOISE = SMALLEST_CONTRAST / 2, 4.0
# Paler than this share of the strongest ink, it is the paper's own pattern.
_PALEST = 0.13
# So many times as strong as the paper's lines, ink is not one of them.
_STRONGER = 1.7
# In a shadow ink is weaker as there is less light; no shadow takes more than two thirds of it.
_DARKEST_SHADOW = 1 / 3
# Noise beyond these standard deviations, in levels, is smoothed with these radii in pixels.
# Pictures with fewer pixels a side are all strokes' edges and stay as they are.
_SMALLEST_NOISY = 64
_SMOOTHING = ((16.0, 2.0), (8.0, 1.2), (2.5, 0.7))


@dataclass(frozen=True)
class Ink:
    """How a picture divides into ink and paper.

    Attributes:
      axis: float32 [3], the colours' direction from paper to ink.
      offset: added to a colour's place on that axis to make it 0 to 255.
      paper: float32 [height, width], the tone of the paper behind each pixel.
      sign: float32 [height, width], -1 where ink is darker than its paper, 1 where it is lighter.
      strength: float32 [height, width], levels by which each pixel differs from its paper in the
        ink's direction; scattered about 0 on paper.
      noise: float32 [height, width], the standard deviation of `strength` on the paper around.
      is_printed: bool [height, width], where the paper's own lines are.
      light: float32 [height, width], how much light falls on the paper: 1 where it is full, less in
        a shadow.
    """

    axis: np.ndarray
    offset: float
    paper: np.ndarray
    sign: np.ndarray
    strength: np.ndarray
    noise: np.ndarray
    is_printed: np.ndarray
    light: np.ndarray


def find_ink(pixels: np.ndarray) -> Ink:
    """Divides a picture into ink and paper.

    Args:
      pixels: uint8 [height, width, 3].
    """
    axis, offset = _find_axis(pixels)
    tone = measure_tone(pixels, axis, offset)
    if _is_plain(tone):
        zeros = np.zeros(tone.shape, np.float32)
        return Ink(
            axis, offset, tone.astype(np.float32), zeros - 1, zeros, zeros, zeros > 0, zeros + 1
        )
    smooth = _smooth(tone)
    side = _choose_window(smooth)
    filled, emptied = morphology.close(smooth, side, side), morphology.open_(smooth, side, side)
    sign = np.where(_paper_is_light(smooth, filled, emptied, side), np.float32(-1), np.float32(1))
    paper = np.where(sign < 0, filled, emptied).astype(np.float32)
    bias, noise = _measure_paper(sign * (smooth - paper), side)
    paper += sign * bias
    strength = sign * (smooth - paper)
    mask = strength > _least_strength(strength, noise)
    is_printed = mask & ~remove_rules(mask)
    if is_printed.any():  # What is much stronger than the lines is a stroke along one of them.
        share = strength[is_printed] / np.where(sign < 0, paper, 255 - paper)[is_printed].clip(
            min=1
        )
        is_printed[is_printed] = share < _STRONGER * median(share)
    light = _measure_light(paper, sign)
    return Ink(axis, offset, paper, sign, strength, noise, is_printed, light)


def _measure_light(paper: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """Measures the light by the paper's tone; see `Ink`. Dark paper has too few levels to tell."""
    is_light = sign[::8, ::8] < 0
    if not is_light.any():
        return np.ones_like(paper)
    tones = paper[::8, ::8][is_light]
    full = np.partition(tones, tones.size * 9 // 10)[tones.size * 9 // 10]
    light = np.clip(paper / max(float(full), 1.0), _DARKEST_SHADOW, 1)
    return np.where(sign < 0, light, 1).astype(np.float32)


def stands_out(ink: Ink) -> np.ndarray:
    """Returns which pixels are of ink, down to the strokes' edges: bool [height, width]."""
    return (ink.strength > _least_strength(ink.strength, ink.noise)) & ~ink.is_printed


def _least_strength(strength: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Returns by how much ink must stand out: beyond noise, and not too pale beside the rest."""
    ink = strength[strength > SMALLEST_CONTRAST]
    usual = float(np.partition(ink, ink.size * 9 // 10)[ink.size * 9 // 10]) if ink.size else 0.0
    return np.maximum(max(_LEAST_EDGE, _PALEST * usual), _EDGE_NOISE * noise)


def measure_tone(pixels: np.ndarray, axis: np.ndarray, offset: float) -> np.ndarray:
    """Reduces colours to their place between paper and ink.

    Args:
      pixels: uint8 [height, width, 3].
      axis: see `Ink`.
      offset: see `Ink`.

    Returns:
      uint8 [height, width]; grey levels stay what they are.
    """
    return np.rint(pixels @ axis + np.float32(offset)).astype(np.uint8)


def _find_axis(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Finds the direction in which neighbouring colours differ most: across the strokes' edges.

    Light and large coloured areas change slowly or seldom, so that they hardly count.
    """
    moments = np.zeros((3, 3))
    step = max(1, round((pixels.size / 3 / 300_000) ** 0.5))  # Every third row will do as well.
    for sparse in (pixels[::step], pixels[:, ::step].transpose(1, 0, 2)):
        steps = np.diff(sparse.astype(np.float32), axis=1).reshape(-1, 3)
        moments += steps.T @ steps
    axis = np.linalg.eigh(moments)[1][:, -1]
    axis = axis if axis.sum() >= 0 else -axis
    # Divided so that grey levels keep their distance: black to white is 255.
    axis = (axis / np.sqrt(3)).astype(np.float32)
    return axis, float(-255 * axis.clip(max=0).sum())


def _is_plain(tone: np.ndarray) -> bool:
    """Tells whether a picture is but one tone, or a slope from one to another."""
    rows, columns = (np.linspace(-1, 1, size, dtype=np.float32) for size in tone.shape)
    # On a grid that is symmetric to its middle, the slopes are independent of one another.
    level = tone.mean(dtype=np.float64)
    down = rows @ tone.mean(axis=1) / max(float(rows @ rows), 1e-9)
    across = columns @ tone.mean(axis=0) / max(float(columns @ columns), 1e-9)
    rest = tone - (
        np.float32(level) + np.float32(down) * rows[:, None] + np.float32(across) * columns
    )
    return float(np.abs(rest).max()) < SMALLEST_CONTRAST / 2


def _smooth(tone: np.ndarray) -> np.ndarray:
    """Takes noise out of a picture, as far as there is some; uint8 [height, width] stays so."""
    if max(tone.shape) < _SMALLEST_NOISY:
        return tone
    steps = np.abs(np.diff(tone[::2].astype(np.int16), axis=1)).ravel()
    # Of |difference of two normal numbers| a quarter is below 0.45 standard deviations of one. Some
    # of the other quarters are strokes' edges.
    noise = (np.partition(steps, steps.size // 4)[steps.size // 4] + 0.5) / 0.45 - 1
    for least, radius in _SMOOTHING:
        if noise > least:
            picture = Image.fromarray(tone).filter(ImageFilter.GaussianBlur(radius))
            return np.asarray(picture)
    return tone


def _choose_window(tone: np.ndarray) -> int:
    """Chooses the side of the window that strokes are narrower than.

    It should be wide enough for the widest pen, and no wider, as what lies between two shadows or
    inside a dark frame is ink to a window that is wider than that. Tried from the narrowest to
    half the picture, the first that explains nearly all edges is taken.

    Args:
      tone: uint8 [height, width].

    Returns:
      An odd number of pixels.
    """
    largest = max(tone.shape) // 2
    if largest <= 4 * _SMALLEST_WINDOW:
        return largest | 1
    factor = 2
    half = np.asarray(Image.fromarray(tone).reduce(factor))
    edges = morphology.dilate(half, 3, 3).astype(np.int16) - morphology.erode(half, 3, 3)
    strong = edges > max(SMALLEST_CONTRAST, float(edges.max()) * 0.25)
    sides = [_SMALLEST_WINDOW]
    while sides[-1] * 2 < largest:
        sides.append(sides[-1] * 2 | 1)
    shares = []
    for side in sides:
        reach = side // factor | 1
        found = np.maximum(
            morphology.close(half, reach, reach) - half, half - morphology.open_(half, reach, reach)
        )
        explained = morphology.dilate(found, 3, 3) >= _EXPLAINED_STEP * edges
        shares.append(float(np.count_nonzero(explained & strong)))
    chosen = next(
        side
        for side, share in zip(sides, shares, strict=True)
        if share >= _EXPLAINED_EDGES * shares[-1]
    )
    return min(2 * chosen, largest) | 1  # Where strokes meet, they are wider than elsewhere.


def _paper_is_light(tone: np.ndarray, light: np.ndarray, dark: np.ndarray, side: int) -> np.ndarray:
    """Decides for each pixel which of two tones is the paper's: ink is what there is less of.

    Args:
      tone: uint8 [height, width].
      light: the tone with dark strokes filled.
      dark: the tone with light strokes removed.
      side: of the window that did this.

    Returns:
      bool [height, width].
    """
    shape = tone.shape
    step = max(1, side // 16)  # Areas are large, so few pixels tell of them.
    tone, light, dark = (
        levels[::step, ::step].astype(np.float32) for levels in (tone, light, dark)
    )
    reach = (4 * side) // step | 1
    if reach >= max(tone.shape):
        # In a close crop ink may have more area, but paper then has more of the border.
        contrast = light - dark
        middle = np.sum(contrast * (light + dark)) / max(float(contrast.sum()) * 2, 1.0)
        is_light = tone > middle
        border = np.concatenate([is_light[0], is_light[-1], is_light[:, 0], is_light[:, -1]])
        return np.full(shape, is_light.mean() + border.mean() >= 1)
    # Of the tones around strokes, less their mean, the cubes add up to ink's sign. Those around the
    # edge of a shadow or of a sheet cancel each other out, whatever lies beyond it. Where there are
    # no strokes around, those of the whole picture tell.
    cubes = (tone - morphology.mean_around(tone, (side // 2) // step | 1)) ** 3
    is_light = morphology.mean_around(cubes, reach) + _WHOLE * cubes.mean() <= 0
    return np.repeat(np.repeat(is_light, step, axis=0), step, axis=1)[: shape[0], : shape[1]]


def _measure_paper(strength: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Measures paper alone: its mean difference from an envelope, and its noise.

    Args:
      strength: float32 [height, width], 0 or more.
      side: of the strokes' window; no stroke covers a square of this size.

    Returns:
      Both float32 [height, width].
    """
    side = max(side, _SMALLEST_WINDOW)
    height, width = strength.shape
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    bias, noise = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            tile = strength[
                row * height // rows : (row + 1) * height // rows,
                column * width // columns : (column + 1) * width // columns,
            ].ravel()
            tile = tile[:: max(1, tile.size // 1024)]
            # Ink only adds to one side, so the lowest values are those of paper alone. For normal
            # noise these two are 0.80 standard deviations apart.
            low, high = (int(share * (tile.size - 1)) for share in (0.05, 0.2))
            ordered = np.partition(tile, (low, high))
            noise[row, column] = (ordered[high] - ordered[low]) / 0.8
            bias[row, column] = ordered[high] + 0.5 * noise[row, column]
    return morphology.enlarge(bias, strength.shape), morphology.enlarge(noise, strength.shape)
