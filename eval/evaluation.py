"""Scores a checkpoint of a run, or several whose probabilities are averaged, on a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from eval.metrics import StreamingMetrics, wilson_interval
from input_pipeline.datasets import make_eval_dataset
from input_pipeline.records import damage_named
from input_pipeline.shifts import count_copies
from input_pipeline.splits import count_examples
from model_definition.checkpoints import checkpoint_step
from model_definition.ensemble import Member
from model_definition.inference import build_members, restore_members

_NUM_MISTAKES = 36


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint, or the average of several, reached on a split.

    Attributes:
      dataset: the dataset's name.
      split: the split, or several joined by +.
      members: what was evaluated; more than one were averaged.
      member_accuracies: share of examples that each of them read right alone.
      test_time_shifts: over shifts of up to how many pixels each was averaged.
      class_names: the name of each label.
      accuracy: share of examples read right.
      loss: mean cross-entropy, in nats.
      mean_squared_error: of the probabilities against the one-hot label, over all classes.
      metrics: everything that was counted.
    """

    dataset: str
    split: str
    members: tuple[Member, ...]
    member_accuracies: tuple[float, ...]
    test_time_shifts: int
    class_names: tuple[str, ...]
    accuracy: float
    loss: float
    mean_squared_error: float
    metrics: StreamingMetrics

    @property
    def checkpoint(self) -> str:
        """The prefix of the checkpoint's files; of several joined by commas."""
        return ",".join(str(member.checkpoint) for member in self.members)

    @property
    def step(self) -> int:
        """The training step of the checkpoint; of several the last."""
        return max(checkpoint_step(member.checkpoint) for member in self.members)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        correct = int(self.metrics.confusion.trace())
        return wilson_interval(correct, self.metrics.num_examples)

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values; members and shifts where there are any."""
        averaged: dict[str, Any] = {}
        if len(self.members) > 1:
            averaged["members"] = [
                {
                    "logdir": str(member.run.logdir),
                    "checkpoint": str(member.checkpoint),
                    "step": checkpoint_step(member.checkpoint),
                    "accuracy": accuracy,
                }
                for member, accuracy in zip(self.members, self.member_accuracies, strict=True)
            ]
        if self.test_time_shifts:
            averaged["test_time_shifts"] = self.test_time_shifts
        rows = zip(self.class_names, self.metrics.per_class(), strict=True)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "num_examples": self.metrics.num_examples,
            "checkpoint": self.checkpoint,
            "step": self.step,
            **averaged,
            "accuracy": self.accuracy,
            "accuracy_95": list(self.accuracy_interval),
            "loss": self.loss,
            "mean_squared_error": self.mean_squared_error,
            "top_2_accuracy": self.metrics.top_2_accuracy,
            "expected_calibration_error": self.metrics.expected_calibration_error,
            "per_class": [{"class_name": name, **row} for name, row in rows],
            "confusion_matrix": self.metrics.confusion.tolist(),
        }


def evaluate(
    members: Sequence[Member],
    *,
    data_dir: Path,
    manifest: Manifest,
    splits: Sequence[str],
    batch_size: int,
    test_time_shifts: int = 0,
    on_batch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Evaluation:
    """Streams splits through checkpoints: every example once, the last batch partial.

    Args:
      members: the runs with their checkpoints; the probabilities of several are averaged.
      data_dir: a dataset folder that fits the runs.
      manifest: its manifest.
      splits: what to evaluate on.
      batch_size: images a batch, their shifted copies included; the result does not depend on it.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.
      on_batch: called with each batch's labels, int64 [n], and averaged probabilities, float32
        [n, num_classes], in the order of the records.

    Returns:
      The evaluation.

    Raises:
      UserError: a record is damaged, or a checkpoint is of another model.
    """
    class_names = members[0].run.class_names
    metrics = StreamingMetrics(len(class_names), num_mistakes=_NUM_MISTAKES)
    hits = np.zeros(len(members), np.int64)

    def count(batch: _Batch) -> None:
        metrics.update(batch.images, batch.labels, batch.probabilities)
        hits[:] += (batch.member_probabilities.argmax(axis=2) == batch.labels).sum(axis=1)
        if on_batch is not None:
            on_batch(batch.labels, batch.probabilities)

    streamed = _stream(
        members,
        count,
        data_dir=data_dir,
        manifest=manifest,
        splits=splits,
        batch_size=batch_size,
        test_time_shifts=test_time_shifts,
    )
    return Evaluation(
        dataset=manifest.name,
        split="+".join(splits),
        members=tuple(members),
        member_accuracies=tuple((hits / metrics.num_examples).tolist()),
        test_time_shifts=test_time_shifts,
        class_names=class_names,
        metrics=metrics,
        # By the shortest text of the float32: 0.9928 rather than 0.9927999973297119.
        **{name: float(str(value)) for name, value in streamed.items()},
    )


@dataclass(frozen=True)
class _Batch:
    """Examples and what is answered.

    Attributes:
      images: float32 [n, height, width, channels], as the network saw them, unshifted.
      labels: int64 [n].
      probabilities: float32 [n, num_classes].
      member_probabilities: float32 [members, n, num_classes].
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    member_probabilities: np.ndarray


def _stream(
    members: Sequence[Member],
    receive: Callable[[_Batch], None],
    *,
    data_dir: Path,
    manifest: Manifest,
    splits: Sequence[str],
    batch_size: int,
    test_time_shifts: int,
) -> dict[str, Any]:
    """Runs splits through checkpoints; returns the values of TF-Slim's metrics, float32 []."""
    num_images = max(1, batch_size // count_copies(test_time_shifts))
    num_examples = 0
    with tf.Graph().as_default(), damage_named(data_dir, manifest, splits):
        dataset = make_eval_dataset(data_dir, manifest, splits=splits, batch_size=num_images)
        features, labels = tf1.data.make_one_shot_iterator(dataset).get_next()
        spec = build_members(features, labels, members, test_time_shifts=test_time_shifts)
        values = {name: value for name, (value, _) in spec.eval_metric_ops.items()}
        updates = [update for _, update in spec.eval_metric_ops.values()]
        probabilities = spec.predictions["probabilities"]
        apart = spec.predictions.get("member_probabilities", probabilities[None])
        with tf1.Session() as session:
            session.run(tf1.local_variables_initializer())
            restore_members(session, members)
            batch = [features, labels, probabilities, apart]
            try:
                while True:
                    found = _Batch(*session.run([batch, updates])[0])
                    receive(found)
                    num_examples += len(found.labels)
            except tf.errors.OutOfRangeError:
                streamed = session.run(values)
    expected = count_examples(manifest, splits)
    if num_examples != expected:
        raise UserError(
            f"{data_dir}: expected {expected:,} examples in {'+'.join(splits)}, found "
            f"{num_examples:,}; python data_prep/verify.py --data_dir={data_dir} says why"
        )
    return streamed
