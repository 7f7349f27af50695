"""Turns a picture's pixels into what the network reads: a digit in the form that MNIST has.

MNIST's images were made from scans of handwriting: the ink was fitted into 20x20 pixels with its
aspect ratio kept, and moved so that its centre of mass is the centre of the 28x28 frame, light on
black (http://yann.lecun.com/exdb/mnist). The same is done here to any picture, in one way for all;
an image that already is in that form comes out as it went in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_prep.command_line import UserError

Box = tuple[int, int, int, int]  # x, y, width, height in pixels

# A picture is analysed at no more than this many pixels a side: quick, and noise averages out.
_ANALYSED_SIDE = 256
# A digit that then has fewer pixels a side is looked at again, more closely.
_CLEAR_SIDE = 64
# A digit takes 20 of the frame's 28 pixels, whatever the size of the frame.
_DIGIT_SHARE = 20 / 28
# Levels of 255 by which ink must differ from its background.
_SMALLEST_CONTRAST = 16
# How well two groups of tones are told apart, 0 to 1 (Otsu's eta); mere noise reaches 0.64.
_SMALLEST_SEPARATION = 0.72
# Paler than this share of full ink, a pixel belongs to no stroke: JPEG leaves such traces.
_FAINT = 0.08
# Where the background is noisy, that is its standard deviation so many times, within a limit.
_NOISE_REACH, _FAINTEST_STROKE = 3, 0.3
# A piece with less than this share of the largest piece's ink is a speck.
_SPECK = 0.05


class NoInkError(UserError):
    """Nothing in the picture stands out from its background."""


@dataclass(frozen=True)
class Digit:
    """A digit found in a picture.

    Attributes:
      box: where its ink is, in pixels of the picture.
      image: uint8 [height, width, channels], what the network reads.
    """

    box: Box
    image: np.ndarray


def find_digits(
    pixels: np.ndarray, image_shape: tuple[int, int, int], image_preparation: str
) -> list[Digit]:
    """Finds the digits in a picture and brings them to the form of the training images.

    Args:
      pixels: uint8 [height, width, 3], RGB, of any size.
      image_shape: height, width and channels (1 or 3) that the network reads.
      image_preparation: `mnist` crops to the ink, which may be of any colour on a background of
        any other, fits it and centres it; `resize` scales the whole picture to fit.

    Returns:
      The digits in reading order. The picture is taken to show one digit.

    Raises:
      NoInkError: nothing stands out from the background.
      ValueError: there is no such preparation.
    """
    if image_preparation == "resize":
        return [_take_whole(pixels, image_shape)]
    if image_preparation != "mnist":
        raise ValueError(f"unknown image preparation {image_preparation!r}")
    return [_find_digit(pixels, image_shape)]


def _find_digit(pixels: np.ndarray, image_shape: tuple[int, int, int]) -> Digit:
    height, width, _ = pixels.shape
    factor = -(-max(height, width) // _ANALYSED_SIDE)
    reduced = np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels
    ink, drawn = _find_strokes(reduced)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    # A reduced picture's last row and column may stand for fewer pixels than the others.
    box = _clip_box(left * factor, top * factor, right * factor, bottom * factor, pixels)
    side = max(bottom - top, right - left)
    if factor > 1 and side < _CLEAR_SIDE:
        x, y, box_width, box_height = box
        margin = max(box_width, box_height) // 2
        near = _clip_box(
            x - margin, y - margin, x + box_width + margin, y + box_height + margin, pixels
        )
        near_x, near_y, near_width, near_height = near
        closer = pixels[near_y : near_y + near_height, near_x : near_x + near_width]
        digit = _find_digit(closer, image_shape)
        x, y, box_width, box_height = digit.box
        return Digit((near_x + x, near_y + y, box_width, box_height), digit.image)
    return Digit(box, _fit(ink[top:bottom, left:right], image_shape))


def _clip_box(left: int, top: int, right: int, bottom: int, pixels: np.ndarray) -> Box:
    """Returns the part of a box that lies in the picture."""
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), pixels.shape[1]), min(int(bottom), pixels.shape[0])
    return left, top, right - left, bottom - top


def _take_whole(pixels: np.ndarray, image_shape: tuple[int, int, int]) -> Digit:
    """Scales a picture to fit the frame, and fills that up with the middle colour of its border.

    Images that a model learnt as a whole came from `data_prep/image_folder.py`, which does this.
    """
    height, width, channels = image_shape
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape[:2])
    picture = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    scaled = np.asarray(picture.resize((columns, rows), Image.Resampling.LANCZOS))
    scaled = scaled.reshape(rows, columns, channels)
    border = np.concatenate([scaled[0], scaled[-1], scaled[:, 0], scaled[:, -1]])
    frame = np.empty(image_shape, np.uint8)
    frame[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    frame[top : top + rows, left : left + columns] = scaled
    return Digit((0, 0, pixels.shape[1], pixels.shape[0]), frame)


def _find_strokes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separates ink from its background.

    Colours are reduced to their place on the line along which they vary most, which for ink on
    paper runs from the one to the other, whichever is the darker.

    Args:
      pixels: uint8 [height, width, 3].

    Returns:
      How much ink each pixel holds, float32 [height, width]: about 1 in a stroke, and scattered
      about 0, on both sides, by the noise of the background. Which pixels belong to strokes,
      bool [height, width].

    Raises:
      NoInkError: all is one tone, or noise.
    """
    colours = pixels.reshape(-1, 3).astype(np.float32)
    colours -= colours.mean(axis=0)
    axis = np.linalg.eigh(colours.T @ colours)[1][:, -1]
    # Divided so that grey levels keep their distance: black to white is 255.
    tone = (colours @ axis).reshape(pixels.shape[:2]) / np.float32(np.sqrt(3))
    # Twice: under uneven light the first split is only good enough to find the light.
    for _ in range(2):
        is_ink, separation = _split_tones(tone)
        border = np.concatenate([is_ink[0], is_ink[-1], is_ink[:, 0], is_ink[:, -1]])
        if is_ink.mean() + border.mean() > 1:  # Paper has most of the area and of the border.
            is_ink, tone = ~is_ink, -tone
        tone = tone - _estimate_background(tone, ~is_ink)
    contrast = _quantile(tone[is_ink], 0.9) if is_ink.any() else 0.0
    if contrast < _SMALLEST_CONTRAST:
        raise NoInkError(
            "no ink found: expected a digit on a background of another tone, found tones within "
            f"{max(0.0, contrast):.0f} of 255 levels; give a picture with more contrast"
        )
    if separation < _SMALLEST_SEPARATION:
        raise NoInkError(
            "no ink found: expected a digit on a plain background, found tones that run into one "
            "another, as in noise; give a picture with more contrast"
        )
    ink = tone / np.float32(contrast)
    # Noise goes both ways, a stroke's soft edges but one: its lower quartile is noise alone.
    noise = -_quantile(ink[~is_ink], 0.25) / 0.6745
    drawn = ink > np.clip(_NOISE_REACH * noise, _FAINT, _FAINTEST_STROKE)
    return _drop_specks(ink, drawn)


