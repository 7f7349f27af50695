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
from predict.page.division import Span, divide, find_chains, is_narrow, is_too_wide
from predict.page.ink import SMALLEST_CONTRAST, Ink, find_ink, measure_tone
from predict.page.lines import find_lines
from predict.page.median import median
from predict.page.mnist_form import fit, resize, take_whole
from predict.page.pieces import (
    Pieces,
    drop_cuttings,
    drop_dashes,
    drop_specks,
    join,
    measure,
    typical_height,
)
from predict.page.strokes import drop_shadows, find_strokes

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
# A picture is reduced in strips of so many pixels.
_STRIP = 1 << 18
# Ink is divided at so many pixels of height, three times what the network reads.
_DIVIDED_HEIGHT = 60


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


@dataclass(frozen=True)
class Place:
    """Where a digit is, or several that stand so close that ink alone may not tell them apart.

    Attributes:
      digits: as ink alone tells them apart, from left to right.
      strokes: its ink, to divide it in other ways; None where there is no other.
    """

    digits: tuple[Digit, ...]
    strokes: Strokes | None = None

    def divide(self) -> tuple[dict[Span, Digit], tuple[Span, ...]]:
        """Divides its ink in every way that could be.

        Returns:
          The digit that each run of parts is if it is one, and the runs that `digits` are.
        """
        first = self.digits[0]
        if self.strokes is None:
            return {(0, 1): first}, ((0, 1),)
        return self.strokes.divide(first.image.shape, first.line)


@dataclass(frozen=True)
class Strokes:
    """The ink of a place, small and apart from the picture.

    Attributes:
      ink: uint8 [height, width], 255 where it is full.
      pieces: uint8 [height, width], its pieces numbered from 1 on, from left to right; 0 is paper.
      corner: x and y of its first pixel, in pixels of the picture.
      scale: pixels of the picture that one of its own is wide and high.
      is_deslanted: its digits are read without their slant.
    """

    ink: np.ndarray
    pieces: np.ndarray
    corner: tuple[int, int]
    scale: float
    is_deslanted: bool = False

    def divide(
        self, image_shape: tuple[int, ...], line: int
    ) -> tuple[dict[Span, Digit], tuple[Span, ...]]:
        """Divides it; see `Place.divide`."""
        division = divide(self.ink, self.pieces)
        digits = {}
        for start, end in division.spans:
            own = (division.parts > start) & (division.parts <= end)
            ink = np.where(own, self.ink, 0)
            drawn = ink > _FAINT * 255
            rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
            inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            x, y = (
                corner + round(first * self.scale)
                for corner, first in zip(self.corner, (columns[0], rows[0]), strict=True)
            )
            width, height = (round((np.ptp(places) + 1) * self.scale) for places in (columns, rows))
            image = fit(ink[inside].astype(np.float32), image_shape, is_deslanted=self.is_deslanted)
            digits[start, end] = Digit((x, y, width, height), image, line)
        return digits, division.usual


def find_digits(
    pixels: np.ndarray, image_shape: tuple[int, int, int], image_preparation: str
) -> list[Digit]:
    """Finds the digits in a picture, as ink alone tells them apart; see `find_places`."""
    return [
        digit
        for place in find_places(pixels, image_shape, image_preparation)
        for digit in place.digits
    ]


