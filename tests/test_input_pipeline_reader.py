"""Records of one layout are read as rows; all others are parsed, and give the same."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from input_pipeline import reader
from input_pipeline.datasets import make_eval_dataset, make_train_dataset
from input_pipeline.records import damage_named
from input_pipeline.rows import RowLayout
from tests.train_fixtures import SIZES, make_examples, rewrite_shard, write_dataset

N = SIZES["train"]
WAYS: dict[str, Any] = {
    "resident": {"cache_mb": 1024},
    "streamed": {"cache_mb": 0.01},
    "kept": {"kept": np.arange(N) % 3 == 1},
}


# A row has 524 bytes, and a shard 17 or 18 records.
@pytest.fixture(params=[3 << 10, 2 << 20], ids=["a few records", "a shard"])
def block(request, monkeypatch):
    monkeypatch.setattr(reader, "_BLOCK_BYTES", request.param)


def read(data_dir, way):
    manifest = load_manifest(data_dir)
    if way == "eval":
        dataset = make_eval_dataset(data_dir, manifest, splits=["train"], batch_size=10)
    else:
        dataset = make_train_dataset(
            data_dir, manifest, splits=["train"], batch_size=7, seed=3, **WAYS[way]
        ).take(10)
    return [part for batch in dataset.as_numpy_iterator() for part in batch]


def reordered(data):
    """The same example with its features in another order, as long as before."""
    features = tf.train.Example.FromString(data).features.feature
    entries = [
        tf.train.Features(feature={key: features[key]}).SerializeToString()
        for key in sorted(features, reverse=True)
    ]
    joined = b"".join(entries)
    return data[: len(data) - len(joined)] + joined


@pytest.mark.parametrize("way", [*WAYS, "eval"])
@pytest.mark.parametrize("others", [[0], [5], range(1, 18)])
def test_records_of_another_writer_give_the_same(tmp_path, block, way, others):
    manifest = write_dataset(tmp_path / "tiny")
    expected = read(tmp_path / "tiny", way)
    path = tmp_path / "tiny" / manifest.splits["train"].shards[0].name
    records = [record.data for record in tfrecord.scan_records(path)]
    records = [reordered(data) if i in others else data for i, data in enumerate(records)]
    size = path.stat().st_size
    rewrite_shard(tmp_path / "tiny", manifest, "train", records)
    assert path.stat().st_size == size
    for found, wanted in zip(read(tmp_path / "tiny", way), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("way", [*WAYS, "eval"])
def test_what_the_project_writes_is_not_parsed(tmp_path, block, way, monkeypatch):
    def refuse(*_):
        raise AssertionError("parsed")

    write_dataset(tmp_path / "tiny")
    monkeypatch.setattr(reader, "parse_batch", refuse)
    assert len(read(tmp_path / "tiny", way)) > 2


@pytest.mark.parametrize("numbers", [[5, 127], [127, 128, 5], [128, 300, 5]])
def test_labels_of_any_length(tmp_path, block, numbers):
    labels = np.resize(numbers, 11)
    write_dataset(
        tmp_path / "many",
        examples={"train": (make_examples(11)[0], labels)},
        class_names=[str(number) for number in range(301)],
    )
    parts = read(tmp_path / "many", "eval")
    np.testing.assert_array_equal(np.concatenate(parts[1::2]), labels)


def test_layout_is_the_encoders(tmp_path):
    manifest = write_dataset(tmp_path / "tiny")
    images, labels = make_examples(N)
    path = tmp_path / "tiny" / manifest.splits["train"].shards[0].name
    found = RowLayout(manifest).read(path, 2, 15)
    assert found is not None
    pixels, numbers = found
    np.testing.assert_array_equal(pixels, images[2:17].reshape(15, -1))
    assert numbers.tolist() == labels[2:17].tolist()
    assert RowLayout(manifest).read(path, 2, 16) is None  # The shard ends before that.


@pytest.mark.parametrize("place", ["length", "length's checksum", "label", "pixels", "checksum"])
def test_every_byte_of_a_row_is_checked(tmp_path, place):
    manifest = write_dataset(tmp_path / "tiny")
    path = tmp_path / "tiny" / manifest.splits["train"].shards[0].name
    layout = RowLayout(manifest)
    content = path.read_bytes()
    start = 4 * layout.row_bytes
    label = content.index(b"image/class/label", start) + len(b"image/class/label") + 6
    offset = {
        "length": start,
        "length's checksum": start + 9,
        "label": label,
        "pixels": start + layout.row_bytes // 2,
        "checksum": start + layout.row_bytes - 2,
    }[place]
    assert layout.read(path, 4, 1)
    damaged = bytearray(content)
    damaged[offset] ^= 1
    path.write_bytes(damaged)
    assert layout.read(path, 4, 1) is None
    assert layout.read(path, 0, 4) and layout.read(path, 5, 2)


@pytest.mark.parametrize("way", ["resident", "eval"])
def test_raw_records_of_a_dataset_of_png_are_refused(tmp_path, way):
    manifest = write_dataset(tmp_path / "tiny")
    manifest = dataclasses.replace(manifest, image_format="png")
    (tmp_path / "tiny/manifest.json").write_text(manifest.to_json())
    with pytest.raises(tf.errors.InvalidArgumentError):
        read(tmp_path / "tiny", way)


@pytest.mark.parametrize("way", ["resident", "streamed", "eval"])
def test_lengths_that_only_add_up_are_refused(tmp_path, block, way):
    # A record too long and one too short by as much: rows behind them would be other records.
    manifest = write_dataset(tmp_path / "tiny")
    path = tmp_path / "tiny" / manifest.splits["train"].shards[0].name
    records = [record.data for record in tfrecord.scan_records(path)]
    example = tf.train.Example.FromString(records[2])
    example.features.feature["other"].int64_list.value.append(1)
    longer = example.SerializeToString()
    excess = len(longer) - len(records[2])
    pixels = example.features.feature["image/encoded"].bytes_list.value[0]
    shorter = records[3].replace(pixels, b"")[: len(records[3]) - excess]
    records[2:4] = [longer, shorter]
    rewrite_shard(tmp_path / "tiny", manifest, "train", records)
    with (
        pytest.raises(UserError, match=r"verify.py --data_dir=.* lists all damage"),
        damage_named(tmp_path / "tiny", load_manifest(tmp_path / "tiny"), ["train"]),
    ):
        read(tmp_path / "tiny", way)
