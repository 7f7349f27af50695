"""Random distortions of training images: whole batches at once, in the graph, by seed.

All of them are one resampling: every output pixel looks up a place in the input, which an affine
map (shift, rotation, zoom, shear) and an elastic displacement (Simard, Steinkraus and Platt,
"Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", 2003)
decide together, and takes the bilinear mean of its four neighbours. What lies outside is 0.
"""

from __future__ import annotations

import math

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
    height, width = images.shape[1], images.shape[2]
    rows, columns = tf.meshgrid(
        tf.range(height, dtype=tf.float32) - (height - 1) / 2,
        tf.range(width, dtype=tf.float32) - (width - 1) / 2,
        indexing="ij",
    )
    grid = tf.reshape(tf.stack([rows, columns], axis=-1), [1, height * width, 2])
    matrices, offsets = _random_affine(tf.shape(images)[0], height, width, augmentation, seed)
    places = tf.matmul(tf.repeat(grid, tf.shape(images)[0], axis=0), matrices) + offsets
    if augmentation.elastic:
        displacement = _random_displacement(tf.shape(images)[0], height, width, seed + 1)
        places += augmentation.elastic * tf.reshape(displacement, [-1, height * width, 2])
    centre = tf.constant([(height - 1) / 2, (width - 1) / 2])
    return _sample_bilinear(images, places + centre)


def _random_affine(
    n: tf.Tensor, height: int, width: int, augmentation: Augmentation, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns [n, 2, 2] matrices and [n, 1, 2] offsets that map output places to input places."""
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
    return tf.stack([first, second], axis=1), offsets[:, tf.newaxis, :]


def _random_displacement(n: tf.Tensor, height: int, width: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns smooth random displacements, float32 [n, height, width, 2], before scaling."""
    field = tf.random.stateless_uniform([n, height, width, 2], seed, -1.0, 1.0)
    reach = int(3 * ELASTIC_SIGMA)
    taps = tf.exp(-tf.square(tf.range(-reach, reach + 1, dtype=tf.float32) / ELASTIC_SIGMA) / 2)
    taps /= tf.reduce_sum(taps)
    for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        kernel = tf.tile(tf.reshape(taps, shape), [1, 1, 2, 1])
        field = tf.nn.depthwise_conv2d(field, kernel, [1, 1, 1, 1], "SAME")
    return field


def _sample_bilinear(images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Looks up places (row, column), [n, height * width, 2], in a batch of images."""
    n = tf.shape(images)[0]
    _, height, width, channels = images.shape
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    flat = tf.reshape(padded, [n, (height + 2) * (width + 2), channels])
    # One pixel of padding, and places clipped to it, make everything outside 0.
    limit = tf.constant([height + 1.0, width + 1.0])
    places = tf.clip_by_value(places + 1.0, 0.0, limit)
    corner = tf.minimum(tf.floor(places), limit - 1.0)
    part = places - corner
    row, column = tf.unstack(tf.cast(corner, tf.int32), axis=-1)
    first = row * (width + 2) + column
    down, right = part[..., 0:1], part[..., 1:2]
    corners = tf.stack([first, first + 1, first + width + 2, first + width + 3], axis=1)
    values = tf.gather(flat, corners, batch_dims=1)  # [n, 4, height * width, channels]
    top = values[:, 0] * (1.0 - right) + values[:, 1] * right
    bottom = values[:, 2] * (1.0 - right) + values[:, 3] * right
    return tf.reshape(top * (1.0 - down) + bottom * down, tf.shape(images))
