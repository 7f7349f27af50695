"""What the tests of conversion share: a source, and its conversion, done or refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.conversion import Conversion, convert
from data_prep.dataset_folder import ConversionOptions
from data_prep.schema import decode_example, load_manifest

NUM_TRAIN, NUM_TEST, SHAPE = 60, 13, (5, 3, 1)
IDX = ConversionOptions(dataset="idx")
Pixels = list[tuple[bytes, int]]  # of each example: its pixels and its label
WriteIdx = Callable[[Path, str, np.ndarray, np.ndarray], None]


def write_source(folder: Path, write_idx: WriteIdx) -> Path:
    """Writes IDX files of images that are all different, of four classes."""
    random = np.random.default_rng(0)
    for prefix, count in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        images = random.integers(0, 256, (count, *SHAPE[:2]), np.uint8)
        write_idx(folder, prefix, images, np.arange(count) % 4)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder: Path) -> dict[str, Pixels]:
    """Reads a dataset back: every split's examples in order."""
    splits: dict[str, Pixels] = {}
    for split, facts in load_manifest(folder).splits.items():
        examples = splits[split] = []
        for shard in facts.shards:
            for record in tfrecord.scan_records(folder / shard.name):
                example = decode_example(record.data)
                pixels = example.encoded
                if example.image_format == "png":
                    pixels = np.asarray(Image.open(io.BytesIO(pixels))).tobytes()
                examples.append((pixels, example.label))
    return splits


def make(folder: Path, source: Path, *, overwrite: bool = False, **options: Any) -> Conversion:
    return convert(replace(IDX, **options), data_dir=folder, from_dir=source, overwrite=overwrite)


def refuse(folder: Path, source: Path | None, *, overwrite: bool = False, **options: Any) -> str:
    """Converts to a folder, which must be refused and stay as it is; returns the reason."""
    before = contents(folder) if folder.is_dir() else None
    with pytest.raises(UserError) as caught:
        convert(replace(IDX, **options), data_dir=folder, from_dir=source, overwrite=overwrite)
    assert (contents(folder) if folder.is_dir() else None) == before
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    message = str(caught.value)
    assert "\n" not in message
    return message
