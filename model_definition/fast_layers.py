"""TF-Slim's layers for training in float32, computed so that a CPU is quick at their gradients.

Each is the same function as the layer of its name in TF-Slim, with the same variables. TensorFlow's
own operations reach a fraction of the processor's speed in most of LeNet's gradients; what is
faster stands with each layer, and benchmarks/NOTES.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

from model_definition.fourier_conv import fourier_conv2d, saves_work

_Initializer = Callable[..., tf.Tensor]
_Regularizer = Callable[[tf.Tensor], tf.Tensor]


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
    """Convolves with stride 1 and padding SAME.

    A single channel becomes one matrix product with the pixels under each tap; large kernels on
    small images are products in frequencies.

    Args:
      inputs: float32 [n, height, width, channels]; n may be unknown.
      filters: how many.
      kernel_size: height and width.
      weights_initializer: as TF-Slim takes it.
      weights_regularizer: the same.
      biases_initializer: the same; None for no biases.
      scope: of the variables.

    Returns:
      float32 [n, height, width, filters].
    """
    _, height, width, channels = inputs.shape
    convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = _direct_conv2d
    if channels == 1:
        convolve = _tap_conv2d
    elif saves_work((height, width), kernel_size, channels, filters):
        convolve = fourier_conv2d
    shape = [*kernel_size, channels, filters]
    with tf.compat.v1.variable_scope(scope):
        outputs = convolve(inputs, _weights(shape, weights_initializer, weights_regularizer))
        return _add_biases(outputs, biases_initializer)


def fully_connected(
    inputs: tf.Tensor,
    units: int,
    *,
    weights_initializer: _Initializer,
    weights_regularizer: _Regularizer | None,
    biases_initializer: _Initializer | None,
    scope: str,
) -> tf.Tensor:
    """Multiplies with a matrix of weights.

    Args:
      inputs: float32 [n, inputs]; n may be unknown.
      units: how many outputs.
      weights_initializer: as TF-Slim takes it.
      weights_regularizer: the same.
      biases_initializer: the same; None for no biases.
      scope: of the variables.

    Returns:
      float32 [n, units].
    """
    with tf.compat.v1.variable_scope(scope):
        weights = _weights([inputs.shape[1], units], weights_initializer, weights_regularizer)
        return _add_biases(_matmul(inputs, weights), biases_initializer)


def halves_evenly(inputs: tf.Tensor, pool_size: tuple[int, int], stride: tuple[int, int]) -> bool:
    """Tells whether a pool is one that `max_pool2d` computes.

    Args:
      inputs: [n, height, width, channels].
      pool_size: height and width.
      stride: the same.
    """
    even = inputs.shape[1] % 2 == 0 and inputs.shape[2] % 2 == 0
    return even and tuple(pool_size) == tuple(stride) == (2, 2)


@tf.custom_gradient
def max_pool2d(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Takes the largest of every 2x2 pixels.

    The gradient goes to the first of several largest, row by row, as TensorFlow's does; but by two
    comparisons of halves, where TensorFlow's searches each window anew on one place after another.

    Args:
      inputs: float32 [n, height, width, channels] of even height and width; n may be unknown.

    Returns:
      float32 [n, height / 2, width / 2, channels].
    """
    _, height, width, channels = inputs.shape
    columns, left_wins = _larger_half(tf.reshape(inputs, [-1, 2 * channels]))
    rows, top_wins = _larger_half(tf.reshape(columns, [-1, width * channels]))

    def gradient(by_outputs: tf.Tensor) -> tf.Tensor:
        by_rows = tf.reshape(by_outputs, [-1, width // 2 * channels])
        by_columns = tf.reshape(_to_halves(by_rows, top_wins), [-1, channels])
        return tf.reshape(_to_halves(by_columns, left_wins), [-1, height, width, channels])

    return tf.reshape(rows, [-1, height // 2, width // 2, channels]), gradient


def _larger_half(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the larger of the first and the second half of each row, and 1 where the first is."""
    middle = values.shape[1] // 2
    first, second = values[:, :middle], values[:, middle:]
    return tf.maximum(first, second), tf.cast(first >= second, tf.float32)


def _to_halves(gradient: tf.Tensor, first_wins: tf.Tensor) -> tf.Tensor:
    first = gradient * first_wins
    return tf.concat([first, gradient - first], axis=1)


def _weights(
    shape: list[int], initializer: _Initializer, regularizer: _Regularizer | None
) -> tf.Tensor:
    variable = slim.model_variable(
        "weights", shape, initializer=initializer, regularizer=regularizer
    )
    return variable.read_value()


def _add_biases(outputs: tf.Tensor, initializer: _Initializer | None) -> tf.Tensor:
    if initializer is None:
        return outputs
    biases = slim.model_variable("biases", [outputs.shape[-1]], initializer=initializer)
    return tf.nn.bias_add(outputs, biases)


def _direct_conv2d(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(inputs, kernel, 1, "SAME")


def _tap_conv2d(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves a single channel: the pixels under each tap are one row of a matrix."""
    _, height, width, _ = inputs.shape
    kernel_height, kernel_width, _, filters = kernel.shape
    before = [((size - 1) // 2, size // 2) for size in (kernel_height, kernel_width)]
    padded = tf.pad(inputs[..., 0], [(0, 0), *before])
    taps = tf.stack(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(kernel_height)
            for column in range(kernel_width)
        ]
    )
    taps = tf.reshape(taps, [kernel_height * kernel_width, -1])
    outputs = tf.matmul(taps, tf.reshape(kernel, [-1, filters]), transpose_a=True)
    return tf.reshape(outputs, [-1, height, width, filters])


@tf.custom_gradient
def _matmul(
    inputs: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Multiplies; the inputs' gradient comes as the transpose, with the large matrix in front.

    With 128 rows that takes a quarter of the time.
    """

    def gradient(by_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        by_inputs = tf.transpose(tf.matmul(weights, by_outputs, transpose_b=True))
        return by_inputs, tf.matmul(inputs, by_outputs, transpose_a=True)

    return tf.matmul(inputs, weights), gradient
