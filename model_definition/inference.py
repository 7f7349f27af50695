"""The model as it is used: pixels in, probabilities out, with a checkpoint's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_slim as slim

from input_pipeline.preprocess import normalize
from input_pipeline.shifts import count_copies
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import InferenceSaver
from model_definition.ensemble import Member
from model_definition.model_fn import EstimatorSpec, ModelParams, ensemble_fn, member_scope
from model_definition.run_dir import Run

_BATCH_SIZE = 250


@dataclass(frozen=True)
class InferenceModel:
    """A graph with the weights of one checkpoint or several, and a session to run it in.

    Attributes:
      session: of the graph, which is the current one while the model is open.
      pixels: placeholder, uint8 [n, height, width, channels], as the records hold them.
      probabilities: float32 [n, num_classes].
      end_points: the layers' outputs by their names; `output`'s are the logits.
      batch_size: how many images go through at a time.
    """

    session: tf.compat.v1.Session
    pixels: tf.Tensor
    probabilities: tf.Tensor
    end_points: Mapping[str, tf.Tensor]
    batch_size: int

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classifies images, a batch at a time.

        Args:
          images: uint8 [n, height, width, channels], n at least 1.

        Returns:
          float32 [n, num_classes].
        """
        return self.compute(self.probabilities, images)

    def compute(self, output: tf.Tensor, images: np.ndarray) -> np.ndarray:
        """Computes any tensor of the graph, a batch at a time.

        Args:
          output: [n, ...], of the session's graph.
          images: uint8 [n, height, width, channels], n at least 1.

        Returns:
          The tensor's values for all images.
        """
        size = self.batch_size
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        run = self.session.run
        return np.concatenate([run(output, {self.pixels: batch}) for batch in batches])

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the values of the model's variables by their names (`conv1/weights`)."""
        return self.session.run({v.op.name: v for v in slim.get_model_variables()})


@contextmanager
def open_model(
    run: Run, checkpoint: Path, build_pixels: Callable[[], tf.Tensor] | None = None
) -> Iterator[InferenceModel]:
    """Builds a run's model in a graph of its own, and restores a checkpoint.

    Args:
      run: the run.
      checkpoint: the prefix of the checkpoint's files.
      build_pixels: adds to the graph what the model reads; None for a placeholder.

    Yields:
      The model; moving averages of weights stand for the weights where there are any.

    Raises:
      UserError: the checkpoint is not of this model.
    """
    with open_ensemble([Member(run, checkpoint)], build_pixels) as model:
        yield model


@contextmanager
def open_ensemble(
    members: Sequence[Member],
    build_pixels: Callable[[], tf.Tensor] | None = None,
    *,
    test_time_shifts: int = 0,
) -> Iterator[InferenceModel]:
    """Builds the models of several runs in one graph, their probabilities averaged.

    Args:
      members: the runs with their checkpoints, at least one; their classes and images are the same.
      build_pixels: adds to the graph what the models read; None for a placeholder.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Yields:
      The model; moving averages of weights stand for the weights where there are any.

    Raises:
      UserError: a checkpoint is not of its run's model.
    """
    image_shape = members[0].run.image_shape
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        if build_pixels is None:
            pixels = tf.compat.v1.placeholder(tf.uint8, [None, *image_shape], "pixels")
        else:
            pixels = build_pixels()
        spec = build_members(normalize(pixels), None, members, test_time_shifts=test_time_shifts)
        restore_members(session, members)
        batch_size = max(1, _BATCH_SIZE // count_copies(test_time_shifts))
        probabilities = spec.predictions["probabilities"]
        yield InferenceModel(session, pixels, probabilities, spec.end_points, batch_size)


def build_members(
    features: tf.Tensor,
    labels: tf.Tensor | None,
    members: Sequence[Member],
    *,
    test_time_shifts: int = 0,
) -> EstimatorSpec:
    """Adds the models of runs to the current graph, their probabilities averaged.

    Args:
      features: images float32 [n, height, width, channels], as `preprocess.normalize` gives them.
      labels: int64 [n]; None to predict.
      members: the runs, at least one; their classes and images are the same.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      The operations of EVAL, or of PREDICT without labels; see `ensemble_fn`. The weights are those
      that `restore_members` restores.
    """
    params = [ModelParams(parse_run_architecture(member.run)) for member in members]
    return ensemble_fn(features, labels, params, test_time_shifts=test_time_shifts)


def restore_members(session: tf.compat.v1.Session, members: Sequence[Member]) -> None:
    """Restores each member's weights in the graph of `build_members`, which is the current one.

    Raises:
      UserError: a checkpoint is not of its run's model.
    """
    for index, member in enumerate(members):
        saver = InferenceSaver(member_scope(index, len(members)))
        saver.restore(session, member.checkpoint)
