"""Finds what is wrong with a dataset folder, down to the record and its byte offset.

A shard whose sha256 is the manifest's is whole. Any other is read record by record and compared
with the CRC32C that each record had when it was written: the common beginning and end are passed
over, and what is left between them is what changed.
"""

from __future__ import annotations

import array
import hashlib
import io
import itertools
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep import tfrecord
from data_prep.command_line import progress
from data_prep.schema import ExampleEncoder, Manifest, Shard, decode_example
from data_prep.source import describe_file
from data_prep.tfds_metadata import TFDS_NAMES

_MOST_RECORDS_NAMED = 10  # a shard


def find_damage(data_dir: Path, manifest: Manifest) -> list[str]:
    """Compares a dataset folder with its manifest.

    Args:
      data_dir: the folder.
      manifest: its manifest.

    Returns:
      A line for each thing found wrong, beginning with the file's path; empty if all is well.
    """
    checksums, found = _load_checksums(data_dir, manifest)
    if manifest.image_format != "csv":
        metadata = (data_dir / name for name in TFDS_NAMES)
        found += [f"{path}: missing" for path in metadata if not path.is_file()]
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    known = {shard.sha256: shard.name for shard in shards}
    first = 0
    with progress("verifying", total=len(shards), unit="shard") as advance:
        for shard in shards:
            expected = None if checksums is None else checksums[first : first + shard.num_examples]
            first += shard.num_examples
            found += _check_shard(data_dir / shard.name, shard, expected, known, manifest)
            advance(1)
    return found


def find_broken_record(data_dir: Path, manifest: Manifest, split: str) -> str | None:
    """Finds the first record of a split that training or evaluation could not have read.

    Args:
      data_dir: the folder.
      manifest: its manifest.
      split: `train`, `validation` or `test`.

    Returns:
      A line beginning with the shard's path, or None where every record can be read.
    """
    for shard in manifest.splits[split].shards:
        path = data_dir / shard.name
        if not path.is_file():
            return f"{path}: missing"
        count = 0
        for record in tfrecord.scan_records(path):
            problem = record.damage or _contradiction(record.data, manifest)
            if problem:
                return f"{path}: {record}: {problem}"
            count += 1
        if count != shard.num_examples:
            return f"{path}: expected {shard.num_examples:,} records, found {count:,}"
    return None


def _load_checksums(data_dir: Path, manifest: Manifest) -> tuple[array.array | None, list[str]]:
    """Returns every record's CRC32C, or None and a line that says why there are none."""
    if manifest.image_format == "csv":
        return None, []
    path = data_dir / manifest.record_checksums["name"]
    if not path.is_file():
        return None, [f"{path}: missing"]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.record_checksums["sha256"]:
        return None, [f"{path}: its sha256 is not the manifest's"]
    checksums = array.array("I", content)
    if sys.byteorder == "big":
        checksums.byteswap()
    return checksums, []


def _check_shard(
    path: Path,
    shard: Shard,
    expected: array.array | None,
    known: Mapping[str, str],
    manifest: Manifest,
) -> list[str]:
    """Returns what is wrong with one shard, each line beginning with its path."""
    if not path.is_file():
        return [f"{path}: missing; {shard.num_examples:,} records are expected in it"]
    digest = describe_file(path).sha256
    is_same = digest == shard.sha256
    if manifest.image_format == "csv":
        return [] if is_same else [f"{path}: its sha256 is not the manifest's"]
    if is_same:
        return _misfits(path, manifest)
    if digest in known:
        return [f"{path}: record 0 (at byte 0) and all after: it holds {known[digest]}"]
    lines = _find_damage_in(path, shard, expected, manifest)
    # Without the records' checksums, a record may have changed that still reads well.
    return [f"{path}: {line}" for line in lines] or [f"{path}: its sha256 is not the manifest's"]


def _misfits(path: Path, manifest: Manifest) -> list[str]:
    """Returns what a whole shard's first record, which is like all others, is not as stated."""
    record = next(tfrecord.scan_records(path), None)
    if record is None or not (problem := _contradiction(record.data, manifest)):
        return []
    return [f"{path}: {record}: {problem}; the manifest is not the one it was written with"]


