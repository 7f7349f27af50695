"""The writers of shards, and the choice of what is set aside."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import tfrecord
from data_prep.schema import Split, decode_example
from data_prep.shards import ShardedSplitWriter, shard_name
from data_prep.splits import random_keys, set_aside

SHAPE = (3, 5, 1)
COUNT = 11
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
LABELS = np.arange(COUNT) % 4


def write(
    folder: Path,
    *,
    batches: tuple[int, ...] = (COUNT,),
    num_examples: int = COUNT,
    num_shards: int = 3,
    image_format: str = "raw",
    images: np.ndarray = IMAGES,
) -> tuple[Split, bytes]:
    """Writes the images in batches of the given sizes."""
    folder.mkdir(exist_ok=True)
    with ShardedSplitWriter(
        folder,
        dataset="tiny",
        split="train",
        num_examples=num_examples,
        num_shards=num_shards,
        image_shape=images.shape[1:],
        image_format=image_format,
        num_classes=5,
    ) as writer:
        start = 0
        for size in batches:
            writer.write(images[start : start + size], LABELS[start : start + size])
            start += size
        return writer.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decode(folder: Path, split: Split) -> tuple[list[np.ndarray], list[int]]:
    images, labels = [], []
    for shard in split.shards:
        for record in tfrecord.scan_records(folder / shard.name):
            assert record.damage is None
            example = decode_example(record.data)
            pixels = np.frombuffer(example.encoded, np.uint8)
            if example.image_format == "png":
                pixels = np.asarray(Image.open(io.BytesIO(example.encoded)))
            images.append(pixels.reshape(example.image_shape))
            labels.append(example.label)
    return images, labels


def test_shards_are_named_as_tfds_and_slim_name_them() -> None:
    assert shard_name("mnist", "test", 3, 12) == "mnist-test.tfrecord-00003-of-00012"


@pytest.mark.parametrize(
    ("num_examples", "num_shards", "counts"),
    [(11, 3, [3, 4, 4]), (11, 1, [11]), (11, 11, [1] * 11), (1, 1, [1]), (10, 4, [2, 3, 2, 3])],
)
def test_shards_hold_nearly_equal_counts(
    tmp_path: Path, num_examples: int, num_shards: int, counts: list[int]
) -> None:
    split, _ = write(tmp_path, num_examples=num_examples, num_shards=num_shards)
    assert [shard.num_examples for shard in split.shards] == counts
    assert split.num_examples == num_examples
    assert sorted(contents(tmp_path)) == [shard.name for shard in split.shards]


def test_what_is_said_of_the_shards_is_true(tmp_path: Path) -> None:
    split, checksums = write(tmp_path)
    images, labels = decode(tmp_path, split)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels == LABELS.tolist()
    assert split.class_counts == (3, 3, 3, 2, 0)
    crcs = []
    for shard in split.shards:
        content = (tmp_path / shard.name).read_bytes()
        assert shard.num_bytes == len(content)
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
        records = tfrecord.scan_records(tmp_path / shard.name)
        crcs += [tfrecord.crc32c(record.data) for record in records]
    assert checksums == struct.pack("<11I", *crcs)


@pytest.mark.parametrize("batches", [(1,) * 11, (2, 9), (3, 4, 4), (0, 5, 0, 6), (10, 1)])
def test_the_bytes_do_not_depend_on_the_batches(tmp_path: Path, batches: tuple[int, ...]) -> None:
    expected = write(tmp_path / "whole")
    assert write(tmp_path / "pieces", batches=batches) == expected
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_examples_beyond_the_announced_ones_are_left_out(tmp_path: Path) -> None:
    split, checksums = write(tmp_path, num_examples=7, batches=(5, 4, 2))
    assert decode(tmp_path, split)[1] == LABELS[:7].tolist()
    assert (sum(split.class_counts), len(checksums)) == (7, 28)


def test_too_few_examples_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^2 of 11 examples never came$"):
        write(tmp_path, batches=(9,))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_the_pixels_of_raw(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (COUNT, 4, 7, channels), np.uint8)
    raw, _ = write(tmp_path / "raw", images=images)
    png, _ = write(tmp_path / "png", images=images, image_format="png")
    np.testing.assert_array_equal(decode(tmp_path / "png", png)[0], images)
    np.testing.assert_array_equal(decode(tmp_path / "raw", raw)[0], images)
    assert png.class_counts == raw.class_counts
    first = next(tfrecord.scan_records(tmp_path / "png" / png.shards[0].name))
    assert decode_example(first.data).encoded.startswith(b"\x89PNG\r\n")


def test_the_keys_stay_what_they_are() -> None:
    """Other keys would set aside other images: every dataset's bytes would change."""
    assert random_keys(2, 0).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]  # SplitMix64's
    chosen = set_aside(12, sizes={"validation": 3, "test": 2}, seed=5)
    assert chosen.tolist() == [0, 0, 0, 2, 0, 1, 0, 0, 2, 1, 0, 1]


def test_set_aside_takes_the_sizes_asked_for() -> None:
    assignment = set_aside(1000, sizes={"validation": 83, "test": 166}, seed=3)
    assert assignment.dtype == np.uint8
    assert np.bincount(assignment).tolist() == [1000 - 83 - 166, 83, 166]
    assert not set_aside(1000, sizes={}, seed=3).any()


def test_what_is_set_aside_is_spread_evenly() -> None:
    chosen = np.flatnonzero(set_aside(60_000, sizes={"validation": 5_000}, seed=0))
    tenths = np.histogram(chosen, 10, (0, 60_000))[0]
    assert abs(tenths - 500).max() < 100  # 4.5 standard deviations


def test_the_seed_decides_what_is_set_aside() -> None:
    def choose(seed: int) -> list[int]:
        return set_aside(500, sizes={"validation": 100}, seed=seed).tolist()

    assert choose(1) == choose(1)
    seeds = (0, 1, 2, 2**31, 2**32 - 1)
    assert len({tuple(choose(seed)) for seed in seeds}) == len(seeds)


def test_another_size_takes_more_of_the_same() -> None:
    few = set_aside(500, sizes={"validation": 10}, seed=1) == 1
    many = set_aside(500, sizes={"validation": 50}, seed=1) == 1
    assert (few & many).sum() == 10
