"""The learning rate's schedule and the operation that makes one training step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf
import tf_slim as slim

from train.config import TrainConfig

_ONE_CYCLE_WARMUP = 0.3  # share of the steps; Smith and Topin rise for a little under half
_ONE_CYCLE_START = 0.04  # of the peak


def learning_rate_at(
    step: tf.Tensor, config: TrainConfig, *, total_steps: int, steps_an_epoch: float
) -> tf.Tensor:
    """Builds the learning rate of a step, a function of the step alone.

    Args:
      step: integer [], from 0.
      config: its schedule, learning rate, warm-up and decay.
      total_steps: how many steps the run makes.
      steps_an_epoch: how many steps one pass over the training images makes.

    Returns:
      float32 []. Every schedule first rises linearly through the warm-up. Then `constant` stays,
      `exponential` falls by `decay_rate` an epoch, `cosine` and `one_cycle` follow half a cosine
      down to 0 (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983). `one_cycle` begins
      with a twenty-fifth of the peak and reaches it after 30 % of the run, sooner than its authors
      let it (Smith and Topin 2018, https://arxiv.org/abs/1708.07120).
    """
    one_cycle = config.schedule == "one_cycle"
    warmup = config.warmup_steps
    if warmup is None:
        warmup = int(_ONE_CYCLE_WARMUP * total_steps) if one_cycle else 0
    # one_cycle begins above 0; the others would waste a step there, so they begin one further on.
    begin, ahead = (_ONE_CYCLE_START, 0.0) if one_cycle else (0.0, 1.0)
    now = tf.cast(step, tf.float32)
    rise = begin + (1.0 - begin) * (now + ahead) / float(max(warmup, 1))
    if config.schedule == "exponential":
        fall = tf.pow(config.decay_rate, (now - warmup) / steps_an_epoch)
    elif config.schedule == "constant":
        fall = tf.ones_like(now)
    else:
        progress = (now - warmup) / float(max(total_steps - warmup, 1))
        fall = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
    return config.learning_rate * tf.where(now < warmup, tf.minimum(rise, 1.0), fall)


@dataclass(frozen=True)
class TrainStep:
    """The operations of one step.

    Attributes:
      train_op: applies the gradient and advances the global step.
      learning_rate: float32 [].
      gradient_norm: float32 [], before clipping.
    """

    train_op: tf.Operation
    learning_rate: tf.Tensor
    gradient_norm: tf.Tensor


def build_train_step(
    loss: tf.Tensor,
    config: TrainConfig,
    *,
    total_steps: int,
    steps_an_epoch: float,
    first_step: int = 0,
) -> TrainStep:
    """Adds the optimiser to the graph.

    Weight decay is decoupled (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101): every
    weight, but no bias, shrinks by the learning rate times `weight_decay`.

    Args:
      loss: float32 [].
      config: the optimiser and its values.
      total_steps: how many steps the run makes.
      steps_an_epoch: how many steps one pass over the training images makes.
      first_step: the global step at which the schedule begins.

    Returns:
      The operations of one step.
    """
    step = tf.compat.v1.train.get_or_create_global_step()
    rate = learning_rate_at(
        step - first_step, config, total_steps=total_steps, steps_an_epoch=steps_an_epoch
    )
    optimizer = _OPTIMIZERS[config.optimizer](rate, config)
    variables = tf.compat.v1.trainable_variables()
    gradients = tf.gradients(loss, variables)
    norm = tf.linalg.global_norm(gradients)
    if config.clip_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, config.clip_norm, use_norm=norm)
    before = []
    if config.weight_decay:
        with tf.control_dependencies(gradients):
            shrink = rate * config.weight_decay
            before = [
                variable.assign_sub(shrink * variable)
                for variable in variables
                if variable.op.name.endswith("weights")
            ]
    updates = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies([*before, *updates]):
        pairs = zip(gradients, variables, strict=True)
        train_op = optimizer.apply_gradients(pairs, global_step=step)
    if config.ema_decay:
        averages = tf.train.ExponentialMovingAverage(config.ema_decay, num_updates=step)
        with tf.control_dependencies([train_op]):
            train_op = averages.apply(slim.get_model_variables())
    return TrainStep(train_op, rate, norm)


_Optimizer: TypeAlias = tf.compat.v1.train.Optimizer
_OPTIMIZERS: dict[str, Callable[[tf.Tensor, TrainConfig], _Optimizer]] = {
    "adam": lambda rate, config: tf.compat.v1.train.AdamOptimizer(rate, config.beta1, config.beta2),
    "momentum": lambda rate, config: tf.compat.v1.train.MomentumOptimizer(rate, config.momentum),
    "sgd": lambda rate, config: tf.compat.v1.train.GradientDescentOptimizer(rate),
    "rmsprop": lambda rate, config: tf.compat.v1.train.RMSPropOptimizer(
        rate, momentum=config.momentum
    ),
}
