"""Training batches from several datasets, each of which has its share of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep.schema import Manifest
from input_pipeline.augmentation import Augmentation
from input_pipeline.datasets import make_train_dataset


@dataclass(frozen=True)
class Part:
    """What takes a share of every batch.

    Attributes:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: the splits to take.
      seed: decides the order and the distortions.
      weight: its share is this divided by the sum of all parts' weights.
      kept: bool [n], which of the splits' n examples to take; None for all.
      augmentation: how to distort images; None for not at all.
      photos: whether to do to them what photographing does, too.
    """

    data_dir: Path
    manifest: Manifest
    splits: Sequence[str]
    seed: int = 0
    weight: float = 1.0
    kept: np.ndarray | None = None
    augmentation: Augmentation | None = None
    photos: bool = False


@tf.autograph.experimental.do_not_convert
def make_mixed_dataset(
    parts: Sequence[Part], *, batch_size: int, start_step: int = 0
) -> tf.data.Dataset:
    """Builds the endless stream of batches; within a batch the parts are spread evenly.

    A part with few images comes round often. Each batch is a function of the seeds and the step.

    Args:
      parts: of the same image shape; the first one takes what rounding leaves over.
      batch_size: images a batch, at least one for each part.
      start_step: the number of batches that were already consumed.

    Returns:
      A dataset of (images, labels) as `make_train_dataset` gives them.

    Raises:
      UserError: a shard is not whole.
    """
    sizes = divide_batch(batch_size, [part.weight for part in parts])
    streams = tuple(
        make_train_dataset(
            part.data_dir,
            part.manifest,
            splits=part.splits,
            batch_size=size,
            seed=part.seed,
            start_step=start_step,
            kept=part.kept,
            augmentation=part.augmentation,
            photos=part.photos,
        )
        for part, size in zip(parts, sizes, strict=True)
    )
    if len(streams) == 1:
        return streams[0]
    places = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    order = tf.constant(np.argsort(places, kind="stable"))

    def join(*batches: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = (tf.concat(column, axis=0) for column in zip(*batches, strict=True))
        return tf.gather(images, order), tf.gather(labels, order)

    return tf.data.Dataset.zip(streams).map(join)


def divide_batch(batch_size: int, weights: Sequence[float]) -> list[int]:
    """Divides a batch by weights; returns the parts' sizes, each at least 1.

    Args:
      batch_size: at least as many as there are weights.
      weights: above 0; the first part takes what rounding leaves over.
    """
    rest = [max(1, int(batch_size * weight / sum(weights))) for weight in weights[1:]]
    return [batch_size - sum(rest), *rest]
