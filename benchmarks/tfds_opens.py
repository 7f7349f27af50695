"""Opens a dataset folder with TensorFlow Datasets and compares every example with our own reader.

Prints a line for each split, and exits with 1 if any count, label or pixel differs. Needs
benchmarks/requirements-peers.txt.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import Example, Manifest, decode_example, load_manifest
from data_prep.tfrecord import scan_records


def read_split(data_dir: Path, manifest: Manifest, split: str) -> Iterator[Example]:
    """Yields a split's examples as the project's own reader gives them, in order.

    Args:
      data_dir: the dataset folder.
      manifest: its manifest.
      split: one of the manifest's splits.
    """
    for shard in manifest.splits[split].shards:
        for record in scan_records(data_dir / shard.name):
            yield decode_example(record.data)


def decode_pixels(example: Example) -> np.ndarray:
    """Returns an example's image: uint8 [height, width, channels]."""
    if example.image_format == "raw":
        pixels = np.frombuffer(example.encoded, np.uint8)
    else:
        from PIL import Image  # Only PNG records need it.

        pixels = np.asarray(Image.open(io.BytesIO(example.encoded)))
    return pixels.reshape(example.image_shape)


def load_arrays(data_dir: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's images, uint8 [n, height, width, channels], and labels, int64 [n]."""
    examples = list(read_split(data_dir, load_manifest(data_dir), split))
    images = np.stack([decode_pixels(example) for example in examples])
    return images, np.array([example.label for example in examples], np.int64)


def find_difference(ours: Example, theirs: dict[str, Any]) -> str | None:
    """Says in what the two readings of one record differ; None where they agree.

    Args:
      ours: the example as the project reads it.
      theirs: the same one as `tfds.as_numpy` gives it.
    """
    image = theirs["image"]
    facts = {
        "label": (ours.label, int(image["class"]["label"])),
        "format": (ours.image_format, image["format"].decode()),
        "shape": (
            ours.image_shape,
            tuple(int(image[side]) for side in ("height", "width", "channels")),
        ),
    }
    for name, (our_value, their_value) in facts.items():
        if our_value != their_value:
            return f"expected {name} {our_value}, found {their_value}"
    if not np.array_equal(decode_pixels(ours), image["encoded"]):
        return "the pixels differ"
    return None


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder to open.")


def main(argv: list[str]) -> int:
    """Opens the folder in both ways and returns 1 if they differ."""
    data_dir = Path(flags.FLAGS.data_dir)
    manifest = load_manifest(data_dir)
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise UserError(
            f"expected the module {error.name}, found none; "
            "pip install -r benchmarks/requirements-peers.txt"
        ) from error
    builder = tfds.builder_from_directory(str(data_dir))
    names = tuple(builder.info.features["image"]["class"]["label"].names)
    if names != manifest.class_names:
        print(f"expected the class names {manifest.class_names}, found {names}")
        return 1
    if set(builder.info.splits) != set(manifest.splits):
        print(f"expected the splits {list(manifest.splits)}, found {list(builder.info.splits)}")
        return 1
    return max(
        [_compare_split(tfds, builder, data_dir, manifest, name) for name in manifest.splits]
    )


def _compare_split(tfds: Any, builder: Any, data_dir: Path, manifest: Manifest, split: str) -> int:
    expected = manifest.splits[split].num_examples
    found = builder.info.splits[split].num_examples
    if found != expected:
        print(f"{split}: expected {expected:,} examples, found {found:,}")
        return 1
    read_config = tfds.ReadConfig(interleave_cycle_length=1)  # The shards one after the other.
    theirs = tfds.as_numpy(builder.as_dataset(split=split, read_config=read_config))
    ours = read_split(data_dir, manifest, split)
    for index, (our_example, their_example) in enumerate(zip(ours, theirs, strict=True)):
        difference = find_difference(our_example, their_example)
        if difference:
            print(f"{split}: example {index:,}: {difference}")
            return 1
    print(f"{split}: {expected:,} examples, all equal")
    return 0


if __name__ == "__main__":
    command_line.run(main, define_flags)
