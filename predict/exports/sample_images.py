"""The images that exports are calibrated on and compared with their checkpoint on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep.schema import Manifest
from input_pipeline.datasets import load_labels
from input_pipeline.records import damage_named, parse_batch, read_shards, shard_paths
from input_pipeline.subsets import choose_stratified

_BATCH_SIZE = 1000


def load_sample(data_dir: Path, manifest: Manifest, split: str, *, limit: int) -> np.ndarray:
    """Reads images of a split, the same ones every time, of each class its share.

    Args:
      data_dir: the dataset folder.
      manifest: its manifest.
      split: which to take them from.
      limit: how many to take; all, where there are fewer.

    Returns:
      uint8 [n, height, width, channels], in the order of the records.

    Raises:
      UserError: a shard is not whole, or a record is damaged.
    """
    paths = shard_paths(data_dir, manifest, [split])
    labels = load_labels(data_dir, manifest, [split])
    chosen = choose_stratified(labels, min(limit, len(labels)), seed=0)
    found = []
    with (
        tf.Graph().as_default(),
        tf.compat.v1.Session() as session,
        damage_named(data_dir, manifest, [split]),
    ):
        dataset = (
            read_shards(paths).batch(_BATCH_SIZE).map(lambda batch: parse_batch(batch, manifest))
        )
        images, _ = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
        for start in range(0, len(labels), _BATCH_SIZE):
            found.append(session.run(images)[chosen[start : start + _BATCH_SIZE]])
    return np.concatenate(found)
