"""Test-time shifts: the copies of an image, moved by a few pixels, over which answers are averaged.

Averaging over distorted copies is as old as AlexNet (Krizhevsky et al. 2012, section 4.1, which
averages over ten patches of an image).
"""

from __future__ import annotations

import tensorflow as tf


def count_copies(reach: int) -> int:
    """Returns how many copies of an image there are, shifted by up to `reach` pixels both ways."""
    return (2 * reach + 1) ** 2


def build_shifted_copies(images: tf.Tensor, reach: int) -> tf.Tensor:
    """Adds to the graph every copy of images that is shifted by whole pixels.

    Args:
      images: [n, height, width, channels], n may be unknown.
      reach: the largest shift in pixels, along either side.

    Returns:
      The same type, [copies * n, height, width, channels]: all images with the first shift, then
      all with the second, and so on; zeros are shifted in. With a reach of 0 the images themselves.
    """
    if reach == 0:
        return images
    height, width = images.shape[1:3]
    padded = tf.pad(images, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
    places = range(2 * reach + 1)
    copies = [padded[:, y : y + height, x : x + width] for y in places for x in places]
    return tf.concat(copies, axis=0)


def build_copies_apart(values: tf.Tensor, reach: int) -> tf.Tensor:
    """Adds to the graph what was computed of shifted copies, an axis for the copies in front.

    Args:
      values: [copies * n, k], of what `build_shifted_copies` returned.
      reach: as there.

    Returns:
      [copies, n, k].
    """
    return tf.reshape(values, [count_copies(reach), -1, values.shape[1]])
