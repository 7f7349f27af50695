"""Marks the pixels that strokes cover, each stroke by its own strength."""

from __future__ import annotations

import numpy as np

from predict.page import morphology
from predict.page.ink import SMALLEST_CONTRAST, Ink, stands_out
from predict.page.pieces import Pieces, measure, select

# Standard deviations of the paper's noise by which a stroke stands out within.
_CORE_NOISE = 6.0
# Paler than this share of its own ink, a pixel is but a stroke's soft edge, or a stain beside it.
_CORE = 0.35
# A stroke rises by half its strength within so much of its width, or these pixels if they are more,
# for so much of its outline.
_RISE, _LEAST_RISE, _SHARP_SHARE = 0.12, 3, 0.7
# Fewer pixels than this are no stroke.
_LEAST_AREA = 4


def find_strokes(ink: Ink) -> Pieces:
    """Finds the connected pieces of ink.

    Args:
      ink: of a picture.
    """
    pieces = measure(morphology.label(stands_out(ink)), ink.strength)
    limits = np.concatenate([np.full(1, np.inf), _CORE * pieces.peaks]).astype(np.float32)
    core = ink.strength > limits[pieces.numbers]
    pieces = measure(morphology.label(core), ink.strength)
    middles = (pieces.boxes[:, :2] + pieces.boxes[:, 2:] - 1) // 2
    noise = ink.noise[middles[:, 0], middles[:, 1]]
    is_stroke = pieces.peaks >= np.maximum(SMALLEST_CONTRAST, _CORE_NOISE * noise)
    return select(pieces, is_stroke & (pieces.areas >= _LEAST_AREA))


def drop_shadows(pieces: Pieces, ink: Ink) -> Pieces:
    """Drops what does not end as strokes do: most of a stroke's outline is a sharp edge.

    Args:
      pieces: of a picture.
      ink: of the same picture.
    """
    tone = ink.paper + ink.sign * ink.strength
    sharp = [_is_sharp(tone, ink.light, pieces, index) for index in range(pieces.areas.size)]
    return select(pieces, np.array(sharp, bool))


def _is_sharp(tone: np.ndarray, light: np.ndarray, pieces: Pieces, index: int) -> bool:
    """Tells whether a piece ends within a small part of its width.

    Args:
      tone: float32 [height, width], the picture's.
      light: float32 [height, width], see `Ink`: where it is less, so is an edge's step.
      pieces: of the picture.
      index: of the piece.
    """
    top, left, bottom, right = (int(side) for side in pieces.boxes[index])
    reach = max(_LEAST_RISE, round(_RISE * min(bottom - top, right - left)))
    area = np.s_[max(top - reach, 0) : bottom + reach, max(left - reach, 0) : right + reach]
    own, levels = pieces.numbers[area] == index + 1, tone[area]
    window = 2 * reach + 1
    steps = morphology.dilate(levels, window, window) - morphology.erode(levels, window, window)
    outline = own & ~morphology.erode(own, 3, 3)
    if not outline.any():  # It covers the picture.
        return False
    least = pieces.peaks[index] / 2 * light[area][outline] / light[area][own].max()
    return bool(np.mean(steps[outline] >= least) >= _SHARP_SHARE)
