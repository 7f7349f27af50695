"""Grey and binary operations on whole pictures that NumPy and Pillow do fast.

SciPy has them too, but to import `scipy.ndimage` takes longer than to read a page.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image


def dilate(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the largest value in a window around each pixel.

    Args:
      image: [rows, columns], of any type that has an order.
      height: of the window, odd.
      width: of the window, odd.
    """
    return _run(np.maximum, _run(np.maximum, image, height, 0), width, 1)


def erode(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the smallest value in a window around each pixel; see `dilate`."""
    return _run(np.minimum, _run(np.minimum, image, height, 0), width, 1)


def close(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fills what is darker than all around and narrower than the window; see `dilate`."""
    return erode(dilate(image, height, width), height, width)


def open_(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Removes what is lighter than all around and narrower than the window; see `dilate`."""
    return dilate(erode(image, height, width), height, width)


def _run(operation: Callable, image: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Combines each pixel with the `length - 1` around it on an axis.

    By doubling, in log2(length) steps. Beyond the border the picture is mirrored.
    """
    if length == 1 or image.size == 0:
        return image
    combined = _mirror(image, length // 2, axis)
    reach = 1
    while reach < length:
        step = min(reach, length - reach)
        if axis == 0:
            combined = operation(combined[:-step], combined[step:])
        else:
            combined = operation(combined[:, :-step], combined[:, step:])
        reach += step
    return combined


def _mirror(image: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Extends a picture at both ends of an axis by its mirror image.

    Args:
      image: [rows, columns].
      reach: pixels at each end.
      axis: 0 for rows above and below, 1 for columns.
    """
    if reach > image.shape[axis]:  # Mirrored more than once.
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach, reach)
        return np.pad(image, padding, mode="symmetric")
    # Most windows are of a digit's size, where NumPy's own function takes longer than all the rest.
    if axis == 0:
        return np.concatenate([image[:reach][::-1], image, image[-reach:][::-1]])
    return np.concatenate([image[:, :reach][:, ::-1], image, image[:, -reach:][:, ::-1]], axis=1)


def mean_around(image: np.ndarray, side: int) -> np.ndarray:
    """Returns the mean in a square window around each pixel, of float32 [rows, columns].

    Beyond the border the picture is mirrored.

    Args:
      image: [rows, columns].
      side: of the window, odd.
    """
    padded = np.pad(image, side // 2 + 1, mode="symmetric").astype(np.float64)
    sums = padded.cumsum(axis=0).cumsum(axis=1)
    total = (
        sums[side:-1, side:-1]
        - sums[: -side - 1, side:-1]
        - sums[side:-1, : -side - 1]
        + sums[: -side - 1, : -side - 1]
    )
    return (total / side**2).astype(np.float32)


def enlarge(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolates a picture to another size.

    Args:
      image: float32 [rows, columns].
      shape: the new number of rows and columns.

    Returns:
      float32 [*shape].
    """
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR))


def label(mask: np.ndarray) -> np.ndarray:
    """Numbers the connected pieces of a mask; pixels connect to their eight neighbours.

    Works on the rows' runs of pixels: each is linked with those it touches in the next row, then
    the smallest number of linked runs spreads.

    Args:
      mask: bool [rows, columns].

    Returns:
      int32 [rows, columns]: 0 outside the mask, 1, 2, … within it.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 1), np.int8)  # The extra column ends each row's last run.
    padded[:, :width] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
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
    number = np.cumsum(number == np.arange(number.size))[number]
    pieces = np.zeros(padded.size, np.int32)
    pieces[padded.ravel() == 1] = np.repeat(number, ends - starts)
    return pieces.reshape(padded.shape)[:, :width]
