"""Reads the examples of splits, in blocks: fast where their records are all laid out alike.

Whether they are is found in the files. The sizes and the first records decide how a dataset is
read; a block of rows that turns out otherwise later, be it written by another writer or damaged, is
read again record by record.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep.schema import Manifest
from data_prep.tfrecord import scan_records
from input_pipeline.records import MIXED_LENGTHS, parse_batch, read_shards, shard_paths
from input_pipeline.rows import RowLayout

_BLOCK_BYTES = 2 << 20  # of records: few calls, and still within the processor's cache
_ALIGNMENT = 64  # TensorFlow takes an array that begins at such an address without copying it.


class ExampleReader:
    """The examples of splits, or those of them that are kept, in the order written.

    Attributes:
      num_shards: how many files hold them.
      num_examples: how many there are.
      size_mb: what their pixels take, in MB of 10**6 bytes.
    """

    def __init__(
        self,
        data_dir: Path,
        manifest: Manifest,
        splits: Sequence[str],
        kept: np.ndarray | None = None,
    ) -> None:
        """Finds the shards and looks how their records are laid out.

        Args:
          data_dir: the dataset folder.
          manifest: its manifest.
          splits: the splits to read.
          kept: bool [n], which of the splits' n examples to read; None for all.

        Raises:
          UserError: a shard is not whole.
        """
        self._manifest = manifest
        self._paths = shard_paths(data_dir, manifest, splits)
        self._kept = kept
        shards = [shard for split in splits for shard in manifest.splits[split].shards]
        self._counts = np.array([shard.num_examples for shard in shards], np.int64)
        self._starts = np.cumsum([0, *self._counts])
        self.num_shards = len(shards)
        self.num_examples = int(self._starts[-1] if kept is None else kept.sum())
        self._image_bytes = math.prod(manifest.image_shape)
        self.size_mb = self.num_examples * self._image_bytes / 1e6
        self._layout = RowLayout(manifest)
        row_bytes = self._layout.row_bytes
        self._block = max(1, _BLOCK_BYTES // row_bytes)
        self._rows_fit = manifest.image_format == "raw" and all(
            shard.num_bytes == shard.num_examples * row_bytes and self._layout.read(path, 0, 1)
            for shard, path in zip(shards, map(Path, self._paths), strict=True)
        )

    def read_whole(self) -> tf.data.Dataset:
        """Returns one element: all images, uint8 [n, height, width, channels], and labels."""
        if not self._rows_fit:
            return self.read_blocks().rebatch(self.num_examples)

        def read(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._shaped(*tf.numpy_function(self._load_whole, [], [tf.uint8, tf.int64]))

        return tf.data.Dataset.range(1).map(read)

    def read_blocks(self, shard_order: tf.data.Dataset | None = None) -> tf.data.Dataset:
        """Returns images, uint8 [k, height, width, channels], and labels, int64 [k].

        Args:
          shard_order: the indices of the shards to read; None for all in order.
        """
        if shard_order is None:
            shard_order = tf.data.Dataset.range(self.num_shards)
        return (self._blocks_of_rows if self._rows_fit else self._blocks_of_records)(shard_order)

    def _blocks_of_rows(self, shard_order: tf.data.Dataset) -> tf.data.Dataset:
        def list_blocks(shard: tf.Tensor) -> tf.data.Dataset:
            firsts = tf.data.Dataset.range(0, tf.gather(self._counts, shard), self._block)
            return tf.data.Dataset.zip((tf.data.Dataset.from_tensors(shard).repeat(), firsts))

        def read(shard: int, first: int) -> tuple[np.ndarray, np.ndarray]:
            pixels, labels = self._load_block(int(shard), int(first))
            images = self._allocate(len(labels))
            images[:] = pixels
            return images.reshape(-1, *self._manifest.image_shape), labels.astype(np.int64)

        def read_block(shard: tf.Tensor, first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._shaped(*tf.numpy_function(read, [shard, first], [tf.uint8, tf.int64]))

        return shard_order.flat_map(list_blocks).map(read_block, num_parallel_calls=2)

    def _shaped(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        shape = [None, *self._manifest.image_shape]
        return tf.ensure_shape(images, shape), tf.ensure_shape(labels, [None])

    def _load_whole(self) -> tuple[np.ndarray, np.ndarray]:
        images = self._allocate(self.num_examples)
        labels = np.empty(self.num_examples, np.int64)
        start = 0
        for shard, count in enumerate(self._counts):
            for first in range(0, count, self._block):
                pixels, numbers = self._load_block(shard, first)
                stop = start + len(numbers)
                images[start:stop], labels[start:stop] = pixels, numbers
                start = stop
        return images.reshape(-1, *self._manifest.image_shape), labels

    def _allocate(self, count: int) -> np.ndarray:
        """Returns uint8 [count, height * width * channels], its content undefined."""
        size = count * self._image_bytes
        buffer = np.empty(size + _ALIGNMENT, np.uint8)
        start = -buffer.ctypes.data % _ALIGNMENT
        return buffer[start : start + size].reshape(count, self._image_bytes)

    def _load_block(self, shard: int, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixels uint8 [k, height * width * channels] and labels [k]."""
        path, count = Path(self._paths[shard]), min(self._block, self._counts[shard] - first)
        start = self._starts[shard] + first
        kept = slice(None) if self._kept is None else self._kept[start : start + count]
        rows = self._layout.read(path, first, count)
        if rows:
            pixels, labels = rows
            return pixels[kept], labels[kept]
        is_last = first + count == self._counts[shard]
        stop = None if is_last else first + count
        records = list(itertools.islice(scan_records(path), first, stop))
        if len(records) != count or any(record.damage for record in records):
            raise ValueError(f"{path}: damaged")  # `damage_named` says where
        # Else a block of rows elsewhere in the file would not be the records that it seems.
        if any(r.offset != r.index * self._layout.row_bytes for r in records):
            raise ValueError(f"{path}: {MIXED_LENGTHS}")
        serialized = np.array([record.data for record in records], object)[kept]
        images, labels = parse_batch(tf.constant(serialized, tf.string), self._manifest)
        return images.numpy().reshape(len(serialized), self._image_bytes), labels.numpy()

    def _blocks_of_records(self, shard_order: tf.data.Dataset) -> tf.data.Dataset:
        if self._kept is None:
            return shard_order.flat_map(
                lambda shard: read_shards(tf.gather(self._paths, shard)).batch(self._block)
            ).map(lambda batch: parse_batch(batch, self._manifest), num_parallel_calls=2)

        def read_with_mask(shard: tf.Tensor) -> tf.data.Dataset:
            start, stop = tf.gather(self._starts, shard), tf.gather(self._starts, shard + 1)
            mask = tf.data.Dataset.from_tensor_slices(tf.constant(self._kept)[start:stop])
            records = read_shards(tf.gather(self._paths, shard))
            return tf.data.Dataset.zip((records, mask)).batch(self._block)

        return shard_order.flat_map(read_with_mask).map(
            lambda batch, keep: parse_batch(tf.boolean_mask(batch, keep), self._manifest),
            num_parallel_calls=2,
        )
