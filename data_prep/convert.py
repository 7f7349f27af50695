"""Converts a dataset of images to sharded TFRecords.

Downloads MNIST (or another known dataset), or takes the files of --from_dir, or draws digits, and
writes train, validation and test splits with a manifest that lets any later reader check them.
The dataset folder appears whole or not at all, and the same input and flags give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line, datasets, schema
from data_prep.command_line import UserError, log, progress
from data_prep.csv_writer import CsvSplitWriter
from data_prep.damage import find_damage
from data_prep.schema import MANIFEST_NAME, Manifest, Split
from data_prep.shards import SplitWriter
from data_prep.source import Source
from data_prep.splits import set_aside
from data_prep.staging import publish, staging_folder
from data_prep.tfds_metadata import write_tfds_metadata

CHECKSUMS_NAME = "record_crc32c.bin"
_TFDS_NAMES = ("dataset_info.json", "features.json", "image-class-label.labels.txt")


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


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: the dataset's manifest, and whether it was there already."""

    manifest: Manifest
    kept: bool


def convert(
    options: ConversionOptions,
    *,
    data_dir: Path,
    from_dir: Path | None = None,
    download_dir: Path = Path("data/downloads"),
    mirrors: tuple[str, ...] = (),
    overwrite: bool = False,
) -> Conversion:
    """Makes a dataset folder, or keeps the one that is there if it is the same and whole.

    Args:
      options: what to convert and how.
      data_dir: the dataset folder.
      from_dir: where the source files are; None to download or draw them.
      download_dir: where downloaded files are kept.
      mirrors: addresses to try before the known ones.
      overwrite: replaces a dataset that is there.

    Returns:
      The manifest of the dataset that now stands in `data_dir`.

    Raises:
      UserError: the source is damaged, the options do not fit it, or `data_dir` holds something
        else and is not to be overwritten.
    """
    if from_dir is not None and not from_dir.exists():
        raise UserError(
            f"--from_dir={from_dir}: no such folder; name the one with the source files"
        )
    with staging_folder(data_dir) as staging:
        existing = _load_existing(data_dir)
        if existing and not overwrite:
            _require_same_options(existing, options, data_dir)
            if from_dir is None:
                return _keep(existing, data_dir)
        source = datasets.open_source(
            options.dataset,
            from_dir=from_dir,
            download_dir=download_dir,
            image_shape=options.image_shape,
            seed=options.seed,
            synthetic_train=options.synthetic_train,
            synthetic_test=options.synthetic_test,
            mirrors=mirrors,
        )
        if existing and not overwrite:
            _require_same_source(existing, source, data_dir)
            return _keep(existing, data_dir)
        manifest = _write_dataset(staging, source, options, _dataset_name(options, data_dir))
        publish(data_dir)
    return Conversion(manifest, kept=False)


def _dataset_name(options: ConversionOptions, data_dir: Path) -> str:
    """Returns a known dataset's own name; the user's data are called after their folder."""
    if options.dataset not in ("idx", "csv", "image_folder"):
        return options.dataset
    name = re.sub(r"[^a-z0-9]+", "_", data_dir.absolute().name.lower()).strip("_")
    return name or options.dataset


def _load_existing(data_dir: Path) -> Manifest | None:
    """Returns the manifest of the dataset in `data_dir`; None where there is nothing yet."""
    if not data_dir.exists():
        return None
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: a file; choose another --data_dir")
    present = {path.name for path in data_dir.iterdir()}
    if not present:
        return None
    if MANIFEST_NAME not in present:
        raise UserError(
            f"{data_dir}: holds files but no {MANIFEST_NAME}, so it is not a complete dataset, and "
            "it is left as it is; choose another --data_dir, or move its files away"
        )
    manifest = schema.load_manifest(data_dir)
    own = {shard.name for split in manifest.splits.values() for shard in split.shards}
    foreign = sorted(present - own - {MANIFEST_NAME, CHECKSUMS_NAME, *_TFDS_NAMES})
    if foreign:
        raise UserError(
            f"{data_dir}: holds {foreign[0]}, which is not of the dataset {manifest.name} in it; "
            "move it away, or choose another --data_dir"
        )
    return manifest


def _require_same_options(existing: Manifest, options: ConversionOptions, data_dir: Path) -> None:
    asked = json.loads(json.dumps(asdict(options)))
    for key, value in asked.items():
        if existing.conversion.get(key) != value:
            raise UserError(
                f"{data_dir}: holds a dataset made with {key}={existing.conversion.get(key)}, and "
                f"{key}={value} is asked for; pass --overwrite to replace it, or another --data_dir"
            )


def _require_same_source(existing: Manifest, source: Source, data_dir: Path) -> None:
    if [asdict(file) for file in source.files] != list(existing.sources):
        raise UserError(
            f"{data_dir}: holds a dataset made from other source files; pass --overwrite to "
            "replace it, or another --data_dir"
        )


def _keep(existing: Manifest, data_dir: Path) -> Conversion:
    """Verifies the dataset that is there; it is kept if it is whole."""
    damage = find_damage(data_dir, existing)
    if damage:
        more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
        raise UserError(f"{damage[0]}{more}; pass --overwrite to convert the dataset again")
    return Conversion(existing, kept=True)


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


def _write_dataset(folder: Path, source: Source, options: ConversionOptions, name: str) -> Manifest:
    """Writes all files of the dataset into an empty folder."""
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
        writers: dict[str, SplitWriter | CsvSplitWriter] = {}
        for split, size in sizes.items():
            writers[split] = _make_writer(folder, source, options, name, split, size)
            stack.enter_context(writers[split])
        assignment = set_aside(available, sizes=carved, seed=options.seed)
        _stream(source, writers, assignment, ["train", *carved])
        written = {split: writer.finish() for split, writer in writers.items()}
    return _write_manifest(folder, source, options, name, written)


