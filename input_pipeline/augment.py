"""Random distortions of training images: whole batches at once, in the graph, by seed.

All of them are one resampling: every output pixel looks up a place in the input, which an affine
map (shift, rotation, zoom, shear) and an elastic displacement (Simard, Steinkraus and Platt,
"Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", 2003)
decide together, and takes the bilinear mean of its four neighbours. What lies outside is 0.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from input_pipeline.augmentation import Augmentation

ELASTIC_SIGMA = 4.0  # pixels; Simard et al. smooth 28x28 digits with 4


def augment(images: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Distorts every image of a batch in its own way.

    Args:
      images: float32 [n, height, width, channels].
      augmentation: how far.
      seed: int32 or int64 [2]; the same seed gives the same distortions.

    Returns:
      float32 [n, height, width, channels], within the range of `images` and 0.
    """
    _, height, width, _ = images.shape
    matrices, offsets = _random_affine(tf.shape(images)[0], height, width, augmentation, seed)
    if not augmentation.elastic:
        return _sample_affine(images, matrices, offsets)
    displacement = _random_displacement(tf.shape(images)[0], height, width, seed + 1)
    places = augmentation.elastic * tf.reshape(displacement, [-1, height * width, 2])
    grid = np.mgrid[:height, :width].reshape(2, 1, height * width).astype(np.float32)
    rows, columns = (
        grid[0] * matrices[:, 0, axis, tf.newaxis]
        + grid[1] * matrices[:, 1, axis, tf.newaxis]
        + offsets[:, axis, tf.newaxis]
        for axis in (0, 1)
    )
    return _sample_bilinear(images, places + tf.stack([rows, columns], axis=-1))


def _random_affine(
    n: tf.Tensor, height: int, width: int, augmentation: Augmentation, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns [n, 2, 2] matrices and [n, 2] offsets that map output places to input places.

    A place is a row vector (row, column): the input's is the output's times the matrix, plus the
    offset.
    """
    draws = tf.unstack(tf.random.stateless_uniform([5, n], seed, -1.0, 1.0))
    angle = draws[0] * math.radians(augmentation.rotation)
    scale = 1.0 / (1.0 + draws[1] * augmentation.zoom)
    slant = tf.tan(draws[2] * math.radians(augmentation.shear))
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    # Row vectors (row, column) times the slant, then times the scaled rotation.
    first = tf.stack([cos + slant * sin, slant * cos - sin], axis=-1)
    second = tf.stack([sin, cos], axis=-1)
    reach = tf.constant([height, width], tf.float32) * augmentation.shift
    offsets = tf.stack(draws[3:], axis=-1) * reach
    matrices = tf.stack([first, second], axis=1)
    # Drawn about the centre, which the matrix itself would move.
    centre = tf.constant([(height - 1) / 2, (width - 1) / 2])
    return matrices, offsets + centre - tf.linalg.matvec(matrices, centre, transpose_a=True)


def _random_displacement(n: tf.Tensor, height: int, width: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns smooth random displacements, float32 [n, height, width, 2], before scaling."""
    field = tf.random.stateless_uniform([n, height, width, 2], seed, -1.0, 1.0)
    field = tf.transpose(field, [1, 2, 0, 3])  # [height, width, n, 2]
    field = tf.matmul(_gaussian(height), tf.reshape(field, [height, -1]))
    field = tf.transpose(tf.reshape(field, [height, width, -1]), [1, 0, 2])
    field = tf.matmul(_gaussian(width), tf.reshape(field, [width, -1]))
    return tf.transpose(tf.reshape(field, [width, height, n, 2]), [2, 1, 0, 3])


def _gaussian(size: int) -> tf.Tensor:
    """Returns the matrix [size, size] that smooths a column; beyond its ends are zeros."""
    reach = int(3 * ELASTIC_SIGMA)
    taps = np.exp(-np.square(np.arange(-reach, reach + 1) / ELASTIC_SIGMA) / 2)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    weights = np.where(distance <= reach, np.exp(-np.square(distance / ELASTIC_SIGMA) / 2), 0.0)
    return tf.constant(weights / taps.sum(), tf.float32)


def _sample_affine(images: tf.Tensor, matrices: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
    """Looks up every pixel's place under an affine map, as `_sample_bilinear` does."""
    zeros = tf.zeros_like(offsets)
    # The operation takes columns first.
    by_column = [matrices[:, 1, 1], matrices[:, 0, 1], offsets[:, 1]]
    by_row = [matrices[:, 1, 0], matrices[:, 0, 0], offsets[:, 0]]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.concat([tf.stack(by_column + by_row, axis=1), zeros], axis=1),
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _sample_bilinear(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Looks up places (row, column), [n, height * width, 2], in a batch of images."""
    n = tf.shape(images)[0]
    _, height, width, channels = images.shape
    # One pixel of padding, and places clipped to it, make everything outside 0.
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    limit = tf.constant([height + 1.0, width + 1.0])
    places = tf.clip_by_value(places + 1.0, 0.0, limit)
    corner = tf.minimum(tf.floor(places), limit - 1.0)
    down, right = tf.split(places - corner, 2, axis=-1)
    row, column = tf.unstack(tf.cast(corner, tf.int32), axis=-1)
    # The four neighbours side by side are found at once.
    corners = [padded[:, y : y + height + 1, x : x + width + 1] for y in (0, 1) for x in (0, 1)]
    squares = tf.reshape(tf.concat(corners, axis=-1), [-1, 4 * channels])
    index = (tf.range(n)[:, tf.newaxis] * (height + 1) + row) * (width + 1) + column
    values = tf.split(tf.gather(squares, index), 4, axis=-1)  # 4 x [n, height * width, channels]
    top = values[0] * (1.0 - right) + values[1] * right
    bottom = values[2] * (1.0 - right) + values[3] * right
    return tf.reshape(top * (1.0 - down) + bottom * down, tf.shape(images))