def _split_tones(tone: np.ndarray) -> tuple[np.ndarray, float]:
    """Splits tones in two so that the groups differ most (N. Otsu, 1979).

    Args:
      tone: float32 [height, width].

    Returns:
      Which pixels have the higher tone, bool [height, width], and the share of the variance
      that the split explains.
    """
    counts, edges = np.histogram(tone, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    share = np.cumsum(counts)[:-1] / tone.size
    mean = np.cumsum(counts * middles) / tone.size
    both = share * (1 - share)  # 0 where one group is empty
    between = np.where(both > 0, (mean[-1] * share - mean[:-1]) ** 2 / np.maximum(both, 1e-9), 0)
    best = int(np.argmax(between))
    variance = float(np.sum(counts * (middles - mean[-1]) ** 2) / tone.size)
    return tone > edges[best + 1], float(between[best]) / variance if variance else 0.0


def _estimate_background(tone: np.ndarray, is_background: np.ndarray) -> np.ndarray:
    """Fits a plane to the background, since light often falls from one side.

    It goes through the medians of a 3x3 grid's outer cells, so neither a few wrong pixels nor
    a stroke's soft edges bend it.

    Args:
      tone: float32 [height, width].
      is_background: bool [height, width].

    Returns:
      float32 [height, width].
    """
    height, width = tone.shape
    points, medians = [], []
    for row in range(3):
        for column in range(3):
            cell = (
                slice(row * height // 3, (row + 1) * height // 3),
                slice(column * width // 3, (column + 1) * width // 3),
            )
            values = tone[cell][is_background[cell]]
            if values.size and (row, column) != (1, 1):
                points.append((1.0, (row - 1) / 3, (column - 1) / 3))
                medians.append(_quantile(values, 0.5))
    plane = np.linalg.lstsq(np.array(points), np.array(medians), rcond=None)[0]
    down = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    across = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    return (plane[0] + plane[1] * down[:, None] + plane[2] * across).astype(np.float32)


def _quantile(values: np.ndarray, share: float) -> float:
    """Returns the value that this share lies below; NumPy's own imports far more when called."""
    place = int(share * (values.size - 1))
    return float(np.partition(values, place)[place])


def _drop_specks(ink: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Takes away what is drawn but too little to be part of the digit.

    Args:
      ink: float32 [height, width].
      drawn: bool [height, width].

    Returns:
      Both without the specks.
    """
    pieces = _label_pieces(drawn)
    masses = np.bincount(pieces.ravel(), weights=(ink * drawn).ravel())
    specks = (masses < _SPECK * masses.max())[pieces] & drawn
    return np.where(specks, np.float32(0), ink), drawn & ~specks


def _label_pieces(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected pieces of a mask; pixels connect to their eight neighbours.

    Works on the rows' runs of pixels: each is linked with those it touches in the next row, then
    the smallest number of linked runs spreads.

    Args:
      mask: bool [height, width].

    Returns:
      int64 [height, width]: 0 outside the mask, otherwise a number for each piece.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 1), np.int8)  # The extra column ends each row's last run.
    padded[:, :width] = mask
    steps = np.diff(padded.ravel(), prepend=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    first = np.searchsorted(ends, starts + width + 1)
    touched = np.searchsorted(starts, ends + width + 1, side="right") - first
    upper = np.repeat(np.arange(starts.size), touched)
    lower = np.arange(upper.size) - np.repeat(np.cumsum(touched) - touched - first, touched)
    number = np.arange(starts.size)
    while np.any(number[upper] != number[lower]):
        smaller = np.minimum(number[upper], number[lower])
        np.minimum.at(number, number[upper], smaller)
        np.minimum.at(number, number[lower], smaller)
        number = number[number]
    pieces = np.zeros(padded.size, np.int64)
    pieces[padded.ravel() == 1] = np.repeat(number + 1, ends - starts)
    return pieces.reshape(padded.shape)[:, :width]


def _fit(ink: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Fits ink into the middle 20/28 of the frame and centres it by mass, as MNIST was made.

    Args:
      ink: float32 [height, width], cropped.
      image_shape: height, width and channels of the frame.

    Returns:
      uint8 [height, width, channels]; the strongest pixel is 255.
    """
    height, width, channels = image_shape
    scale = min(
        round(height * _DIGIT_SHARE) / ink.shape[0], round(width * _DIGIT_SHARE) / ink.shape[1]
    )
    rows, columns = (max(1, round(side * scale)) for side in ink.shape)
    digit = _resampling(ink.shape[0], rows) @ ink @ _resampling(ink.shape[1], columns).T
    digit = np.clip(digit, 0, None)
    down = digit.sum(axis=1) @ np.arange(rows) / digit.sum()
    across = digit.sum(axis=0) @ np.arange(columns) / digit.sum()
    # MNIST's centres of mass are at (14, 14), counted from the first pixel's middle.
    top = min(max(round(height / 2 - down), 0), height - rows)
    left = min(max(round(width / 2 - across), 0), width - columns)
    frame = np.zeros((height, width), np.uint8)
    frame[top : top + rows, left : left + columns] = np.round(digit * (255 / digit.max()))
    return np.repeat(frame[:, :, None], channels, axis=2)


def _resampling(old: int, new: int) -> np.ndarray:
    """Returns the matrix that turns a row of `old` pixels into one of `new`.

    A new pixel is the mean over what it covers of the old ones, exact to fractions of a pixel;
    when enlarging, it covers one old pixel's width, which is linear interpolation. Rows add up
    to 1, and the same size changes nothing.

    Args:
      old: number of pixels before.
      new: number of pixels after.

    Returns:
      float32 [new, old].
    """
    step = old / new
    middles = (np.arange(new)[:, None] + 0.5) * step
    reach = max(step, 1) / 2
    starts = np.arange(old)[None, :]
    overlap = np.minimum(middles + reach, starts + 1) - np.maximum(middles - reach, starts)
    overlap = np.clip(overlap, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