def find_places(
    pixels: np.ndarray,
    image_shape: tuple[int, int, int],
    image_preparation: str,
    *,
    is_deslanted: bool = False,
) -> list[Place]:
    """Finds the digits in a picture and brings them to the form of the training images.

    Args:
      pixels: uint8 [height, width, 3], RGB, of any size.
      image_shape: height, width and channels (1 or 3) that the network reads.
      image_preparation: `mnist` finds every digit, of any colour on a background of any other,
        fits it and centres it; `resize` scales the whole picture to fit.
      is_deslanted: with `mnist`, each digit's slant is taken away before it is fitted.

    Returns:
      The places of digits, in reading order.

    Raises:
      NoInkError: nothing stands out from the background as strokes do.
      ValueError: there is no such preparation.
    """
    if image_preparation == "resize":
        box = (0, 0, pixels.shape[1], pixels.shape[0])
        return [Place((Digit(box, take_whole(pixels, image_shape), 0),))]
    if image_preparation != "mnist":
        raise ValueError(f"unknown image preparation {image_preparation!r}")
    factor = -(-max(pixels.shape) // _ANALYSED_SIDE)
    reduced = _reduce(pixels, factor) if factor > 1 else pixels
    ink = find_ink(reduced)
    # A picture no larger than the frame, such as one of MNIST's, has no room for two.
    is_one_digit = max(pixels.shape[:2]) <= max(image_shape[:2])
    pieces = _find_pieces(ink, is_one_digit)
    if not pieces.areas.size:
        raise NoInkError(
            "no ink found: expected digits on a background of another tone, found no strokes that "
            f"stand out by {SMALLEST_CONTRAST} of 255 levels and from the noise; give a picture "
            "with more contrast"
        )
    taken = [_take_ink(pixels, factor, ink, pieces, index) for index in range(pieces.areas.size)]
    if is_one_digit:
        image = fit(taken[0][1], image_shape, is_deslanted=is_deslanted)
        return [Place((Digit(taken[0][0], image),))]
    chains = find_chains(pieces.boxes, typical_height(pieces))
    around = [pieces.boxes[chain] for chain in chains]
    boxes = np.array([[*box[:, :2].min(axis=0), *box[:, 2:].max(axis=0)] for box in around])
    return [
        _make_place([taken[piece] for piece in chains[index]], image_shape, line, is_deslanted)
        for line, indices in enumerate(find_lines(boxes))
        for index in indices
    ]


def _reduce(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Returns the means of squares of pixels, a strip at a time, for a photo is beyond any cache.

    Args:
      pixels: uint8 [height, width, 3].
      factor: pixels a side of a square; at the right and at the bottom there may be fewer.

    Returns:
      uint8 [height, width, 3], smaller.
    """
    num_rows = factor * max(1, _STRIP // (factor * pixels.shape[1]))
    strips = [pixels[top : top + num_rows] for top in range(0, len(pixels), num_rows)]
    return np.concatenate([np.asarray(Image.fromarray(strip).reduce(factor)) for strip in strips])


def _find_pieces(ink: Ink, is_one_digit: bool) -> Pieces:
    """Finds the pieces of ink that are digits by their size, in no order.

    Args:
      ink: of a picture.
      is_one_digit: the pieces are all of one digit.
    """
    pieces = drop_shadows(drop_specks(drop_cuttings(find_strokes(ink))), ink)
    if is_one_digit:
        return measure((pieces.numbers > 0).astype(np.int32), ink.strength)
    return drop_dashes(join(pieces, ink.strength))


def _make_place(
    taken: list[tuple[Box, np.ndarray]],
    image_shape: tuple[int, int, int],
    line: int,
    is_deslanted: bool,
) -> Place:
    """Makes a place of its pieces' boxes and ink, from left to right."""
    whole = tuple(
        Digit(box, fit(ink, image_shape, is_deslanted=is_deslanted), line) for box, ink in taken
    )
    if len(taken) == 1 and is_narrow(taken[0][0][3], taken[0][0][2]):
        return Place(whole)
    left, top = (min(box[axis] for box, _ in taken) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box, _ in taken) for axis in (0, 1))
    scale = max(1.0, (bottom - top) / _DIVIDED_HEIGHT)
    shape = round((bottom - top) / scale) + 1, round((right - left) / scale) + 1
    drawn, pieces = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, ((x, y, width, height), ink) in enumerate(taken, start=1):
        rows, columns = (max(1, round(side / scale)) for side in (height, width))
        down, across = round((y - top) / scale), round((x - left) / scale)
        area = np.s_[down : down + rows, across : across + columns]
        own = resize(ink, rows, columns)[: shape[0] - down, : shape[1] - across]
        own = np.rint(255 * np.clip(own, 0, 1)).astype(np.uint8)
        pieces[area][own > drawn[area]] = number
        drawn[area] = np.maximum(drawn[area], own)
    strokes = Strokes(drawn, pieces, (left, top), scale, is_deslanted)
    if any(is_too_wide(box[3], box[2]) for box, _ in taken):
        digits, usual = strokes.divide(image_shape, line)
        if len(usual) > len(taken):
            return Place(tuple(digits[span] for span in usual), strokes)
    return Place(whole, strokes)


def _take_ink(
    pixels: np.ndarray, factor: int, ink: Ink, pieces: Pieces, index: int
) -> tuple[Box, np.ndarray]:
    """Takes a piece out of the picture.

    Args:
      pixels: uint8 [height, width, 3], the picture.
      factor: how many of its pixels a side make one of the analysis.
      ink: the analysis.
      pieces: of the analysis.
      index: of the piece.

    Returns:
      Its box in pixels of the picture, and its ink: float32 [height, width], 1 where it is full.
    """
    top, left, bottom, right = (int(side) for side in pieces.boxes[index])
    side = max(bottom - top, right - left)
    edge = max(_SOFT_PIXELS, round(_SOFT_EDGE * side))
    top, left = max(top - edge, 0), max(left - edge, 0)
    area = np.s_[top : bottom + edge, left : right + edge]
    numbers, strength, light = pieces.numbers[area], ink.strength[area], ink.light[area]
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
        light = morphology.enlarge(light, numbers.shape)
        strength = sign * (measure_tone(closer, ink.axis, ink.offset) - paper)
        top, left, edge, factor = top * factor, left * factor, edge * factor, 1
    own = numbers == index + 1
    contrast = pieces.peaks[index]
    near = morphology.dilate(own, 2 * edge + 1, 2 * edge + 1) & (own | is_free)
    least = np.clip(_NOISE_REACH * noise / contrast, _FAINT, _FAINTEST_STROKE)
    # Where a shadow falls on a part of it, that is as full of ink as the rest.
    share = strength * (light[own].max() / light) / np.float32(contrast)
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
    return box, np.where(near, share, np.float32(0))[inside]


def _clip_box(left: int, top: int, right: int, bottom: int, pixels: np.ndarray) -> Box:
    """Returns the part of a box that lies in the picture."""
    # A reduced picture's last row and column may stand for fewer pixels than the others.
    right, bottom = min(int(right), pixels.shape[1]), min(int(bottom), pixels.shape[0])
    return int(left), int(top), right - int(left), bottom - int(top)
