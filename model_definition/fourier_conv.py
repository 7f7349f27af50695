"""Convolution by the discrete Fourier transform, made of matrix products alone.

A convolution becomes a product in each frequency (the convolution theorem), so that a 5x5 kernel on
14x14 places takes 576 multiplications for each pair of channels instead of 4,900. At such sizes the
transforms are matrix products with constants, and so are their gradients. Nothing is approximated:
the result is the direct convolution's but for rounding, about 1e-6 of the largest value.

Complex numbers are pairs of real ones, (real, imaginary), along an axis of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_slim as slim

_Initializer = Callable[..., tf.Tensor]
_Regularizer = Callable[[tf.Tensor], tf.Tensor]
_WORTHWHILE = 3.0  # times less work; the direct convolution is one operation, this one a dozen


def saves_work(
    image_size: tuple[int, int], kernel_size: tuple[int, int], channels: int, filters: int
) -> bool:
    """Tells whether a convolution of stride 1 with padding SAME is quicker in frequencies.

    Args:
      image_size: height and width.
      kernel_size: height and width.
      channels: of the images.
      filters: of the kernel.
    """
    (height, width), (rows, columns) = image_size, _periods(image_size, kernel_size)
    half = rows // 2 + 1
    direct = height * width * kernel_size[0] * kernel_size[1] * channels * filters
    products = 4 * half * columns * channels * filters
    transforms = (2 * half * height * width + 4 * half * columns * width) * (channels + filters)
    return direct > _WORTHWHILE * (products + transforms)


@slim.add_arg_scope
def conv2d(
    inputs: tf.Tensor,
    filters: int,
    kernel_size: tuple[int, int],
    *,
    weights_initializer: _Initializer,
    weights_regularizer: _Regularizer | None,
    biases_initializer: _Initializer | None,
    scope: str,
) -> tf.Tensor:
    """Convolves in frequencies: `slim.conv2d` with stride 1, padding SAME and no activation.

    Args:
      inputs: float32 [n, height, width, channels]; n may be unknown.
      filters: how many.
      kernel_size: height and width.
      weights_initializer: as TF-Slim takes it.
      weights_regularizer: the same.
      biases_initializer: the same; None for no biases.
      scope: of the variables, `weights` and `biases`.

    Returns:
      float32 [n, height, width, filters].
    """
    with tf.compat.v1.variable_scope(scope):
        weights = slim.model_variable(
            "weights",
            [*kernel_size, inputs.shape[-1], filters],
            initializer=weights_initializer,
            regularizer=weights_regularizer,
        )
        outputs = fourier_conv2d(inputs, weights.read_value())
        if biases_initializer is None:
            return outputs
        biases = slim.model_variable("biases", [filters], initializer=biases_initializer)
        return tf.nn.bias_add(outputs, biases)


def fourier_conv2d(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves as `tf.nn.conv2d` does with stride 1 and padding SAME.

    Args:
      images: float32 [n, height, width, channels]; n may be unknown.
      kernel: float32 [kernel height, kernel width, channels, filters].

    Returns:
      float32 [n, height, width, filters].
    """
    _, height, width, channels = images.shape
    kernel_height, kernel_width, _, filters = kernel.shape
    rows, columns = _periods((height, width), (kernel_height, kernel_width))
    frequencies = (rows // 2 + 1) * columns
    # The batch comes last: then each transform is a product from the left, whatever follows.
    places = tf.transpose(tf.reshape(images, [-1, height * width * channels]))
    x = _transform(places, np.arange(height), np.arange(width), rows, columns)
    x = tf.reshape(x, [frequencies, 2 * channels, -1])
    # A place looks ahead by its tap's distance from the middle, which is a shift backwards.
    down, across = ((size - 1) // 2 - np.arange(size) for size in (kernel_height, kernel_width))
    k = _transform(tf.transpose(kernel, [0, 1, 3, 2]), down, across, rows, columns)
    real, imaginary = tf.unstack(tf.reshape(k, [frequencies, 2, filters, channels]), axis=1)
    upper, lower = tf.concat([real, -imaginary], axis=2), tf.concat([imaginary, real], axis=2)
    y = tf.matmul(tf.concat([upper, lower], axis=1), x)  # [frequencies, 2 filters, n]
    y = _transform_back(y, (height, width), rows, columns)
    y = tf.transpose(tf.reshape(y, [height * width * filters, -1]))
    return tf.reshape(y, [-1, height, width, filters])


def _periods(image_size: tuple[int, int], kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Returns after how many places an image may repeat so that no kernel sees two of them."""
    height, width = (
        size + max((kernel - 1) // 2, kernel // 2)
        for size, kernel in zip(image_size, kernel_size, strict=True)
    )
    return height, width


def _waves(places: np.ndarray, period: int, count: int) -> np.ndarray:
    """Returns the first frequencies' waves at some places, complex [count, places]."""
    return np.exp(-2j * np.pi * np.outer(np.arange(count), places) / period)


def _transform(
    values: tf.Tensor, down: np.ndarray, across: np.ndarray, rows: int, columns: int
) -> tf.Tensor:
    """Transforms real values, whose axes begin with places down and across.

    Returns:
      float32 [half of the frequencies down, frequencies across x 2, rest]; real values' other half
      is conjugate to it.
    """
    half = rows // 2 + 1
    first = _waves(down, rows, half)
    first = np.stack([first.real, first.imag], axis=1).reshape(2 * half, len(down))
    second = _waves(across, columns, columns)
    pairs = [[second.real, -second.imag], [second.imag, second.real]]  # [out, in, v, place]
    second = np.transpose(pairs, [2, 0, 1, 3]).reshape(2 * columns, 2 * len(across))
    values = tf.matmul(_constant(first), tf.reshape(values, [len(down), -1]))
    return tf.matmul(_constant(second, half), tf.reshape(values, [half, 2 * len(across), -1]))


def _transform_back(
    values: tf.Tensor, image_size: tuple[int, int], rows: int, columns: int
) -> tf.Tensor:
    """Undoes `_transform` on an image's places; returns float32 [height, width x rest]."""
    (height, width), half = image_size, rows // 2 + 1
    first = np.conj(_waves(np.arange(width), columns, columns)) / columns
    pairs = [[first.real, -first.imag], [first.imag, first.real]]  # [out, in, v, place]
    first = np.transpose(pairs, [0, 3, 2, 1]).reshape(2 * width, 2 * columns)
    # Every frequency stands for its conjugate as well, but for those that are their own.
    twice = np.where(2 * np.arange(half) % rows == 0, 1.0, 2.0)
    second = np.conj(_waves(np.arange(height), rows, half)).T * twice / rows
    second = np.stack([second.real, -second.imag], axis=2).reshape(height, 2 * half)
    values = tf.matmul(_constant(first, half), tf.reshape(values, [half, 2 * columns, -1]))
    return tf.matmul(_constant(second), tf.reshape(values, [2 * half, -1]))


def _constant(matrix: np.ndarray, copies: int | None = None) -> tf.Tensor:
    """Returns a float32 constant; as copies, for TensorFlow is slow at repeating one by itself."""
    shape = matrix.shape if copies is None else (copies, *matrix.shape)
    return tf.constant(np.broadcast_to(matrix, shape), tf.float32)
