"""Brings a digit to the form that MNIST's images have, and whole pictures to a frame's size.

MNIST's images were made from scans of handwriting: the ink was fitted into 20x20 pixels with its
aspect ratio kept, and moved so that its centre of mass is the centre of the 28x28 frame, light on
black (http://yann.lecun.com/exdb/mnist). The same is done here to any ink, in one way for all; an
image that already is in that form comes out as it went in.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from predict.page.median import median

# A digit takes 20 of the frame's 28 pixels, whatever the size of the frame.
_DIGIT_SHARE = 20 / 28
# Nobody's writing leans more than this, columns a row: 45 degrees. A dash's moments may say so.
_MOST_SLANTED = 1.0
# Where a slanted stroke was, columns with less than this share of full ink are but its soft edge.
_SOFT = 0.2


def fit(ink: np.ndarray, image_shape: tuple[int, ...], *, is_deslanted: bool = False) -> np.ndarray:
    """Fits ink into the middle 20/28 of the frame and centres it by mass, as MNIST was made.

    Args:
      ink: float32 [height, width], cropped.
      image_shape: height, width and channels of the frame.
      is_deslanted: the digit's slant is taken away first; see `deslant`.

    Returns:
      uint8 [height, width, channels]; the strongest pixel is 255.
    """
    if is_deslanted:
        ink = deslant(ink)
    height, width, channels = image_shape
    scale = min(
        round(height * _DIGIT_SHARE) / ink.shape[0], round(width * _DIGIT_SHARE) / ink.shape[1]
    )
    rows, columns = (max(1, round(side * scale)) for side in ink.shape)
    digit = np.clip(resize(ink, rows, columns), 0, None)
    down = digit.sum(axis=1) @ np.arange(rows) / digit.sum()
    across = digit.sum(axis=0) @ np.arange(columns) / digit.sum()
    # MNIST's centres of mass are at (14, 14), counted from the first pixel's middle.
    top = min(max(round(height / 2 - down), 0), height - rows)
    left = min(max(round(width / 2 - across), 0), width - columns)
    frame = np.zeros((height, width), np.uint8)
    frame[top : top + rows, left : left + columns] = np.round(digit * (255 / digit.max()))
    return np.repeat(frame[:, :, None], channels, axis=2)


def deslant(ink: np.ndarray) -> np.ndarray:
    """Sets a digit upright: a shear about its centre of mass makes its principal axis vertical.

    The axis is that of the second moments, as in LeCun et al., "Gradient-based learning applied to
    document recognition", 1998, section III.A: each row moves sideways by as much as the digit's
    middle does there, so that rows and columns are no longer correlated.

    Args:
      ink: float32 [height, width].

    Returns:
      float32 [height, other width], cropped to the ink's columns.
    """
    height, width = ink.shape
    ink = np.clip(ink, 0, None)
    mass = max(float(ink.sum()), 1e-9)
    rows, columns = np.arange(height), np.arange(width)
    down = rows - ink.sum(axis=1) @ rows / mass
    across = columns - ink.sum(axis=0) @ columns / mass
    variance = float(ink.sum(axis=1) @ down**2) / mass
    covariance = float(down @ ink @ across) / mass
    slope = float(np.clip(covariance / max(variance, 1e-9), -_MOST_SLANTED, _MOST_SLANTED))
    shifts = -slope * down
    spare = int(np.ceil(np.abs(shifts).max()))
    padded = np.pad(ink, ((0, 0), (spare + 1, spare + 1)))
    # Each pixel of the result lies between two of its row.
    places = np.arange(width + 2 * spare)[None, :] + 1 - shifts[:, None]
    left = np.clip(np.floor(places).astype(int), 0, padded.shape[1] - 2)
    share = (places - left).astype(np.float32)
    row = rows[:, None]
    upright = padded[row, left] * (1 - share) + padded[row, left + 1] * share
    drawn = np.flatnonzero(upright.max(axis=0) >= _SOFT * upright.max())
    return upright[:, drawn[0] : drawn[-1] + 1]


def resize(ink: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Returns ink, float32 [height, width], at another size: float32 [rows, columns]."""
    return _resampling(ink.shape[0], rows) @ ink @ _resampling(ink.shape[1], columns).T


def take_whole(pixels: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Scales a picture to fit the frame, and fills that up with the middle colour of its border.

    Images that a model learnt as a whole came from `data_prep/image_folder.py`, which does this.

    Args:
      pixels: uint8 [height, width, 3], RGB.
      image_shape: height, width and channels of the frame.

    Returns:
      uint8 [height, width, channels].
    """
    height, width, channels = image_shape
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape[:2])
    picture = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    scaled = np.asarray(picture.resize((columns, rows), Image.Resampling.LANCZOS))
    scaled = scaled.reshape(rows, columns, channels)
    border = np.concatenate([scaled[0], scaled[-1], scaled[:, 0], scaled[:, -1]])
    frame = np.empty(image_shape, np.uint8)
    frame[:] = median(border.T).astype(np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    frame[top : top + rows, left : left + columns] = scaled
    return frame


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
