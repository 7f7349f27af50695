"""The model in Estimator's shape: features and labels in, a spec of graph operations out.

Training, evaluation and export all call this one function, so they cannot differ in anything but
the mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import Architecture
from model_definition.network import build_network


class ModeKeys:
    """The names of the modes, as `tf.estimator.ModeKeys` had them."""

    TRAIN = "train"
    EVAL = "eval"
    PREDICT = "infer"


@dataclass(frozen=True)
class ModelParams:
    """What `model_fn` needs besides the data.

    Attributes:
      architecture: the network.
      seed: decides the initial weights and what dropout drops.
      label_smoothing: share of the target spread over all classes, 0 to 1; training only.
      train_op_fn: turns the loss into the operation that makes one step; training only.
    """

    architecture: Architecture
    seed: int = 0
    label_smoothing: float = 0.0
    train_op_fn: Callable[[tf.Tensor], tf.Operation] | None = None


@dataclass(frozen=True)
class EstimatorSpec:
    """The operations of one mode, as `tf.estimator.EstimatorSpec` held them.

    Attributes:
      mode: one of `ModeKeys`.
      predictions: `logits` and `probabilities`, float32 [n, num_classes]; `classes`, int64 [n].
      end_points: the output of every layer under its name.
      loss: float32 []: the mean cross-entropy of the batch, in training smoothed and with the
        regularisation losses; None in PREDICT.
      train_op: makes one step; None outside TRAIN.
      eval_metric_ops: streaming metrics by name, each a (value, update) pair; empty outside EVAL.
    """

    mode: str
    predictions: Mapping[str, tf.Tensor]
    end_points: Mapping[str, tf.Tensor]
    loss: tf.Tensor | None = None
    train_op: tf.Operation | None = None
    eval_metric_ops: Mapping[str, tuple[tf.Tensor, tf.Operation]] = field(default_factory=dict)


def model_fn(
    features: tf.Tensor, labels: tf.Tensor | None, mode: str, params: ModelParams
) -> EstimatorSpec:
    """Adds the model to the current graph.

    Args:
      features: images float32 [n, height, width, channels], as `preprocess.normalize` gives them.
      labels: int64 [n]; None in PREDICT.
      mode: one of `ModeKeys`.
      params: the network and how to train it.

    Returns:
      The operations of the mode.
    """
    training = mode == ModeKeys.TRAIN
    logits, end_points = build_network(
        params.architecture,
        features,
        is_training=training,
        seed=params.seed,
        global_step=tf.compat.v1.train.get_or_create_global_step() if training else None,
    )
    predictions = {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits, name="probabilities"),
        "classes": tf.argmax(logits, axis=-1, name="classes"),
    }
    if labels is None:
        return EstimatorSpec(mode, predictions, end_points)
    one_hot = tf.one_hot(labels, params.architecture.num_classes)
    if training:
        loss = _training_loss(logits, one_hot, params.label_smoothing)
        assert params.train_op_fn is not None, "training needs a train_op_fn"
        return EstimatorSpec(mode, predictions, end_points, loss, params.train_op_fn(loss))
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=logits)
    metrics = {
        "accuracy": slim.metrics.streaming_accuracy(predictions["classes"], labels),
        "loss": slim.metrics.streaming_mean(losses),
        "mean_squared_error": slim.metrics.streaming_mean_squared_error(
            predictions["probabilities"], one_hot
        ),
    }
    loss = tf.reduce_mean(losses)
    return EstimatorSpec(mode, predictions, end_points, loss, eval_metric_ops=metrics)


def _training_loss(logits: tf.Tensor, one_hot: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    num_classes = one_hot.shape[-1]
    targets = one_hot * (1.0 - label_smoothing) + label_smoothing / num_classes
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    regularization = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
    return tf.add_n([tf.reduce_mean(losses), *regularization], name="loss")
