"""Writes a source's images as the files of a dataset folder: shards, checksums, manifest."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_prep import schema
from data_prep.command_line import UserError, log, progress
from data_prep.csv_writer import CsvSplitWriter
from data_prep.schema import MANIFEST_NAME, Manifest, Split
from data_prep.shards import ShardedSplitWriter
from data_prep.source import Source
from data_prep.split_writer import SplitWriter
from data_prep.splits import set_aside
from data_prep.tfds_metadata import TFDS_NAMES, write_tfds_metadata

CHECKSUMS_NAME = "record_crc32c.bin"
METADATA_NAMES = (MANIFEST_NAME, CHECKSUMS_NAME, *TFDS_NAMES)


@dataclass(frozen=True)
class ConversionOptions:
    """What is converted and how; the manifest keeps it.

    Attributes:
      dataset: a key of `datasets.DATASETS`.
      image_format: how a record holds its pixels: `raw` or `png`.
      output_format: `tfrecord` or `csv`.
      num_shards: files a split.
      validation_size: training images set aside for validation; None for a twelfth of them.
      test_size: training images set aside for testing where the source has no test split; None
        for a sixth of them.
      limit: keeps the first so many examples of each split; None for all.
      seed: decides which images are set aside, an image folder's order, and synthetic digits.
      image_shape: height, width, channels asked for; None for the source's own.
      image_preparation: `mnist` or `resize`; None for the dataset's own.
      synthetic_train: how many synthetic training images to draw.
      synthetic_test: how many synthetic test images to draw.
    """

    dataset: str
    image_format: str = "raw"
    output_format: str = "tfrecord"
    num_shards: int = 4
    validation_size: int | None = None
    test_size: int | None = None
    limit: int | None = None
    seed: int = 0
    image_shape: tuple[int, int, int] | None = None
    image_preparation: str | None = None
    synthetic_train: int = 60_000
    synthetic_test: int = 10_000


def plan_splits(source: Source, options: ConversionOptions) -> dict[str, int]:
    """Decides how many training images are set aside for which other split.

    Args:
      source: the source; whatever splits it has itself are kept as they are.
      options: the sizes asked for.

    Returns:
      The sizes of the splits to be carved from train: validation, test, both or none.

    Raises:
      UserError: nothing would be left to train on, or a size is asked for a split that exists.
    """
    available = source.splits["train"].num_examples
    asked = {"validation": (options.validation_size, 12), "test": (options.test_size, 6)}
    sizes = {}
    for split, (size, part) in asked.items():
        if split not in source.splits:
            sizes[split] = available // part if size is None else size
        elif size is not None:
            raise UserError(
                f"--{split}_size={size}: the source has a {split} split of its own with "
                f"{source.splits[split].num_examples:,} images; leave the flag out"
            )
    if sum(sizes.values()) >= available:
        wanted = " + ".join(f"{size:,} for {split}" for split, size in sizes.items())
        raise UserError(
            f"{wanted} to be set aside, but there are only {available:,} training images; "
            "lower --validation_size or --test_size"
        )
    return {split: size for split, size in sizes.items() if size}


def write_dataset(
    folder: Path, source: Source, options: ConversionOptions, *, name: str, preparation: str
) -> Manifest:
    """Writes all files of a dataset.

    Args:
      folder: an empty folder.
      source: the images.
      options: what to convert and how.
      name: the dataset's name.
      preparation: its `Manifest.image_preparation`.

    Returns:
      The manifest, which is also written.

    Raises:
      UserError: the source is damaged, or too small for the splits.
    """
    carved = plan_splits(source, options)
    available = source.splits["train"].num_examples
    sizes = {"train": available - sum(carved.values()), **carved}
    sizes |= {split: own.num_examples for split, own in source.splits.items() if split != "train"}
    sizes = {split: sizes[split] for split in schema.SPLITS if split in sizes}
    for split in carved:
        if split == "test":
            log(f"no test split in the source: {carved['test']:,} training images become one")
    if options.limit is not None:
        sizes = {split: min(size, options.limit) for split, size in sizes.items()}
    with contextlib.ExitStack() as stack:
        writers: dict[str, SplitWriter] = {}
        for split, size in sizes.items():
            writers[split] = _make_writer(folder, source, options, name, split, size)
            stack.enter_context(writers[split])
        assignment = set_aside(available, sizes=carved, seed=options.seed)
        _stream(source, writers, assignment, ["train", *carved])
        written = {split: writer.finish() for split, writer in writers.items()}
    return _write_manifest(folder, source, options, name, preparation, written)


def _make_writer(
    folder: Path, source: Source, options: ConversionOptions, name: str, split: str, size: int
) -> SplitWriter:
    num_classes = len(source.class_names)
    if options.output_format == "csv":
        return CsvSplitWriter(
            folder,
            split=split,
            num_examples=size,
            image_shape=source.image_shape,
            num_classes=num_classes,
        )
    if size < options.num_shards:
        log(f"{split}: {size} examples make {size} shard(s), not {options.num_shards}")
    return ShardedSplitWriter(
        folder,
        dataset=name,
        split=split,
        num_examples=size,
        num_shards=min(options.num_shards, size),
        image_shape=source.image_shape,
        image_format=options.image_format,
        num_classes=num_classes,
    )


def _stream(
    source: Source,
    writers: dict[str, SplitWriter],
    assignment: np.ndarray,
    carved: list[str],
) -> None:
    """Reads each of the source's splits once, and gives every image to its split's writer.

    Args:
      source: what to read.
      writers: by split.
      assignment: for each training image, the index of its split in `carved`.
      carved: the splits that the source's training images go to.
    """
    for split, own in source.splits.items():
        targets = carved if split == "train" else [split]
        position = 0
        with progress(f"converting {split}", total=own.num_examples, unit="image") as advance:
            for images, labels in own.read():
                part = assignment[position : position + len(labels)]
                position += len(labels)
                for index, target in enumerate(targets):
                    chosen = part == index if split == "train" else slice(None)
                    writers[target].write(images[chosen], labels[chosen])
                advance(len(labels))
                # A limit may be reached early; else the source must come to its end, for only
                # there does it find further bytes or a wrong checksum.
                full = not any(writers[target].remaining for target in targets)
                if full and position < own.num_examples:
                    break


def _write_manifest(
    folder: Path,
    source: Source,
    options: ConversionOptions,
    name: str,
    preparation: str,
    written: dict[str, tuple[Split, bytes]],
) -> Manifest:
    is_csv = options.output_format == "csv"
    checksums = b"".join(crcs for _, crcs in written.values())
    manifest = Manifest(
        name=name,
        image_shape=source.image_shape,
        image_format="csv" if is_csv else options.image_format,
        image_preparation=preparation,
        class_names=source.class_names,
        splits={split: facts for split, (facts, _) in written.items()},
        conversion=asdict(options),
        sources=tuple(asdict(file) for file in source.files),
        record_checksums={}
        if is_csv
        else {"name": CHECKSUMS_NAME, "sha256": hashlib.sha256(checksums).hexdigest()},
    )
    if not is_csv:
        (folder / CHECKSUMS_NAME).write_bytes(checksums)
        write_tfds_metadata(folder, manifest)
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
