"""The part of a training graph that every training shares: the model, its loss, and the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf
import tensorflow.compat.v1 as tf1

from model_definition.architecture import Architecture
from model_definition.distillation import Teacher
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from train.config import TrainConfig
from train.optimizer import TrainStep, build_train_step


@dataclass(frozen=True)
class TrainedModel:
    """The operations of a model that is being trained.

    Attributes:
      step: int64 [], the global step after a step has been made; running it makes one.
      loss: float32 [], of the batch.
      accuracy: float32 [], of the batch.
      learning_rate: float32 [], of the step.
      gradient_norm: float32 [], before clipping.
      end_points: the layers' outputs by their names.
    """

    step: tf.Tensor
    loss: tf.Tensor
    accuracy: tf.Tensor
    learning_rate: tf.Tensor
    gradient_norm: tf.Tensor
    end_points: Mapping[str, tf.Tensor]


def build_trained_model(
    features: tf.Tensor,
    labels: tf.Tensor,
    architecture: Architecture,
    config: TrainConfig,
    *,
    total_steps: int,
    steps_an_epoch: float,
    first_step: int = 0,
    teacher: Teacher | None = None,
) -> TrainedModel:
    """Adds a model and its optimiser to the current graph.

    Args:
      features: images float32 [n, height, width, channels], as `preprocess.normalize` gives them.
      labels: int64 [n].
      architecture: the network.
      config: the optimiser and its values, label smoothing, the seed, and a precision that is no
        longer `auto`.
      total_steps: how many steps the run makes.
      steps_an_epoch: how many steps one pass over the training images makes.
      first_step: the global step at which the schedule begins.
      teacher: another network to learn from besides the labels.

    Returns:
      Its operations.
    """
    steps: list[TrainStep] = []

    def train_op_fn(loss: tf.Tensor) -> tf.Operation:
        steps.append(
            build_train_step(
                loss,
                config,
                total_steps=total_steps,
                steps_an_epoch=steps_an_epoch,
                first_step=first_step,
            )
        )
        return steps[0].train_op

    params = ModelParams(
        architecture,
        config.seed,
        config.label_smoothing,
        train_op_fn,
        # In bfloat16 it is the direct operations that the processor has instructions for.
        fast=config.precision == "float32",
        teacher=teacher,
    )
    spec = model_fn(features, labels, ModeKeys.TRAIN, params)
    correct = tf.equal(spec.predictions["classes"], labels)
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))
    with tf.control_dependencies([spec.train_op]):
        step = tf1.train.get_global_step().read_value()
    return TrainedModel(
        step=step,
        loss=spec.loss,
        accuracy=accuracy,
        learning_rate=steps[0].learning_rate,
        gradient_norm=steps[0].gradient_norm,
        end_points=spec.end_points,
    )
