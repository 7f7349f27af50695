"""What an entry answers to the images of a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.schema import Manifest
from eval.comparison.entries import Entry
from eval.evaluation import Evaluation, evaluate
from input_pipeline.datasets import make_eval_dataset
from input_pipeline.records import damage_named
from input_pipeline.shifts import count_copies
from input_pipeline.splits import count_examples
from model_definition.checkpoints import choose_checkpoint
from model_definition.ensemble import Member

_BATCH_SIZE = 500


@dataclass(frozen=True)
class ComparedSplit:
    """The images that everything is measured on.

    Attributes:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: its splits that are read, one after the other.
      test_time_shifts: answers are averages over every shift of an image by up to so many pixels
        both ways.
    """

    data_dir: Path
    manifest: Manifest
    splits: tuple[str, ...]
    test_time_shifts: int = 0

    @property
    def num_examples(self) -> int:
        """How many images there are."""
        return count_examples(self.manifest, self.splits)

    @property
    def num_copies(self) -> int:
        """How many copies of an image are read for one answer."""
        return count_copies(self.test_time_shifts)


@dataclass(frozen=True)
class Answers:
    """What one entry answers to every image of a split, in the order of the records.

    Attributes:
      evaluation: the scores, as evaluate.py computes them.
      labels: int64 [n], what the images are.
      predictions: int64 [n], what they were read as.
      confidences: float32 [n], the probability of each prediction.
    """

    evaluation: Evaluation
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Whether each image was read right, bool [n]."""
        return self.predictions == self.labels


def answer_split(entry: Entry, split: ComparedSplit) -> Answers:
    """Shows an entry every image of a split, once.

    This is the one place where an entry's probabilities come from.

    Args:
      entry: of each of its runs the best checkpoint on validation answers, or the last one where
        there is none; the probabilities of several are averaged.
      split: the images.

    Returns:
      Its answers.

    Raises:
      UserError: a record is damaged, or there is no checkpoint that can be read.
    """
    labels: list[np.ndarray] = []
    predictions: list[np.ndarray] = []
    confidences: list[np.ndarray] = []

    def keep(truth: np.ndarray, probabilities: np.ndarray) -> None:
        labels.append(truth)
        predictions.append(probabilities.argmax(axis=1))
        confidences.append(probabilities.max(axis=1))

    evaluation = evaluate(
        [Member(run, choose_checkpoint(run, "best")) for run in entry.ensemble.runs],
        data_dir=split.data_dir,
        manifest=split.manifest,
        splits=split.splits,
        batch_size=_BATCH_SIZE,
        test_time_shifts=split.test_time_shifts,
        on_batch=keep,
    )
    return Answers(
        evaluation,
        np.concatenate(labels),
        np.concatenate(predictions),
        np.concatenate(confidences),
    )


def read_images(split: ComparedSplit, indices: np.ndarray) -> np.ndarray:
    """Reads some of a split's images.

    Args:
      split: the images.
      indices: int [k], their places in the order of the records, rising.

    Returns:
      uint8 [k, height, width, channels].

    Raises:
      UserError: a record is damaged.
    """
    found = [np.zeros((0, *split.manifest.image_shape), np.uint8)]
    start = 0
    source = split.data_dir, split.manifest
    with damage_named(*source, split.splits):
        dataset = make_eval_dataset(*source, splits=split.splits, batch_size=_BATCH_SIZE)
        for images, _ in dataset.as_numpy_iterator():
            here = indices[(indices >= start) & (indices < start + len(images))] - start
            found.append(np.rint(images[here] * 255).astype(np.uint8))
            start += len(images)
    return np.concatenate(found)
