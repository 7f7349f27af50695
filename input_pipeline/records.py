"""Finds a split's shards and parses their records, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.damage import find_broken_record
from data_prep.schema import FEATURES, IMAGE_FORMATS, Manifest

_READ_BUFFER_BYTES = 1 << 20
MIXED_LENGTHS = "has the size of records of one length, but they have several"


def shard_paths(data_dir: Path, manifest: Manifest, splits: Sequence[str]) -> list[str]:
    """Lists the splits' shards, in the order written, after checking that each is all there.

    Args:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: names of splits.

    Returns:
      The paths.

    Raises:
      UserError: a shard is missing or has not the size that the manifest says. A file that was cut
        between two records reads like a whole one, so this is where it is found.
    """
    if manifest.image_format not in IMAGE_FORMATS:
        raise UserError(
            f"{data_dir}: holds {manifest.image_format} files; convert the dataset with "
            "--output_format=tfrecord to train on it or evaluate it"
        )
    paths = []
    for split in splits:
        for shard in manifest.splits[split].shards:
            path = data_dir / shard.name
            found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no file"
            if found != f"{shard.num_bytes:,} bytes":
                expected = f"expected {shard.num_bytes:,} bytes, found {found}"
                raise UserError(f"{path}: {expected}; {_remedy(data_dir)}")
            paths.append(str(path))
    return paths


def read_shards(paths: Sequence[str] | tf.Tensor) -> tf.data.Dataset:
    """Returns the serialised records of TFRecord files, in order, as scalar strings."""
    return tf.data.TFRecordDataset(paths, buffer_size=_READ_BUFFER_BYTES)


def parse_batch(serialized: tf.Tensor, manifest: Manifest) -> tuple[tf.Tensor, tf.Tensor]:
    """Parses a batch of records at once, which costs a tenth of parsing them one by one.

    Args:
      serialized: string [n], serialised `tf.train.Example`s.
      manifest: of the dataset, whose shape, format and class count every record must have.

    Returns:
      images uint8 [n, height, width, channels] and labels int64 [n].

    Raises:
      tf.errors.InvalidArgumentError: (when run) a record lacks a feature or contradicts the
        manifest; `damage_named` says which one.
    """
    types = {int: tf.int64, bytes: tf.string}
    spec = {key: tf.io.FixedLenFeature([], types[kind]) for key, kind in FEATURES.items()}
    features = tf.io.parse_example(serialized, spec)
    height, width, channels = manifest.image_shape
    labels = features["image/class/label"]
    checks = [
        tf.debugging.assert_equal(features["image/height"], tf.constant(height, tf.int64)),
        tf.debugging.assert_equal(features["image/width"], tf.constant(width, tf.int64)),
        tf.debugging.assert_equal(features["image/channels"], tf.constant(channels, tf.int64)),
        tf.debugging.assert_equal(features["image/format"], manifest.image_format),
        tf.debugging.assert_non_negative(labels),
        tf.debugging.assert_less(labels, tf.constant(len(manifest.class_names), tf.int64)),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        encoded = tf.identity(features["image/encoded"])
    if manifest.image_format == "png":
        images = tf.map_fn(
            lambda png: tf.ensure_shape(tf.io.decode_png(png, channels), manifest.image_shape),
            encoded,
            fn_output_signature=tf.TensorSpec(manifest.image_shape, tf.uint8),
        )
    else:
        pixels = tf.io.decode_raw(encoded, tf.uint8)
        images = tf.reshape(pixels, [tf.shape(encoded)[0], height, width, channels])
    return images, labels


@contextmanager
def damage_named(data_dir: Path, manifest: Manifest, splits: Sequence[str]) -> Iterator[None]:
    """Turns TensorFlow's error about a damaged record into one that names the record.

    Args:
      data_dir: the dataset folder that is read inside the block.
      manifest: its manifest.
      splits: the splits that are read.

    Yields:
      Nothing.

    Raises:
      UserError: a record could not be read; names the shard, the record and the remedy.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
        tf.errors.UnknownError,  # from a reader in Python
    ) as error:
        for split in splits:
            line = find_broken_record(data_dir, manifest, split)
            if line:
                raise UserError(f"{line}; {_remedy(data_dir)}") from None
        if MIXED_LENGTHS in str(error):
            raise UserError(f"{data_dir}: a shard {MIXED_LENGTHS}; {_remedy(data_dir)}") from None
        raise


def _remedy(data_dir: Path) -> str:
    return (
        f"python data_prep/verify.py --data_dir={data_dir} lists all damage, and convert.py "
        "--overwrite makes the dataset anew"
    )
