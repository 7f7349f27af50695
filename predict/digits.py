"""Turns a picture's pixels into what the network reads: digits in the form that MNIST has.

The picture is looked at as a whole at a moderate size, where ink is told from paper, rules are
taken away and pieces become digits; then each digit is taken from the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_prep.command_line import UserError
from predict.page import morphology
from predict.page.ink import Ink, find_ink, measure_tone
from predict.page.lines import find_lines
from predict.page.median import median
from predict.page.mnist_form import fit, take_whole
from predict.page.pieces import Pieces, drop_cuttings, drop_dashes, drop_specks, join, measure
from predict.page.strokes import drop_shadows, find_strokes
from predict.page.touching import split

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

# A picture is analysed at no more than this many pixels a side: quick, and noise averages out.
_ANALYSED_SIDE = 1400
# A digit that then has fewer pixels a side is looked at again, more closely.
_CLEAR_SIDE = 64
# Paler than this share of full ink, a pixel belongs to no stroke: JPEG leaves such traces.
_FAINT = 0.08
# Where the paper is noisy, that is its standard deviation so many times, within a limit.
_NOISE_REACH, _FAINTEST_STROKE = 4, 0.3
# How far a stroke's soft edge reaches, as a share of the digit's size, and at least in pixels.
_SOFT_EDGE, _SOFT_PIXELS = 0.1, 2


class NoInkError(UserError):
    """Nothing in the picture stands out from its background as strokes do."""


@dataclass(frozen=True)
class Digit:
    """A digit found in a picture, or what may be one by its size.

    Attributes:
      box: where its ink is, in pixels of the picture.
      image: uint8 [height, width, channels], what the network reads.
      line: which line of text it stands in; 0 is the topmost.
    """

    box: Box
    image: np.ndarray
    line: int = 0


def find_digits(
    pixels: np.ndarray, image_shape: tuple[int, int, int], image_preparation: str
) -> list[Digit]:
    """Finds the digits in a picture and brings them to the form of the training images.

    Args:
      pixels: uint8 [height, width, 3], RGB, of any size.
      image_shape: height, width and channels (1 or 3) that the network reads.
      image_preparation: `mnist` finds every digit, of any colour on a background of any other,
        fits it and centres it; `resize` scales the whole picture to fit.

    Returns:
      The digits in reading order.

    Raises:
      NoInkError: nothing stands out from the background as strokes do.
      ValueError: there is no such preparation.
    """
    if image_preparation == "resize":
        box = (0, 0, pixels.shape[1], pixels.shape[0])
        return [Digit(box, take_whole(pixels, image_shape), 0)]
    if image_preparation != "mnist":
        raise ValueError(f"unknown image preparation {image_preparation!r}")
    factor = -(-max(pixels.shape) // _ANALYSED_SIDE)
    reduced = np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels
    ink = find_ink(reduced)
    # A picture no larger than the frame, such as one of MNIST's, has no room for two.
    is_one_digit = max(pixels.shape[:2]) <= max(image_shape[:2])
    pieces = find_pieces(ink, is_one_digit)
    if not pieces.areas.size:
        raise NoInkError(_describe_lack(ink))
    return [
        Digit(*_take_digit(pixels, factor, ink, pieces, index, image_shape), line)
        for line, indices in enumerate(find_lines(pieces.boxes))
        for index in indices
    ]


def find_pieces(ink: Ink, is_one_digit: bool = False) -> Pieces:
    """Finds the pieces of ink that are digits by their size.

    Args:
      ink: of a picture.
      is_one_digit: the pieces are all of one digit.

    Returns:
      A piece a digit, in no order.
    """
    pieces = drop_shadows(drop_specks(drop_cuttings(find_strokes(ink))), ink)
    if is_one_digit:
        return measure((pieces.numbers > 0).astype(np.int32), ink.strength)
    return split(drop_dashes(join(pieces, ink.strength)), ink.strength)


def _describe_lack(ink: Ink) -> str:
    """Says why no ink was found."""
    contrast = max(0.0, float(ink.strength.max()))
    return (
        "no ink found: expected digits on a background of another tone, found tones within "
        f"{contrast:.0f} of 255 levels, without strokes that stand out; give a picture with more "
        "contrast"
    )


def _take_digit(
    pixels: np.ndarray,
    factor: int,
    ink: Ink,
    pieces: Pieces,
    index: int,
    image_shape: tuple[int, int, int],
) -> tuple[Box, np.ndarray]:
    """Takes a digit out of the picture.

    Args:
      pixels: uint8 [height, width, 3], the picture.
      factor: how many of its pixels a side make one of the analysis.
      ink: the analysis.
      pieces: of the analysis.
      index: of the piece.
      image_shape: height, width and channels that the network reads.

    Returns:
      Its box in pixels of the picture, and its image: uint8 [*image_shape].
    """
    top, left, bottom, right = (int(side) for side in pieces.boxes[index])
    side = max(bottom - top, right - left)
    edge = max(_SOFT_PIXELS, round(_SOFT_EDGE * side))
    top, left = max(top - edge, 0), max(left - edge, 0)
    area = np.s_[top : bottom + edge, left : right + edge]
    numbers, strength = pieces.numbers[area], ink.strength[area]
    noise = ink.noise[(top + bottom) // 2, (left + right) // 2]  # It changes slowly.
    is_free = (numbers == 0) & ~ink.is_printed[area]
    if factor > 1 and side < _CLEAR_SIDE:
        closer = pixels[
            top * factor : (bottom + edge) * factor, left * factor : (right + edge) * factor
        ]
        numbers, is_free = (
            np.repeat(np.repeat(levels, factor, axis=0), factor, axis=1)[
                : closer.shape[0], : closer.shape[1]
            ]
            for levels in (numbers, is_free)
        )
        paper = morphology.enlarge(ink.paper[area], numbers.shape)
        sign = np.sign(median(ink.sign[area].ravel()))
        strength = sign * (measure_tone(closer, ink.axis, ink.offset) - paper)
        top, left, edge, factor = top * factor, left * factor, edge * factor, 1
    own = numbers == index + 1
    contrast = pieces.peaks[index]
    near = morphology.dilate(own, 2 * edge + 1, 2 * edge + 1) & (own | is_free)
    least = np.clip(_NOISE_REACH * noise / contrast, _FAINT, _FAINTEST_STROKE)
    share = strength / np.float32(contrast)
    parts = morphology.label(near & ((share > least) | own))
    is_own = np.zeros(parts.max() + 1, bool)
    is_own[parts[own]] = True
    drawn = is_own[parts]  # What JPEG leaves around a stroke is apart from it.
    # Paler than the stroke itself, one pixel of the frame's 20 must be full to count.
    least_count = max(1, max(own.shape) // 24)
    rows, columns = (
        np.flatnonzero(own.any(axis=axis) | (drawn.sum(axis=axis) >= least_count))
        for axis in (1, 0)
    )
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = _clip_box(
        (left + columns[0]) * factor,
        (top + rows[0]) * factor,
        (left + columns[-1] + 1) * factor,
        (top + rows[-1] + 1) * factor,
        pixels,
    )
    return box, fit(np.where(near, share, np.float32(0))[inside], image_shape)


def _clip_box(left: int, top: int, right: int, bottom: int, pixels: np.ndarray) -> Box:
    """Returns the part of a box that lies in the picture."""
    # A reduced picture's last row and column may stand for fewer pixels than the others.
    right, bottom = min(int(right), pixels.shape[1]), min(int(bottom), pixels.shape[0])
    return int(left), int(top), right - int(left), bottom - int(top)
