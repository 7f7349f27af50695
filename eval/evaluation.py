"""Scores one checkpoint of a run on a split."""

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
from input_pipeline.records import count_examples, damage_named
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import InferenceSaver, checkpoint_step
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import Run

_NUM_MISTAKES = 36


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint reached on a split.

    Attributes:
      dataset: the dataset's name.
      split: the split, or several joined by +.
      checkpoint: the prefix of the checkpoint's files.
      class_names: the name of each label.
      accuracy: share of examples read right.
      loss: mean cross-entropy, in nats.
      mean_squared_error: of the probabilities against the one-hot label, over all classes.
      metrics: everything that was counted.
    """

    dataset: str
    split: str
    checkpoint: Path
    class_names: tuple[str, ...]
    accuracy: float
    loss: float
    mean_squared_error: float
    metrics: StreamingMetrics

    @property
    def step(self) -> int:
        """The training step of the checkpoint."""
        return checkpoint_step(self.checkpoint)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        correct = int(self.metrics.confusion.trace())
        return wilson_interval(correct, self.metrics.num_examples)

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        rows = zip(self.class_names, self.metrics.per_class(), strict=True)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "num_examples": self.metrics.num_examples,
            "checkpoint": str(self.checkpoint),
            "step": self.step,
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
    run: Run,
    checkpoint: Path,
    *,
    data_dir: Path,
    manifest: Manifest,
    splits: Sequence[str],
    batch_size: int,
    on_batch: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Evaluation:
    """Streams splits through a checkpoint: every example once, the last batch partial.

    Args:
      run: the run that the checkpoint is of.
      checkpoint: the prefix of its files.
      data_dir: a dataset folder that fits the run.
      manifest: its manifest.
      splits: what to evaluate on.
      batch_size: images a batch; the result does not depend on it.
      on_batch: called with each batch's labels, int64 [n], and probabilities, float32
        [n, num_classes], in the order of the records.

    Returns:
      The evaluation.

    Raises:
      UserError: a record is damaged, or the checkpoint is of another model.
    """
    architecture = parse_run_architecture(run)
    metrics = StreamingMetrics(len(run.class_names), num_mistakes=_NUM_MISTAKES)
    with tf.Graph().as_default(), damage_named(data_dir, manifest, splits):
        dataset = make_eval_dataset(data_dir, manifest, splits=splits, batch_size=batch_size)
        features, labels = tf1.data.make_one_shot_iterator(dataset).get_next()
        spec = model_fn(features, labels, ModeKeys.EVAL, ModelParams(architecture))
        values = {name: value for name, (value, _) in spec.eval_metric_ops.items()}
        updates = [update for _, update in spec.eval_metric_ops.values()]
        with tf1.Session() as session:
            session.run(tf1.local_variables_initializer())
            InferenceSaver().restore(session, checkpoint)
            batch = [features, labels, spec.predictions["probabilities"]]
            try:
                while True:
                    images, truth, probabilities = session.run([batch, updates])[0]
                    metrics.update(images, truth, probabilities)
                    if on_batch is not None:
                        on_batch(truth, probabilities)
            except tf.errors.OutOfRangeError:
                streamed = session.run(values)
    expected = count_examples(manifest, splits)
    if metrics.num_examples != expected:
        raise UserError(
            f"{data_dir}: expected {expected:,} examples in {'+'.join(splits)}, found "
            f"{metrics.num_examples:,}; python data_prep/verify.py --data_dir={data_dir} says why"
        )
    return Evaluation(
        dataset=manifest.name,
        split="+".join(splits),
        checkpoint=checkpoint,
        class_names=run.class_names,
        metrics=metrics,
        # By the shortest text of the float32: 0.9928 rather than 0.9927999973297119.
        **{name: float(str(value)) for name, value in streamed.items()},
    )
