"""The record against TensorFlow's own bytes, and the manifest against all that can be wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.command_line import UserError
from data_prep.schema import (
    FEATURES,
    Example,
    ExampleEncoder,
    Manifest,
    Shard,
    Split,
    decode_example,
    load_manifest,
)
from data_prep.tfrecord import scan_records

GOLDEN = Path(__file__).parent / "testdata" / "two_records.tfrecord"  # written by TensorFlow
GOLDEN_EXAMPLES = (
    Example(bytes(range(250, 256)), "raw", (2, 3, 1), 6),
    Example(bytes(6), "raw", (2, 3, 1), 300),
)


def field(number: int, payload: bytes, wire_type: int = 2) -> bytes:
    """A protobuf field of less than 128 bytes."""
    return bytes([number << 3 | wire_type, len(payload)]) + payload


def entry(key: str, feature: bytes) -> bytes:
    return field(1, field(1, key.encode()) + field(2, feature))


INT = field(3, field(1, b"\x03"))
BYTES = field(1, field(1, b"raw"))
FLOAT = field(2, field(1, bytes(4)))
FEATURE_OF = {key: INT if kind is int else BYTES for key, kind in FEATURES.items()}


def example(**changes: bytes | None) -> bytes:
    """Serialises an Example; `changes` replaces a feature, by its key's last part, or drops it."""
    entries = b""
    for key, feature in FEATURE_OF.items():
        changed = changes.get(key.rpartition("/")[2], feature)
        entries += b"" if changed is None else entry(key, changed)
    return b"\x0a" + bytes([len(entries) & 0x7F | 0x80, len(entries) >> 7]) + entries


def test_examples_are_the_golden_bytes() -> None:
    records = [record.data for record in scan_records(GOLDEN)]
    encoder = ExampleEncoder((2, 3, 1), "raw")
    assert [encoder.encode(e.encoded, e.label) for e in GOLDEN_EXAMPLES] == records
    assert tuple(map(decode_example, records)) == GOLDEN_EXAMPLES


def test_examples_are_what_tensorflow_serialises() -> None:
    from data_prep.command_line import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    # Lengths and numbers around those where a varint grows by a byte.
    for length in (0, 1, 100, 127, 128, 2352, 16_200, 16_384, 3 << 20):
        for label, shape in ((0, (1, 1, 1)), (127, (28, 20, 3)), (128, (1024, 129, 3))):
            encoded = b"\x07" * length
            proto = tf.train.Example()
            features = proto.features.feature
            features["image/encoded"].bytes_list.value.append(encoded)
            features["image/format"].bytes_list.value.append(b"png")
            features["image/class/label"].int64_list.value.append(label)
            for side, size in zip(("height", "width", "channels"), shape, strict=True):
                features[f"image/{side}"].int64_list.value.append(size)
            data = ExampleEncoder(shape, "png").encode(encoded, label)
            assert data == proto.SerializeToString(deterministic=True)
            assert decode_example(data) == Example(encoded, "png", shape, label)


def test_features_may_stand_in_any_order() -> None:
    entries = [entry(key, feature) for key, feature in reversed(FEATURE_OF.items())]
    assert decode_example(b"".join(field(1, e) for e in entries)) == decode_example(example())


@pytest.mark.parametrize("key", FEATURES)
def test_a_record_without_a_feature_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match=f"^feature {key} is missing$"):
        decode_example(example(**{key.rpartition("/")[2]: None}))


