import dataclasses
import io
import os
import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.schema import ExampleEncoder, load_manifest
from input_pipeline.datasets import load_labels, make_eval_dataset, make_train_dataset
from input_pipeline.records import damage_named, shard_paths
from input_pipeline.splits import count_examples, resolve_splits
from tests.train_fixtures import flip_bit, make_examples, rewrite_shard, write_dataset

RECORD_BYTES = len(ExampleEncoder((13, 9, 3), "raw").encode(bytes(351), 0)) + 16


@pytest.fixture
def data_dir(tmp_path):
    write_dataset(tmp_path / "tiny", num_shards=2)
    return tmp_path / "tiny"


def read_all(data_dir, how):
    """Reads the whole training split as training and evaluation do."""
    manifest = load_manifest(data_dir)
    with damage_named(data_dir, manifest, ["train"]):
        if how == "labels":
            return load_labels(data_dir, manifest, ["train"])
        if how == "eval":
            dataset = make_eval_dataset(data_dir, manifest, splits=["train"], batch_size=8)
        else:
            cache_mb: Any = 0.01 if how == "streamed" else 1
            dataset = make_train_dataset(
                data_dir, manifest, splits=["train"], batch_size=8, seed=0, cache_mb=cache_mb
            ).take(7)
        return list(dataset.as_numpy_iterator())


def assert_named(data_dir, how, shard, problem):
    remedy = (
        f"; python data_prep/verify.py --data_dir={data_dir} lists all damage, and convert.py "
        "--overwrite makes the dataset anew"
    )
    with pytest.raises(UserError, match=re.escape(f"{shard}: {problem}{remedy}") + "$") as error:
        read_all(data_dir, how)
    assert "\n" not in str(error.value)


def replaced_record(data_dir, index, data):
    """Puts one other record into the training split's first shard."""
    manifest = load_manifest(data_dir)
    path = data_dir / manifest.splits["train"].shards[0].name
    records = [record.data for record in tfrecord.scan_records(path)]
    records[index] = data
    return rewrite_shard(data_dir, manifest, "train", records)


def edited_example(change):
    """A record of the dataset, changed through TensorFlow's own message type."""
    images, labels = make_examples(1)
    data = ExampleEncoder((13, 9, 3), "raw").encode(images[0].tobytes(), int(labels[0]))
    example = tf.train.Example.FromString(data)
    change(example.features.feature)
    return example.SerializeToString(deterministic=True)


def test_splits_are_resolved(data_dir):
    manifest = load_manifest(data_dir)
    assert resolve_splits("test", manifest) == ("test",)
    assert resolve_splits("validation+train", manifest) == ("validation", "train")
    assert count_examples(manifest, ["validation", "train"]) == 70
    assert [os.path.basename(path) for path in shard_paths(data_dir, manifest, ["test"])] == [
        "tiny-test.tfrecord-00000-of-00002",
        "tiny-test.tfrecord-00001-of-00002",
    ]


@pytest.mark.parametrize("splits", ["valid", "train+valid", "train+", ""])
def test_unknown_split_is_refused_with_those_there_are(data_dir, splits):
    with pytest.raises(
        UserError,
        match=r"^split '(valid)?': the dataset tiny has train, validation, test; join several with",
    ):
        resolve_splits(splits, load_manifest(data_dir))


def test_split_named_twice_is_refused(data_dir):
    with pytest.raises(UserError, match=r"^split 'train\+train': names a split twice; its images"):
        resolve_splits("train+train", load_manifest(data_dir))


@pytest.mark.parametrize("read", ["train", "streamed", "eval", "labels"])
def test_flipped_bit_is_named(data_dir, read):
    shard = data_dir / "tiny-train.tfrecord-00000-of-00002"
    flip_bit(shard, 3 * RECORD_BYTES + 100)
    problem = f"record 3 (at byte {3 * RECORD_BYTES:,}): the checksum of its data does not match"
    assert_named(data_dir, read, shard, problem)


@pytest.mark.parametrize("read", ["streamed", "eval"])
def test_flipped_bit_in_a_length_is_named(data_dir, read):
    shard = data_dir / "tiny-train.tfrecord-00001-of-00002"
    flip_bit(shard, 2 * RECORD_BYTES)
    problem = f"record 2 (at byte {2 * RECORD_BYTES:,}): the checksum of its length does not match"
    assert_named(data_dir, read, shard, problem)