def _make_writer(
    folder: Path, source: Source, options: ConversionOptions, name: str, split: str, size: int
) -> SplitWriter | CsvSplitWriter:
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
    return SplitWriter(
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
    writers: dict[str, SplitWriter | CsvSplitWriter],
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
                if not any(writers[target].remaining for target in targets):
                    break


def _write_manifest(
    folder: Path,
    source: Source,
    options: ConversionOptions,
    name: str,
    written: dict[str, tuple[Split, bytes]],
) -> Manifest:
    is_csv = options.output_format == "csv"
    checksums = b"".join(crcs for _, crcs in written.values())
    info = datasets.DATASETS[options.dataset]
    manifest = Manifest(
        name=name,
        image_shape=source.image_shape,
        image_format="csv" if is_csv else options.image_format,
        image_preparation=options.image_preparation or info.image_preparation,
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


def define_flags() -> None:
    """Defines the script's flags."""
    names = list(datasets.DATASETS)
    flags.DEFINE_enum("dataset", "mnist", names, "The dataset; the last three are your own files.")
    flags.DEFINE_string("data_dir", None, "The dataset folder to make. [data/<dataset>]")
    flags.DEFINE_string("from_dir", None, "Takes the source files from here; downloads nothing.")
    flags.DEFINE_string("download_dir", "data/downloads", "Where downloaded files are kept.")
    flags.DEFINE_multi_string("mirror", [], "An address to try before the known mirrors.")
    flags.DEFINE_enum(
        "image_format",
        "raw",
        list(schema.IMAGE_FORMATS),
        "How a record holds its pixels: raw bytes parse fastest, png is smaller.",
    )
    flags.DEFINE_enum("output_format", "tfrecord", ["tfrecord", "csv"], "What to write.")
    flags.DEFINE_integer("num_shards", 4, "Files a split.", 1, 10_000)
    flags.DEFINE_integer(
        "validation_size",
        None,
        "Training images set aside for validation. [a twelfth: 5,000 of MNIST's 60,000]",
        0,
    )
    flags.DEFINE_integer(
        "test_size",
        None,
        "Training images set aside for testing, where the source has no test split. [a sixth]",
        0,
    )
    flags.DEFINE_integer("limit", None, "Keeps the first so many examples of each split.", 1)
    flags.DEFINE_integer(
        "seed", 0, "Decides which images are set aside, and what synthetic digits look like.", 0
    )
    flags.DEFINE_string(
        "image_shape", None, "HEIGHT,WIDTH,CHANNELS of csv and image_folder images. [the source's]"
    )
    flags.DEFINE_enum(
        "image_preparation",
        None,
        list(schema.IMAGE_PREPARATIONS),
        "How prediction brings an image to this form: mnist finds and centres the ink, resize "
        "scales the whole image. [the dataset's own]",
    )
    flags.DEFINE_integer("synthetic_train", 60_000, "Synthetic training images to draw.", 1)
    flags.DEFINE_integer("synthetic_test", 10_000, "Synthetic test images to draw.", 1)
    flags.DEFINE_bool("overwrite", False, "Replaces a dataset that is already in --data_dir.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")


def main(argv: list[str]) -> None:
    """Converts as the flags say and prints what stands in the dataset folder."""
    values = flags.FLAGS
    shape = values.image_shape and command_line.parse_shape(values.image_shape, "image_shape")
    options = ConversionOptions(
        dataset=values.dataset,
        image_format=values.image_format,
        output_format=values.output_format,
        num_shards=values.num_shards,
        validation_size=values.validation_size,
        test_size=values.test_size,
        limit=values.limit,
        seed=values.seed,
        image_shape=shape or None,
        image_preparation=values.image_preparation,
        synthetic_train=values.synthetic_train,
        synthetic_test=values.synthetic_test,
    )
    data_dir = Path(values.data_dir or f"data/{values.dataset}")
    start = time.monotonic()
    conversion = convert(
        options,
        data_dir=data_dir,
        from_dir=Path(values.from_dir) if values.from_dir else None,
        download_dir=Path(values.download_dir),
        mirrors=tuple(values.mirror),
        overwrite=values.overwrite,
    )
    seconds = time.monotonic() - start
    print(
        _as_json(conversion, data_dir) if values.json else _as_text(conversion, data_dir, seconds)
    )


def _as_json(conversion: Conversion, data_dir: Path) -> str:
    manifest = conversion.manifest
    result: dict[str, Any] = {
        "data_dir": str(data_dir),
        "dataset": manifest.name,
        "kept": conversion.kept,
        "image_shape": manifest.image_shape,
        "class_names": manifest.class_names,
        "splits": {name: split.num_examples for name, split in manifest.splits.items()},
        "digest": manifest.digest,
    }
    return json.dumps(result, ensure_ascii=False)


def _as_text(conversion: Conversion, data_dir: Path, seconds: float) -> str:
    manifest = conversion.manifest
    shape = "x".join(map(str, manifest.image_shape))
    done = "already there, verified and kept" if conversion.kept else f"written in {seconds:.1f} s"
    lines = [
        f"{manifest.name} in {data_dir}: {done}",
        f"  {shape} images ({manifest.image_format}), {len(manifest.class_names)} classes: "
        + " ".join(manifest.class_names),
    ]
    for name, split in manifest.splits.items():
        files = f"{len(split.shards)} file(s)"
        size = f"{split.num_bytes / 1e6:.1f} MB"
        lines.append(f"  {name:<10} {split.num_examples:>9,} images  {files:>10}  {size:>10}")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