def _find_damage_in(
    path: Path, shard: Shard, expected: array.array | None, manifest: Manifest
) -> Iterator[str]:
    """Yields what is wrong in a shard whose sha256 is not the manifest's."""
    found, offsets, damaged = array.array("I"), array.array("Q"), set()
    for record in tfrecord.scan_records(path):
        found.append(tfrecord.crc32c(record.data))
        offsets.append(record.offset)
        if record.damage:
            damaged.add(record.index)
    if expected is None:  # Only the counts are left to compare.
        expected = found[: shard.num_examples]
        expected.extend([0] * (shard.num_examples - len(expected)))
    start = _common_prefix(found, expected)
    end = _common_prefix(found[start:][::-1], expected[start:][::-1])
    stop, expected_stop = len(found) - end, len(expected) - end
    changed = damaged | {
        i for i in range(start, stop) if i >= expected_stop or found[i] != expected[i]
    }
    named = (r for r in tfrecord.scan_records(path) if r.index in changed)
    for record in itertools.islice(named, _MOST_RECORDS_NAMED):
        if record.damage:
            yield f"{record}: {record.damage}"
        elif record.index < expected_stop:
            yield f"{record}: {_change(record.data, expected[record.index], manifest)}"
        else:
            yield f"{record}: extra; {shard.num_examples:,} records are expected in this shard"
    if len(changed) > _MOST_RECORDS_NAMED:
        yield f"{len(changed) - _MOST_RECORDS_NAMED:,} more records differ"
    if expected_stop > stop:
        offset = offsets[stop] if stop < len(offsets) else path.stat().st_size
        yield (
            f"record {stop} (at byte {offset:,}): {expected_stop - stop:,} of "
            f"{shard.num_examples:,} records are missing from here"
        )


def _common_prefix(a: array.array, b: array.array) -> int:
    """Returns how many elements the two begin with alike."""
    differing = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _change(data: bytes, expected_crc: int, manifest: Manifest) -> str:
    """Says how an intact record differs from the one that was written."""
    try:
        example = decode_example(data)
    except ValueError as error:
        return str(error)
    encoder = ExampleEncoder(example.image_shape, example.image_format)
    for label, name in enumerate(manifest.class_names):
        if tfrecord.crc32c(encoder.encode(example.encoded, label)) == expected_crc:
            return f"its label is {example.label}; it was written as {label} ({name})"
    return _contradiction(data, manifest) or "its content is not what was written"


def _contradiction(data: bytes, manifest: Manifest) -> str | None:
    """Says where an intact record contradicts the manifest; None where it does not."""
    try:
        example = decode_example(data)
    except ValueError as error:
        return str(error)
    if example.image_shape != manifest.image_shape:
        return f"expected an image of {manifest.image_shape}, found {example.image_shape}"
    if example.image_format != manifest.image_format:
        return f"expected image/format {manifest.image_format}, found {example.image_format!r}"
    if example.label >= len(manifest.class_names):
        return f"expected a label below {len(manifest.class_names)}, found {example.label}"
    if manifest.image_format == "png":
        return _png_contradiction(example.encoded, manifest)
    size = math.prod(manifest.image_shape)
    if len(example.encoded) != size:
        return f"expected {size:,} bytes of pixels, found {len(example.encoded):,}"
    return None


def _png_contradiction(encoded: bytes, manifest: Manifest) -> str | None:
    from PIL import Image  # Only PNG records need it.

    height, width, channels = manifest.image_shape
    try:
        image = Image.open(io.BytesIO(encoded), formats=["PNG"])
        image.load()
    except (OSError, ValueError, SyntaxError) as error:
        return f"its PNG cannot be decoded ({error})"
    found = (image.height, image.width, len(image.getbands()))
    if found != (height, width, channels):
        return f"expected a PNG of {manifest.image_shape}, found {found}"
    return None
