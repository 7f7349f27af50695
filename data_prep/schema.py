"""The record and the manifest: what a dataset folder promises to whoever reads it.

A record is a serialised `tf.train.Example` with TF-Slim's keys. It is encoded and decoded here
without TensorFlow, so that converting and verifying start at once; `input_pipeline.records` parses
the same `FEATURES` in the graph. Fields are laid out as protobuf's deterministic serialisation
does: map entries sorted by key, integers packed.

    Example            0A len | Features
    Features           0A len | entry, once a key, sorted
    entry              0A len key | 12 len | Feature
    Feature of bytes   0A len | BytesList:  0A len value
    Feature of int64   1A len | Int64List:  0A len varint
    Feature of floats  12 len | FloatList:  0A len float32s, little-endian
"""

from __future__ import annotations

import functools
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
# The two files of a folder of corrections: records, and what is needed to understand them.
FEEDBACK_NAME = "feedback.tfrecord"
FEEDBACK_FACTS_NAME = "feedback.json"
SPLITS = ("train", "validation", "test")
IMAGE_FORMATS = ("raw", "png")
IMAGE_PREPARATIONS = ("mnist", "resize")

# Every key is required: a record without a label is an error, not a zero.
FEATURES: Mapping[str, type] = {
    "image/channels": int,
    "image/class/label": int,
    "image/encoded": bytes,
    "image/format": bytes,
    "image/height": int,
    "image/width": int,
}


@dataclass(frozen=True)
class Example:
    """One decoded record.

    Attributes:
      encoded: the pixels: rows top to bottom, channels last, a byte each (`raw`), or a PNG file.
      image_format: `raw` or `png`.
      image_shape: height, width, channels.
      label: index into the manifest's class names.
    """

    encoded: bytes
    image_format: str
    image_shape: tuple[int, int, int]
    label: int


class ExampleEncoder:
    """Encodes the examples of one dataset, which share their shape and format."""

    def __init__(self, image_shape: tuple[int, int, int], image_format: str) -> None:
        """Prepares the parts that every record shares.

        Args:
          image_shape: height, width, channels.
          image_format: `raw` or `png`.
        """
        height, width, channels = image_shape
        self._channels = _entry("image/channels", channels)
        self._tail = (
            _entry("image/format", image_format.encode())
            + _entry("image/height", height)
            + _entry("image/width", width)
        )
        # Raw images are all of one length, so this computes one head a class.
        self._head = functools.lru_cache(maxsize=4096)(self._make_head)

    def encode(self, encoded: bytes, label: int) -> bytes:
        """Returns the serialised `tf.train.Example` of one image.

        Args:
          encoded: the pixels as `Example.encoded` describes them.
          label: index of the class, at least 0.
        """
        return self._head(label, len(encoded)) + encoded + self._tail

    def _make_head(self, label: int, length: int) -> bytes:
        """Returns all that comes before the image's own bytes."""
        before = self._channels + _entry("image/class/label", label)
        opening = _entry_opening("image/encoded", length)
        return _tag(1, len(before) + len(opening) + length + len(self._tail)) + before + opening


def encode_features(features: Mapping[str, int | bytes | tuple[float, ...]]) -> bytes:
    """Returns a serialised `tf.train.Example` of any features.

    Args:
      features: integers of at least 0, bytes, or float32 numbers, by key.
    """
    entries = b"".join(_entry(key, features[key]) for key in sorted(features))
    return _tag(1, len(entries)) + entries


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, length: int) -> bytes:
    """Opens a length-delimited field."""
    return bytes([number << 3 | 2]) + _varint(length)


def _entry(key: str, value: int | bytes | tuple[float, ...]) -> bytes:
    if isinstance(value, bytes):
        return _entry_opening(key, len(value)) + value
    if isinstance(value, tuple):
        kind, numbers = 2, struct.pack(f"<{len(value)}f", *value)
    else:
        kind, numbers = 3, _varint(value)
    values = _tag(1, len(numbers)) + numbers
    feature = _tag(kind, len(values)) + values
    name = _tag(1, len(key)) + key.encode()
    body = name + _tag(2, len(feature)) + feature
    return _tag(1, len(body)) + body


def _entry_opening(key: str, length: int) -> bytes:
    """Returns an entry of bytes up to where its value of `length` bytes begins."""
    value_tag = _tag(1, length)
    list_tag = _tag(1, len(value_tag) + length)
    name = _tag(1, len(key)) + key.encode()
    feature_tag = _tag(2, len(list_tag) + len(value_tag) + length)
    body_length = len(name) + len(feature_tag) + len(list_tag) + len(value_tag) + length
    return _tag(1, body_length) + name + feature_tag + list_tag + value_tag


