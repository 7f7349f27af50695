"""What TensorBoard shows of a run: operations that summarise a step, and texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tensorboard.plugins.text import summary as text_summary

_MOST_IMAGES = 8  # A histogram of all activations of a batch takes as long as ten steps.
_FILTER_ZOOM = 8
_LARGE_CONSTANT = 1024  # bytes, beyond which a value is left out of the graph that is shown


@dataclass(frozen=True)
class StepSummaries:
    """Two summaries of a training step, serialised strings.

    Attributes:
      scalars: loss, accuracy, learning rate and gradient norm; cheap.
      pictures: the first images as the network sees them, their activations and all weights as
        histograms, the first layer's filters.
    """

    scalars: tf.Tensor
    pictures: tf.Tensor


def build_summaries(
    *,
    features: tf.Tensor,
    end_points: Mapping[str, tf.Tensor],
    loss: tf.Tensor,
    accuracy: tf.Tensor,
    learning_rate: tf.Tensor,
    gradient_norm: tf.Tensor,
) -> StepSummaries:
    """Adds the summaries to the graph.

    Args:
      features: float32 [n, height, width, channels], the batch as the network sees it.
      end_points: the layers' outputs by name.
      loss: float32 [].
      accuracy: float32 [], of the batch.
      learning_rate: float32 [].
      gradient_norm: float32 [].

    Returns:
      The summaries.
    """
    scalars = {
        "loss": loss,
        "accuracy": accuracy,
        "learning_rate": learning_rate,
        "gradient_norm": gradient_norm,
    }
    pictures = [_image("images", features, most=_MOST_IMAGES)]
    kernels = [
        variable
        for variable in slim.get_model_variables()
        if variable.op.name.endswith("weights") and variable.shape.rank == 4
    ]
    if kernels and kernels[0].shape[2] in (1, 3):
        pictures.append(_image("filters", _draw_filters(kernels[0]), most=1))
    for variable in slim.get_model_variables():
        pictures.append(_histogram(variable.op.name, variable))
    for name, output in end_points.items():
        pictures.append(_histogram(f"{name}/output", output[:_MOST_IMAGES]))
    return StepSummaries(
        scalars=tf.raw_ops.MergeSummary(inputs=[_scalar(*item) for item in scalars.items()]),
        pictures=tf.raw_ops.MergeSummary(inputs=pictures),
    )


# The raw operations, whose tags stay as given: `tf.compat.v1.summary` makes them unique in the
# graph, and TensorBoard would not show `loss_1` of training beside `loss` of validation.


def _scalar(tag: str, value: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ScalarSummary(tags=tag, values=value)


def _image(tag: str, images: tf.Tensor, *, most: int) -> tf.Tensor:
    return tf.raw_ops.ImageSummary(tag=tag, tensor=images, max_images=most)


def _histogram(tag: str, values: tf.Tensor) -> tf.Tensor:
    # A value that is not finite would be this operation's error, before NanHook can say it better.
    finite = tf.where(tf.math.is_finite(values), values, 0.0)
    return tf.raw_ops.HistogramSummary(tag=tag, values=finite)


def _draw_filters(kernels: tf.Tensor) -> tf.Tensor:
    """Tiles kernels [h, w, channels, n] into one picture, float32 [1, height, width, channels]."""
    height, width, channels, n = kernels.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    low, high = tf.reduce_min(kernels), tf.reduce_max(kernels)
    tiles = tf.transpose((kernels - low) / (high - low + 1e-12), [3, 0, 1, 2])
    tiles = tf.pad(tiles, [[0, rows * columns - n], [0, 1], [0, 1], [0, 0]])
    tiles = tf.reshape(tiles, [rows, columns, height + 1, width + 1, channels])
    grid = tf.transpose(tiles, [0, 2, 1, 3, 4])
    grid = tf.reshape(grid, [1, rows * (height + 1), columns * (width + 1), channels])
    return tf.repeat(tf.repeat(grid, _FILTER_ZOOM, axis=1), _FILTER_ZOOM, axis=2)


def write_graph(writer: tf.compat.v1.summary.FileWriter, graph: tf.Graph) -> None:
    """Writes a graph for TensorBoard, which shows no constants' values: without the large ones.

    Args:
      writer: of the training run.
      graph: the training graph; a teacher's weights are constants of it.
    """
    definition = graph.as_graph_def(add_shapes=True)
    for node in definition.node:
        if node.op == "Const" and node.ByteSize() > _LARGE_CONSTANT:
            node.attr["value"].tensor.ClearField("tensor_content")
    writer.add_event(tf.compat.v1.Event(graph_def=definition.SerializeToString()))


def write_texts(
    writer: tf.compat.v1.summary.FileWriter, *, flags: Mapping[str, Any], architecture_text: str
) -> None:
    """Writes the flags and the architecture as texts.

    Args:
      writer: of the training run.
      flags: by name.
      architecture_text: the text of the model's file.
    """
    rows = "".join(f"| {name} | {json.dumps(value)} |\n" for name, value in flags.items())
    texts = {
        "flags": f"| flag | value |\n|---|---|\n{rows}",
        "architecture": "".join(f"    {line}\n" for line in architecture_text.splitlines()),
    }
    for name, text in texts.items():
        # By its bytes: TensorBoard has a Summary class of its own.
        writer.add_summary(text_summary.pb(name, text).SerializeToString(), 0)


def scalar_summary(**values: float) -> tf.compat.v1.Summary:
    """Returns a summary of numbers that were computed outside the graph."""
    return tf.compat.v1.Summary(
        value=[
            tf.compat.v1.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
    )
