"""The two ways into the records: endless shuffled training batches, and one pass for evaluation.

Training batches are a function of the seed and the step alone. Batch k holds places k B to
(k + 1) B - 1 of an endless sequence in which every run of n places is one shuffled pass over the n
examples; no example is left out where an epoch ends within a batch. So a run that is started
again at step k needs no saved iterator: it asks for batch k.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep.command_line import log
from data_prep.schema import Manifest
from input_pipeline.augment import Augmentation, augment
from input_pipeline.photo import photograph
from input_pipeline.preprocess import normalize
from input_pipeline.reader import ExampleReader
from input_pipeline.records import damage_named, read_shards, shard_paths
from input_pipeline.splits import count_examples

_PARSE_BATCH = 4096  # records
_ENDLESS = np.iinfo(np.int64).max
DEFAULT_CACHE_MB = 1024


@tf.autograph.experimental.do_not_convert  # Nothing here has Python's control flow to convert.
def make_train_dataset(
    data_dir: Path,
    manifest: Manifest,
    *,
    splits: Sequence[str],
    batch_size: int,
    seed: int,
    start_step: int = 0,
    kept: np.ndarray | None = None,
    augmentation: Augmentation | None = None,
    photos: bool = False,
    cache_mb: int = DEFAULT_CACHE_MB,
    num_workers: int = 1,
    worker_index: int = 0,
) -> tf.data.Dataset:
    """Builds the endless stream of training batches.

    Splits of up to `cache_mb` are kept in memory as uint8 and shuffled whole. Larger ones are read
    from the disk in every epoch, shards in random order, and shuffled through a window of that
    size; this is logged.

    Args:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: the splits to train on.
      batch_size: images a batch, for each worker.
      seed: decides the order and the distortions.
      start_step: the number of batches that were already consumed.
      kept: bool [n], which of the splits' n examples to train on; None for all.
      augmentation: how to distort images; None for not at all.
      photos: whether to distort them as photographing would, after that.
      cache_mb: memory for the images, in MB of 10**6 bytes.
      num_workers: over how many workers each step's images are divided.
      worker_index: which of them this is, from 0.

    Returns:
      A dataset of (images float32 [batch_size, height, width, channels] as `normalize` gives them,
      labels int64 [batch_size]).

    Raises:
      UserError: a shard is not whole.
    """
    reader = ExampleReader(data_dir, manifest, splits, kept)
    first = worker_index * batch_size
    stride = batch_size * num_workers
    if reader.size_mb <= cache_mb:
        n = reader.num_examples
        examples = reader.read_whole().cache().repeat()
    else:
        n = None
        window = max(1, int(reader.num_examples * cache_mb / reader.size_mb))
        log(
            f"{'+'.join(splits)}: {reader.size_mb:,.1f} MB of images is more than --cache_mb="
            f"{cache_mb}: they are read from the disk in every epoch, and shuffled through a "
            f"window of {window:,} images"
        )
        examples = _stream_steps(reader, stride, window, seed, start_step)

    # One function from what is in memory to a batch: each more costs every batch a hand-over.
    def make_batch(
        step: tf.Tensor, examples: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if n is None:  # The images of the step are there, and a worker takes its own.
            images, labels = (column[first : first + batch_size] for column in examples)
        else:  # All images are there, and each is looked up by its shuffled place.
            places = step * stride + first + tf.range(batch_size, dtype=tf.int64)
            places = _shuffle(places % n, n, seed, places // n)
            images, labels = (tf.gather(column, places) for column in examples)
        images = tf.ensure_shape(images, [batch_size, *manifest.image_shape])
        labels = tf.ensure_shape(labels, [batch_size])
        noise = tf.stack([tf.constant(seed, tf.int64), step * num_workers + worker_index])
        if augmentation:
            images = augment(tf.cast(images, tf.float32), augmentation, noise)
        if photos:
            images = photograph(tf.cast(images, tf.float32), noise)
        return normalize(images), labels

    steps = tf.data.Dataset.range(start_step, _ENDLESS)
    batches = tf.data.Dataset.zip((steps, examples)).map(make_batch, num_parallel_calls=2)
    return batches.prefetch(4)


@tf.autograph.experimental.do_not_convert
def make_eval_dataset(
    data_dir: Path,
    manifest: Manifest,
    *,
    splits: Sequence[str],
    batch_size: int,
    kept: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Builds one pass over the splits: every example once, in order, the last batch partial.

    Args:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: the splits to read.
      batch_size: images a batch.
      kept: bool [n], which of the splits' n examples to read; None for all.

    Returns:
      A dataset of (images float32 [n, height, width, channels] as `normalize` gives them, labels
      int64 [n]).

    Raises:
      UserError: a shard is not whole.
    """
    reader = ExampleReader(data_dir, manifest, splits, kept)

    def finish(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return normalize(images), labels

    batches = reader.read_blocks().rebatch(batch_size)
    return batches.map(finish, num_parallel_calls=2).prefetch(2)


@tf.autograph.experimental.do_not_convert
def load_labels(data_dir: Path, manifest: Manifest, splits: Sequence[str]) -> np.ndarray:
    """Reads all labels of the splits, int64 [n], in the order of the records.

    Raises:
      UserError: a shard is not whole.
    """
    spec = {"image/class/label": tf.io.FixedLenFeature([], tf.int64)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = read_shards(shard_paths(data_dir, manifest, splits)).batch(_PARSE_BATCH)
        labels = serialized.map(lambda batch: tf.io.parse_example(batch, spec)["image/class/label"])
        batch = tf.compat.v1.data.make_one_shot_iterator(
            labels.rebatch(count_examples(manifest, splits))
        ).get_next()
        with damage_named(data_dir, manifest, splits):
            return session.run(batch)


def _shuffle(
    places: tf.Tensor, size: int | tf.Tensor, seed: int, permutation: tf.Tensor
) -> tf.Tensor:
    """Looks up places, int64 [n] below `size`, in the permutations of the given numbers."""
    # The raw op: its wrapper `tf.random.experimental.index_shuffle` pads a matrix of seeds wrongly.
    permutation = tf.broadcast_to(permutation, tf.shape(places))
    seeds = tf.stack([tf.fill(tf.shape(places), tf.constant(seed, tf.int64)), permutation], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=places, seed=tf.pad(seeds, [[0, 0], [0, 1]]), max_index=tf.cast(size, tf.int64) - 1
    )


def _stream_steps(
    reader: ExampleReader, stride: int, window: int, seed: int, start_step: int
) -> tf.data.Dataset:
    """The images of each step, read anew in every epoch: shards, then windows, are shuffled."""
    n, shards = reader.num_examples, reader.num_shards
    first_epoch, consumed = divmod(start_step * stride, n)
    windows_an_epoch = -(-n // window)

    def read_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = _shuffle(tf.range(shards, dtype=tf.int64), shards, seed, epoch)
        order = tf.data.Dataset.from_tensor_slices(order)
        return reader.read_blocks(order).rebatch(window).enumerate(epoch * windows_an_epoch)

    def shuffle(index: tf.Tensor, examples: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        images, labels = examples
        size = tf.shape(labels, tf.int64)[0]
        order = _shuffle(tf.range(size), size, seed, index)
        # A run that goes on within an epoch drops what the steps before it have consumed.
        before = (index - first_epoch * windows_an_epoch) * window
        order = order[tf.clip_by_value(consumed - before, 0, size) :]
        return tf.gather(images, order), tf.gather(labels, order)

    epochs = tf.data.Dataset.range(first_epoch, _ENDLESS)
    return epochs.flat_map(read_epoch).map(shuffle).rebatch(stride)