def decode_example(data: bytes) -> Example:
    """Decodes one record as the project writes it.

    Args:
      data: a serialised `tf.train.Example`.

    Returns:
      The example.

    Raises:
      ValueError: the bytes are no such Example; the text says what is missing or wrong.
    """
    found: dict[str, int | bytes | None] = {}
    for number, features in _fields(data):
        if number != 1:
            raise ValueError("not a tf.train.Example")
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            if set(parts) != {1, 2}:
                raise ValueError("a feature without a name or a value")
            found[parts[1].decode("utf-8", "replace")] = _feature_value(parts[2])
    for key, kind in FEATURES.items():
        if not isinstance(found.get(key), kind):
            state = "has the wrong type" if key in found else "is missing"
            raise ValueError(f"feature {key} {state}")
    values: Mapping[str, Any] = found
    return Example(
        encoded=values["image/encoded"],
        image_format=values["image/format"].decode("utf-8", "replace"),
        image_shape=(values["image/height"], values["image/width"], values["image/channels"]),
        label=values["image/class/label"],
    )


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """Splits a message of length-delimited fields into (number, payload) pairs."""
    fields, position = [], 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        length, position = _read_varint(data, position)
        if tag & 7 != 2 or position + length > len(data):
            raise ValueError("not a tf.train.Example")
        fields.append((tag >> 3, data[position : position + length]))
        position += length
    return fields


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("not a tf.train.Example")


def _feature_value(feature: bytes) -> int | bytes | None:
    """Returns a feature's only value; None where it has none, several, or a float."""
    kinds = _fields(feature)
    if len(kinds) != 1 or kinds[0][0] not in (1, 3):
        return None
    values = _fields(kinds[0][1])
    if len(values) != 1:
        return None
    if kinds[0][0] == 1:
        return values[0][1]
    number, end = _read_varint(values[0][1], 0)
    return number if end == len(values[0][1]) else None


@dataclass(frozen=True)
class Shard:
    """One TFRecord file of a split."""

    name: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split: its shards in order, and how many examples each class has."""

    num_examples: int
    class_counts: tuple[int, ...]
    shards: tuple[Shard, ...]

    @property
    def num_bytes(self) -> int:
        """The size of all shards in bytes."""
        return sum(shard.num_bytes for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of a dataset folder.

    Attributes:
      name: the dataset's name, which its shards' names begin with.
      image_shape: height, width, channels.
      image_format: how records hold their pixels: `raw` or `png`; `csv` where there are none.
      image_preparation: how an image from elsewhere is brought to this form: `mnist` fits the ink
        into 20/28 of the frame and centres it by mass; `resize` scales the whole image.
      class_names: the name of each label, label 0 first.
      splits: those that have examples, of train, validation and test.
      conversion: the options that the dataset was made with.
      sources: the files that it was made from, as `SourceFile` fields.
      record_checksums: name and sha256 of the file with every record's CRC32C.
      format_version: the version of this layout.
    """

    name: str
    image_shape: tuple[int, int, int]
    image_format: str
    image_preparation: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    conversion: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]
    record_checksums: Mapping[str, str]
    format_version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """A sha256 over all that training sees: shape, class names, and the shards' contents."""
        facts = [
            self.image_shape,
            self.class_names,
            {name: [shard.sha256 for shard in split.shards] for name, split in self.splits.items()},
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Returns the text of `manifest.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def load_manifest(data_dir: Path) -> Manifest:
    """Reads the manifest of a dataset folder.

    Args:
      data_dir: the folder.

    Returns:
      The manifest.

    Raises:
      UserError: the folder or its manifest is missing, not readable, or of another version.
    """
    path = data_dir / MANIFEST_NAME
    make = "python data_prep/convert.py makes a dataset folder"
    if not data_dir.is_dir():
        what = "a file, no dataset folder" if data_dir.exists() else "no such dataset folder"
        raise UserError(f"{data_dir}: {what}; {make}")
    if not path.is_file():
        raise UserError(f"{path}: missing, so this is not a complete dataset folder; {make}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}; "
                "remove the folder and convert the dataset again with this version of the project"
            )
        return _manifest_from(values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: not a manifest ({reason}); restore it, or remove the folder and convert again"
        ) from error


def _manifest_from(values: Mapping[str, Any]) -> Manifest:
    height, width, channels = values["image_shape"]
    splits = {
        name: Split(
            num_examples=split["num_examples"],
            class_counts=tuple(split["class_counts"]),
            shards=tuple(Shard(**shard) for shard in split["shards"]),
        )
        for name, split in values["splits"].items()
    }
    parsed = {"image_shape": (height, width, channels), "splits": splits}
    parsed["class_names"] = tuple(values["class_names"])
    parsed["sources"] = tuple(values["sources"])
    manifest = Manifest(**{**values, **parsed})
    _require_consistent(manifest)
    return manifest


def _require_consistent(manifest: Manifest) -> None:
    """Raises `ValueError` where a manifest contradicts itself, as one edited by hand may."""
    if not manifest.splits:
        raise ValueError("it names no split")
    for name, split in manifest.splits.items():
        for shard in split.shards:
            if Path(shard.name).name != shard.name:
                raise ValueError(f"split {name} has a shard outside the folder, {shard.name!r}")
        counted = sum(shard.num_examples for shard in split.shards)
        if counted != split.num_examples:
            raise ValueError(
                f"split {name} has {split.num_examples:,} examples, its shards {counted:,}"
            )
        if len(split.class_counts) != len(manifest.class_names):
            raise ValueError(
                f"split {name} counts {len(split.class_counts)} classes, class_names has "
                f"{len(manifest.class_names)}"
            )
        if sum(split.class_counts) != split.num_examples:
            raise ValueError(
                f"split {name} has {split.num_examples:,} examples, its classes "
                f"{sum(split.class_counts):,}"
            )