@pytest.mark.parametrize(
    ("key", "feature"),
    [
        ("label", BYTES),
        ("encoded", INT),
        ("label", FLOAT),
        ("label", b""),  # a Feature without a list
        ("label", field(3, b"")),  # an empty list
        ("label", field(3, field(1, b"\x03\x04"))),  # two packed numbers
        ("format", field(1, field(1, b"raw") * 2)),  # two strings
    ],
)
def test_a_feature_of_another_type_or_count_is_an_error(key: str, feature: bytes) -> None:
    with pytest.raises(ValueError, match=rf"^feature image/\S*{key} has the wrong type$"):
        decode_example(example(**{key: feature}))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # a tag without a length
        b"\x0a\x05abc",  # shorter than it says
        field(1, b"", wire_type=0),  # a field that is no message
        field(2, b""),  # a field that an Example does not have
        b"\xff" * 11,  # a number that does not end
        b"not an Example",
    ],
)
def test_bytes_that_are_no_example(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not a tf\.train\.Example$"):
        decode_example(data)


def test_a_feature_without_a_value_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^a feature without a name or a value$"):
        decode_example(field(1, field(1, field(1, b"image/height"))))


MANIFEST = Manifest(
    name="pets",
    image_shape=(5, 3, 3),
    image_format="raw",
    image_preparation="resize",
    class_names=("cat", "chien à poil", "犬"),
    splits={
        "train": Split(2, (1, 1, 0), (Shard("a", 1, 20, "0" * 64), Shard("b", 1, 9, "1" * 64)))
    },
    conversion={"dataset": "image_folder"},
    sources=({"name": "x", "num_bytes": 1, "sha256": "2" * 64},),
    record_checksums={"name": "record_crc32c.bin", "sha256": "3" * 64},
)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(MANIFEST.to_json(), encoding="utf-8")
    assert load_manifest(tmp_path) == MANIFEST
    assert "chien à poil" in MANIFEST.to_json()
    assert MANIFEST.splits["train"].num_bytes == 29


def test_the_digest_is_of_what_training_sees() -> None:
    shards = (Shard("a", 1, 20, "9" * 64), *MANIFEST.splits["train"].shards[1:])
    splits = {"train": replace(MANIFEST.splits["train"], shards=shards)}
    others = [
        replace(MANIFEST, image_shape=(3, 5, 3)),
        replace(MANIFEST, class_names=("cat", "dog", "bird")),
        replace(MANIFEST, splits=splits),
    ]
    assert len({MANIFEST.digest, *[other.digest for other in others]}) == 4
    assert replace(MANIFEST, name="other", sources=()).digest == MANIFEST.digest


def fail(folder: Path, text: str | bytes | None) -> str:
    """Writes what stands in a manifest's place and returns the one line that refuses it."""
    if text is not None:
        data = text.encode() if isinstance(text, str) else text
        (folder / "manifest.json").write_bytes(data)
    with pytest.raises(UserError) as caught:
        load_manifest(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder))
    return message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    message = fail(tmp_path / "none", None)
    assert "no such dataset folder; python data_prep/convert.py makes" in message


def test_a_folder_without_a_manifest_is_not_complete(tmp_path: Path) -> None:
    (tmp_path / "mnist-train.tfrecord-00000-of-00001").touch()
    assert "missing, so this is not a complete dataset folder" in fail(tmp_path, None)


def test_a_manifest_of_another_version(tmp_path: Path) -> None:
    values = json.loads(MANIFEST.to_json())
    message = fail(tmp_path, json.dumps({**values, "format_version": 2}))
    assert "expected format_version 1, found 2; remove the folder and convert" in message


@pytest.mark.parametrize("key", json.loads(MANIFEST.to_json()))
def test_a_manifest_without_a_key(tmp_path: Path, key: str) -> None:
    values = json.loads(MANIFEST.to_json())
    del values[key]
    message = fail(tmp_path, json.dumps(values))
    assert "not a manifest (" in message
    assert key in message
    assert "restore it, or remove the folder and convert again" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        (MANIFEST.to_json()[:-9], "Unterminated string"),  # cut short
        ("[]", "list indices"),
        ("null", "not subscriptable"),
        ('{"format_version": 1}', "no 'image_shape'"),
        (MANIFEST.to_json().replace('"num_bytes": 20', '"bytes": 20'), "'bytes'"),
        (MANIFEST.to_json().replace("5,\n    3,\n    3", "5,\n    3"), "not enough values"),
        (b"\xff\xfe\x00", "can't decode byte"),
    ],
)
def test_a_damaged_manifest(tmp_path: Path, text: str | bytes, reason: str) -> None:
    message = fail(tmp_path, text)
    assert "manifest.json: not a manifest (" in message
    assert reason in message


def test_a_file_is_no_dataset_folder(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert f"{tmp_path / 'data'}: a file, no dataset folder; " in fail(tmp_path / "data", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"splits": {}}, "it names no split"),
        ({"class_names": ("a",)}, "split train counts 3 classes, class_names has 1"),
        ({"num_examples": 1}, "split train has 1 examples, its shards 2"),
        ({"class_counts": (1, 2, 0)}, "split train has 2 examples, its classes 3"),
        ({"shards": (Shard("../a", 2, 20, "0" * 64),)}, "has a shard outside the folder, '../a'"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    if "splits" in change or "class_names" in change:
        manifest = replace(MANIFEST, **change)  # type: ignore[arg-type]
    else:
        split = replace(MANIFEST.splits["train"], **change)  # type: ignore[arg-type]
        manifest = replace(MANIFEST, splits={"train": split})
    message = fail(tmp_path, manifest.to_json())
    assert "manifest.json: not a manifest (" in message
    assert f"{reason}); restore it, or remove the folder and convert again" in message
