"""CSV files: their bytes, and that they come back as the same examples."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from data_prep.csv_images import read_csv_dataset
from data_prep.csv_writer import CsvSplitWriter
from data_prep.schema import Split

SHAPE = (2, 3, 1)
IMAGES = np.array([[0, 10, 200, 255, 1, 2], [9, 99, 100, 0, 0, 5], [7] * 6], np.uint8)
LABELS = np.array([3, 0, 3])
TEXT = """label,pixel0,pixel1,pixel2,pixel3,pixel4,pixel5
3,0,10,200,255,1,2
0,9,99,100,0,0,5
3,7,7,7,7,7,7
"""


def write(
    folder: Path, *, batches: tuple[int, ...] = (3,), num_examples: int = 3
) -> tuple[Split, bytes]:
    with CsvSplitWriter(
        folder, split="train", num_examples=num_examples, image_shape=SHAPE, num_classes=5
    ) as writer:
        start = 0
        for size in batches:
            images = IMAGES[start : start + size].reshape(-1, *SHAPE)
            writer.write(images, LABELS[start : start + size])
            start += size
        return writer.finish()


def test_the_file_has_a_header_and_a_line_for_each_image(tmp_path: Path) -> None:
    split, checksums = write(tmp_path)
    content = (tmp_path / "train.csv").read_bytes()
    assert content == TEXT.encode()
    assert (split.num_examples, split.class_counts, checksums) == (3, (1, 0, 0, 2, 0), b"")
    (shard,) = split.shards
    assert (shard.name, shard.num_examples, shard.num_bytes) == ("train.csv", 3, len(content))
    assert shard.sha256 == hashlib.sha256(content).hexdigest()


def test_the_bytes_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    write(tmp_path, batches=(1, 0, 2))
    assert (tmp_path / "train.csv").read_text() == TEXT


def test_examples_beyond_the_announced_ones_are_left_out(tmp_path: Path) -> None:
    split, _ = write(tmp_path, batches=(1, 2), num_examples=2)
    assert (tmp_path / "train.csv").read_text() == TEXT.rpartition("3,7")[0]
    assert split.class_counts == (1, 0, 0, 1, 0)


def test_the_file_comes_back_as_the_same_images(tmp_path: Path) -> None:
    write(tmp_path)
    ((images, labels),) = read_csv_dataset(tmp_path, SHAPE).splits["train"].read()
    np.testing.assert_array_equal(images, IMAGES.reshape(-1, *SHAPE))
    np.testing.assert_array_equal(labels, LABELS)
