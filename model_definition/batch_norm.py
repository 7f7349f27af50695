"""Batch normalisation as a TF-Slim layer, in place of `slim.batch_norm`, which is broken."""

from __future__ import annotations

import tensorflow as tf
import tf_slim as slim


@slim.add_arg_scope
def batch_norm(
    inputs: tf.Tensor,
    *,
    is_training: bool,
    momentum: float = 0.99,
    epsilon: float = 0.001,
    global_step: tf.Tensor | None = None,
    scope: str | None = None,
) -> tf.Tensor:
    """Normalises each channel, then scales and shifts it by what is learnt.

    After Ioffe and Szegedy 2015 (https://arxiv.org/abs/1502.03167). In training the batch's own
    mean and variance are used, and operations in `UPDATE_OPS` take them into the moving averages,
    which are used otherwise. The averages of a run's first steps are short, so that their initial
    values are soon forgotten: at step t they keep min(momentum, (1 + t) / (10 + t)).

    Args:
      inputs: float32 [n, height, width, channels] or [n, units]; n may be unknown.
      is_training: whether to use the batch's own statistics.
      momentum: how much the moving averages keep at each step, 0 to below 1.
      epsilon: added to the variance, above 0.
      global_step: integer [], the training step; only training needs it.
      scope: of the variables `gamma`, `beta`, `moving_mean` and `moving_variance`, each [channels].

    Returns:
      float32, the shape of the inputs.
    """
    channels = inputs.shape[-1]
    with tf.compat.v1.variable_scope(scope, "batch_norm", [inputs]):
        gamma, beta = _variable("gamma", channels, 1.0), _variable("beta", channels, 0.0)
        mean = _variable("moving_mean", channels, 0.0, trainable=False)
        variance = _variable("moving_variance", channels, 1.0, trainable=False)
        # The operation takes images; numbers that are flat already are images of one pixel.
        images = inputs if inputs.shape.rank == 4 else inputs[:, tf.newaxis, tf.newaxis, :]
        if is_training:
            assert global_step is not None, "training needs a step"
            outputs, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(
                images, gamma, beta, epsilon=epsilon, is_training=True
            )
            step = tf.cast(global_step, tf.float32)
            change = 1.0 - tf.minimum(momentum, (1.0 + step) / (10.0 + step))
            for average, value in ((mean, batch_mean), (variance, batch_variance)):
                update = average.assign_sub(change * (average - value), read_value=False)
                tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
        else:
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                images, gamma, beta, mean, variance, epsilon=epsilon, is_training=False
            )
        return tf.reshape(outputs, tf.shape(inputs)) if images is not inputs else outputs


def _variable(name: str, channels: int, value: float, *, trainable: bool = True) -> tf.Variable:
    initializer = tf.compat.v1.constant_initializer(value)
    return slim.model_variable(name, [channels], initializer=initializer, trainable=trainable)
