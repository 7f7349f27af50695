"""The model in Estimator's shape: features and labels in, a spec of graph operations out.

Training, evaluation and export all call `model_fn`, so they cannot differ in anything but the mode;
`ensemble_fn` calls it for each member.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf
import tf_slim as slim

from input_pipeline.shifts import build_copies_apart, build_shifted_copies
from model_definition.architecture import Architecture
from model_definition.distillation import Teacher
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
      fast: whether convolutions may be products in frequencies; training only.
      teacher: another network to learn from besides the labels; training only.
    """

    architecture: Architecture
    seed: int = 0
    label_smoothing: float = 0.0
    train_op_fn: Callable[[tf.Tensor], tf.Operation] | None = None
    fast: bool = False
    teacher: Teacher | None = None


@dataclass(frozen=True)
class EstimatorSpec:
    """The operations of one mode, as `tf.estimator.EstimatorSpec` held them.

    Attributes:
      mode: one of `ModeKeys`.
      predictions: `logits` and `probabilities`, float32 [n, num_classes]; `classes`, int64 [n]; of
        several members also `member_probabilities`, float32 [members, n, num_classes].
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
        fast=training and params.fast,
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
        loss = _training_loss(features, logits, one_hot, params)
        assert params.train_op_fn is not None, "training needs a train_op_fn"
        return EstimatorSpec(mode, predictions, end_points, loss, params.train_op_fn(loss))
    return _evaluate(predictions, end_points, labels, one_hot)


def ensemble_fn(
    features: tf.Tensor,
    labels: tf.Tensor | None,
    members: Sequence[ModelParams],
    *,
    test_time_shifts: int = 0,
) -> EstimatorSpec:
    """Adds trained models whose probabilities are averaged to the current graph.

    Each of several members is under a variable scope of its own, `member_scope`. One member without
    shifts is what `model_fn` adds.

    Args:
      features: images float32 [n, height, width, channels], as `preprocess.normalize` gives them.
      labels: int64 [n]; None to predict.
      members: at least one, of the same classes and image shape.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      The operations of EVAL, or of PREDICT without labels. The `logits` of several are the
      logarithms of the averaged probabilities, and their end points' names begin with the scope.
    """
    mode = ModeKeys.PREDICT if labels is None else ModeKeys.EVAL
    if len(members) == 1 and test_time_shifts == 0:
        return model_fn(features, labels, mode, members[0])
    copies = build_shifted_copies(features, test_time_shifts)
    probabilities: list[tf.Tensor] = []
    log_probabilities: list[tf.Tensor] = []
    end_points: dict[str, tf.Tensor] = {}
    for index, params in enumerate(members):
        scope = member_scope(index, len(members))
        with tf.compat.v1.variable_scope(scope) if scope else contextlib.nullcontext():
            spec = model_fn(copies, None, ModeKeys.PREDICT, params)
        for name, value in spec.end_points.items():
            end_points[f"{scope}/{name}" if scope else name] = value
        for values, found in (
            (probabilities, spec.predictions["probabilities"]),
            (log_probabilities, tf.nn.log_softmax(spec.predictions["logits"])),
        ):
            values.append(build_copies_apart(found, test_time_shifts))
    # The mean's logarithm is computed from logarithms: of a probability of 0 there is none.
    stacked = tf.concat(log_probabilities, axis=0)
    logits = tf.reduce_logsumexp(stacked, axis=0) - math.log(stacked.shape[0])
    mean = tf.reduce_mean(tf.concat(probabilities, axis=0), axis=0, name="probabilities")
    predictions = {
        "logits": logits,
        "probabilities": mean,
        "classes": tf.argmax(mean, axis=-1, name="classes"),
        "member_probabilities": tf.stack([tf.reduce_mean(one, axis=0) for one in probabilities]),
    }
    if labels is None:
        return EstimatorSpec(mode, predictions, end_points)
    one_hot = tf.one_hot(labels, members[0].architecture.num_classes)
    return _evaluate(predictions, end_points, labels, one_hot)


def member_scope(index: int, num_members: int) -> str:
    """Returns the variable scope of a member.

    Args:
      index: of the member, from 0.
      num_members: of the ensemble; one alone has none, and is at the graph's root.
    """
    return f"member_{index}" if num_members > 1 else ""


def _evaluate(
    predictions: Mapping[str, tf.Tensor],
    end_points: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    one_hot: tf.Tensor,
) -> EstimatorSpec:
    """Adds the mean cross-entropy and the streaming metrics."""
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=one_hot, logits=predictions["logits"])
    metrics = {
        "accuracy": slim.metrics.streaming_accuracy(predictions["classes"], labels),
        "loss": slim.metrics.streaming_mean(losses),
        "mean_squared_error": slim.metrics.streaming_mean_squared_error(
            predictions["probabilities"], one_hot
        ),
    }
    loss = tf.reduce_mean(losses)
    return EstimatorSpec(ModeKeys.EVAL, predictions, end_points, loss, eval_metric_ops=metrics)


def _training_loss(
    features: tf.Tensor, logits: tf.Tensor, one_hot: tf.Tensor, params: ModelParams
) -> tf.Tensor:
    num_classes, smoothing = one_hot.shape[-1], params.label_smoothing
    targets = one_hot * (1.0 - smoothing) + smoothing / num_classes
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    if params.teacher is not None:
        losses = params.teacher.blend(losses, features, logits)
    regularization = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
    return tf.add_n([tf.reduce_mean(losses), *regularization], name="loss")
