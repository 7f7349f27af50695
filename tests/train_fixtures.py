"""What the tests of the input pipeline, the model and training share: a tiny dataset and a model.

Images are 13x9x3 and of 5 classes. Each carries its index in its first pixel, so that a test can
tell which images a batch holds, and a bright row that gives its class away.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import tfrecord
from data_prep.schema import Manifest
from data_prep.shards import ShardedSplitWriter
from train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
IMAGE_SHAPE = (13, 9, 3)
CLASS_NAMES = ("ant", "bee", "cow", "dog", "elk")
SIZES = {"train": 53, "validation": 17, "test": 11}
MODEL = "conv 4 3x3\nmaxpool 2x2\nflatten\ndropout 0.5\noutput\n"


def make_examples(n: int, *, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [n, 13, 9, 3] images, the indices from `first` on, and int64 [n] labels."""
    generator = np.random.default_rng(first)
    images = generator.integers(0, 100, (n, *IMAGE_SHAPE), dtype=np.uint8)
    labels = generator.integers(0, len(CLASS_NAMES), n)
    images[np.arange(n), 2 + 2 * labels] = 200
    images[:, 0, 0, 0], images[:, 0, 0, 1] = divmod(np.arange(first, first + n), 256)
    return images, labels


def indices_of(images: np.ndarray) -> list[int]:
    """Reads the images' indices from their first pixels, uint8 or normalised."""
    corner = images[:, 0, 0, :2]
    if images.dtype != np.uint8:
        corner = np.rint(corner * 255)
    return (corner.astype(int) @ [256, 1]).tolist()


def write_dataset(
    data_dir: Path,
    *,
    sizes: dict[str, int] = SIZES,
    num_shards: int = 3,
    image_format: str = "raw",
    examples: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
    class_names: Sequence[str] = CLASS_NAMES,
) -> Manifest:
    """Writes a dataset folder; its splits' indices follow each other."""
    data_dir.mkdir(parents=True)
    if examples is None:
        starts = np.cumsum([0, *sizes.values()]).tolist()
        examples = {
            split: make_examples(n, first=first)
            for (split, n), first in zip(sizes.items(), starts, strict=False)
        }
    splits, checksums = {}, b""
    image_shape = next(iter(examples.values()))[0].shape[1:]
    for split, (images, labels) in examples.items():
        with ShardedSplitWriter(
            data_dir,
            dataset="tiny",
            split=split,
            num_examples=len(labels),
            num_shards=min(num_shards, len(labels)),
            image_shape=image_shape,
            image_format=image_format,
            num_classes=len(class_names),
        ) as writer:
            writer.write(images, labels)
            splits[split], crcs = writer.finish()
        checksums += crcs
    (data_dir / "record_crc32c.bin").write_bytes(checksums)
    manifest = Manifest(
        name="tiny",
        image_shape=image_shape,
        image_format=image_format,
        image_preparation="resize",
        class_names=tuple(class_names),
        splits=splits,
        conversion={},
        sources=(),
        record_checksums={
            "name": "record_crc32c.bin",
            "sha256": hashlib.sha256(checksums).hexdigest(),
        },
    )
    (data_dir / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def rewrite_shard(data_dir: Path, manifest: Manifest, split: str, records: Sequence[bytes]) -> Path:
    """Puts other records, their checksums right, into a split's first shard.

    The manifest on the disk is given the shard's new size, so that only the records are wrong.
    """
    shard = manifest.splits[split].shards[0]
    path = data_dir / shard.name
    path.write_bytes(b"".join(tfrecord.frame(data, tfrecord.crc32c(data)) for data in records))
    facts = json.loads((data_dir / "manifest.json").read_text(encoding="utf-8"))
    facts["splits"][split]["shards"][0]["num_bytes"] = path.stat().st_size
    (data_dir / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    return path


def flip_bit(path: Path, offset: int) -> None:
    """Flips the lowest bit of a byte of a file; a negative offset counts from the end."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def write_model(folder: Path, text: str = MODEL) -> str:
    """Writes a model's file and returns its path."""
    path = folder / "tiny.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def make_config(model: str, **changes: Any) -> TrainConfig:
    """A short run in float32; one epoch of the 53 training images is 7 steps."""
    values: dict[str, Any] = {
        "model": model,
        "batch_size": 8,
        "epochs": 3.0,
        "precision": "float32",
        "learning_rate": 0.01,
    }
    return TrainConfig(**{**values, **changes})


def start_script(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Starts a script of the project, or a file of a test's, with text pipes."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
