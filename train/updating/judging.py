"""Decides whether an update is accepted, from how two versions read the same images.

What the run knew must not be forgotten: McNemar's exact test (McNemar 1947,
https://doi.org/10.1007/BF02295996) looks at the images that only one of the two versions reads
right. Were both as good, each of these would be either's with the same chance, so the number that
was lost is binomial. An update is refused where so many losses, or more, have a chance below
`SIGNIFICANCE`. What is new must be read better: more of it right than before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from scipy.stats import binomtest

from data_prep.schema import Manifest
from input_pipeline.datasets import make_eval_dataset
from input_pipeline.records import damage_named
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import InferenceSaver
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import Run

SIGNIFICANCE = 0.05  # one-sided
_BATCH_SIZE = 500


@dataclass(frozen=True)
class JudgedImages:
    """Images on which an update is judged.

    Attributes:
      name: what they are, as the user reads it.
      data_dir: the dataset folder that holds them.
      manifest: its manifest.
      splits: the splits that they are in.
      kept: bool [n], which of the splits' n examples they are; None for all.
      is_new: whether more of them must be read right; else no significant number may be lost.
    """

    name: str
    data_dir: Path
    manifest: Manifest
    splits: tuple[str, ...]
    kept: np.ndarray | None = None
    is_new: bool = False


@dataclass(frozen=True)
class Comparison:
    """How a version and its update read the same images.

    Attributes:
      images: what they are.
      version: the version that the update is compared with.
      is_new: whether more of them must be read right.
      num_images: how many there are.
      right_before: how many the version reads right.
      gained: how many only the update reads right.
      lost: how many only the version reads right.
    """

    images: str
    version: int
    is_new: bool
    num_images: int
    right_before: int
    gained: int
    lost: int

    @property
    def right_after(self) -> int:
        """How many the update reads right."""
        return self.right_before + self.gained - self.lost

    @property
    def chance(self) -> float:
        """The chance of so many losses among the images that changed, were both as good."""
        changed = self.gained + self.lost
        if changed == 0:
            return 1.0
        return float(binomtest(self.lost, changed, alternative="greater").pvalue)

    def objection(self) -> str | None:
        """Returns why the update cannot be accepted, or None."""
        if self.is_new and self.gained <= self.lost:
            return (
                f"{self.images}: {self.right_after:,} of {self.num_images:,} are read right, not "
                f"more than the {self.right_before:,} of version {self.version}"
            )
        if not self.is_new and self.chance < SIGNIFICANCE:
            return (
                f"{self.images}: {self.lost:,} are no longer read right and {self.gained:,} newly, "
                f"against version {self.version}; the chance of that, had nothing been forgotten, "
                f"is {self.chance:.2g}, below {SIGNIFICANCE}"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {**vars(self), "right_after": self.right_after, "chance": self.chance}


def compare(
    judged: JudgedImages, version: int, before: np.ndarray, after: np.ndarray
) -> Comparison:
    """Compares what was read right, bool [n], before and after an update.

    Args:
      judged: the images.
      version: that read them before.
      before: which of them it read right.
      after: which of them the update reads right.
    """
    return Comparison(
        images=judged.name,
        version=version,
        is_new=judged.is_new,
        num_images=len(before),
        right_before=int(before.sum()),
        gained=int((after & ~before).sum()),
        lost=int((before & ~after).sum()),
    )


def find_right(run: Run, checkpoint: Path, judged: Sequence[JudgedImages]) -> list[np.ndarray]:
    """Tells which images a checkpoint reads right.

    Args:
      run: the run that the checkpoint is of.
      checkpoint: the prefix of its files.
      judged: the images.

    Returns:
      For each of `judged` bool [n], in the order of its records.

    Raises:
      UserError: a record is damaged, or the checkpoint is of another model.
    """
    return [_find_right(run, checkpoint, one) for one in judged]


def _find_right(run: Run, checkpoint: Path, judged: JudgedImages) -> np.ndarray:
    data = judged.data_dir, judged.manifest, judged.splits
    architecture = parse_run_architecture(run)
    found = []
    with tf.Graph().as_default(), damage_named(*data), tf1.Session() as session:
        dataset = make_eval_dataset(
            *data[:2], splits=data[2], batch_size=_BATCH_SIZE, kept=judged.kept
        )
        features, labels = tf1.data.make_one_shot_iterator(dataset).get_next()
        spec = model_fn(features, None, ModeKeys.PREDICT, ModelParams(architecture))
        right = tf.equal(spec.predictions["classes"], labels)
        InferenceSaver().restore(session, checkpoint)
        try:
            while True:
                found.append(session.run(right))
        except tf.errors.OutOfRangeError:
            return np.concatenate(found)