@pytest.mark.parametrize("read", ["train", "eval"])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            ExampleEncoder((9, 13, 3), "raw").encode(bytes(351), 0),
            "expected an image of (13, 9, 3), found (9, 13, 3)",
        ),
        (
            ExampleEncoder((13, 9, 3), "png").encode(bytes(351), 0),
            "expected image/format raw, found 'png'",
        ),
        (
            ExampleEncoder((13, 9, 3), "raw").encode(bytes(350), 0),
            "expected 351 bytes of pixels, found 350",
        ),
        (
            ExampleEncoder((13, 9, 3), "raw").encode(bytes(351), 5),
            "expected a label below 5, found 5",
        ),
        (
            edited_example(lambda feature: feature.pop("image/class/label")),
            "feature image/class/label is missing",
        ),
        (b"", "feature image/channels is missing"),
        (b"no example", "not a tf.train.Example"),
    ],
    ids=["shape", "format", "length", "label", "feature", "empty", "junk"],
)
def test_record_that_contradicts_the_manifest_is_named(data_dir, read, data, problem):
    shard = replaced_record(data_dir, 4, data)
    assert_named(data_dir, read, shard, f"record 4 (at byte {4 * RECORD_BYTES:,}): {problem}")


@pytest.mark.parametrize("read", ["train", "eval"])
@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (None, "its PNG cannot be decoded ("),
        ((9, 13), "expected a PNG of (13, 9, 3), found (9, 13, 3)"),
    ],
)
def test_png_that_cannot_be_used_is_named(tmp_path, read, shape, problem):
    write_dataset(tmp_path / "tiny", num_shards=2, image_format="png")
    file = io.BytesIO(b"no PNG" if shape is None else b"")
    if shape:
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(file, "PNG")
    data = ExampleEncoder((13, 9, 3), "png").encode(file.getvalue(), 0)
    shard = replaced_record(tmp_path / "tiny", 4, data)
    with pytest.raises(UserError, match=re.escape(f"{shard}: record 4 (at byte ")) as error:
        read_all(tmp_path / "tiny", read)
    assert problem in str(error.value)


def test_negative_label_is_named(data_dir):
    def negate(feature):
        feature["image/class/label"].int64_list.value[0] = -1

    shard = replaced_record(data_dir, 0, edited_example(negate))
    problem = f"record 0 (at byte 0): expected a label below 5, found {2**64 - 1}"
    assert_named(data_dir, "train", shard, problem)


@pytest.mark.parametrize("read", ["train", "eval"])
@pytest.mark.parametrize("cut", [1, RECORD_BYTES], ids=["inside a record", "between two records"])
def test_cut_shard_is_found_before_anything_is_read(data_dir, read, cut):
    shard = data_dir / "tiny-train.tfrecord-00000-of-00002"
    size = shard.stat().st_size
    os.truncate(shard, size - cut)
    problem = f"expected {size:,} bytes, found {size - cut:,} bytes"
    assert_named(data_dir, read, shard, problem)


@pytest.mark.parametrize("read", ["labels", "eval"])
def test_missing_shard_is_named(data_dir, read):
    shard = data_dir / "tiny-train.tfrecord-00001-of-00002"
    size = shard.stat().st_size
    shard.unlink()
    assert_named(data_dir, read, shard, f"expected {size:,} bytes, found no file")


def test_shard_that_vanishes_while_it_is_read_is_named(data_dir):
    manifest = load_manifest(data_dir)
    shard = data_dir / "tiny-train.tfrecord-00001-of-00002"
    dataset = make_eval_dataset(data_dir, manifest, splits=["train"], batch_size=8)
    shard.unlink()
    with pytest.raises(UserError, match=f"^{re.escape(str(shard))}: missing; python data_prep"):
        with damage_named(data_dir, manifest, ["train"]):
            list(dataset.as_numpy_iterator())


def test_other_errors_of_tensorflow_are_passed_on(data_dir):
    manifest = load_manifest(data_dir)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not of the data"):
        with damage_named(data_dir, manifest, ["train"]):
            raise tf.errors.InvalidArgumentError(None, None, "not of the data")


def test_shard_of_another_count_than_the_manifest_is_named(data_dir):
    # Other sizes and counts may agree by chance; then only the count is wrong.
    manifest = load_manifest(data_dir)
    first, second = manifest.splits["train"].shards
    wrong = dataclasses.replace(first, num_examples=27)
    split = dataclasses.replace(manifest.splits["train"], shards=(wrong, second))
    manifest = dataclasses.replace(manifest, splits={"train": split})
    with pytest.raises(UserError, match="00000-of-00002: expected 27 records, found 26; python"):
        with damage_named(data_dir, manifest, ["train"]):
            raise tf.errors.DataLossError(None, None, "")


def test_whole_dataset_is_read_without_complaint(data_dir):
    labels = read_all(data_dir, "labels")
    assert np.array_equal(labels, make_examples(53)[1])
