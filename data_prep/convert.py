"""Converts a dataset of images to sharded TFRecords.

Downloads MNIST (or another known dataset), or takes the files of --from_dir, or draws digits, and
writes train, validation and test splits with a manifest that lets any later reader check them.
The dataset folder appears whole or not at all, and the same input and flags give the same bytes.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line, datasets, schema
from data_prep.command_line import UserError

if TYPE_CHECKING:
    from data_prep.conversion import Conversion


def define_flags() -> None:
    """Defines the script's flags."""
    names = list(datasets.DATASETS)
    flags.DEFINE_enum("dataset", "mnist", names, "The dataset; the last four are your own files.")
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
        "seed",
        0,
        "Decides which images are set aside, and what synthetic digits look like.",
        0,
        2**32 - 1,
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
    from data_prep.conversion import convert
    from data_prep.dataset_folder import ConversionOptions

    values = flags.FLAGS
    _refuse_unused(values)
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


def _refuse_unused(values: flags.FlagValues) -> None:
    """Refuses flags that would change nothing, since whoever gave them expects that they do."""
    is_synthetic, is_csv = values.dataset == "synthetic", values.output_format == "csv"
    for name, used, where in (
        ("synthetic_train", is_synthetic, "--dataset=synthetic"),
        ("synthetic_test", is_synthetic, "--dataset=synthetic"),
        ("image_format", not is_csv, "--output_format=tfrecord"),
        ("num_shards", not is_csv, "--output_format=tfrecord"),
        ("download_dir", not values.from_dir, "downloads, which --from_dir makes none of"),
        ("mirror", not values.from_dir, "downloads, which --from_dir makes none of"),
    ):
        if values[name].present and not used:
            raise UserError(f"--{name} belongs to {where}; leave it out")


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
