"""A TF-Slim layer for training in float32 whose gradients a CPU computes quickly."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_slim as slim

from model_definition.fourier_conv import fourier_conv2d

_Initializer = Callable[..., tf.Tensor]
_Regularizer = Callable[[tf.Tensor], tf.Tensor]


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
