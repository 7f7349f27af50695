"""TFRecord files, against bytes that TensorFlow wrote and against every kind of damage."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from data_prep.tfrecord import Record, crc32c, frame, mask, scan_records

GOLDEN = Path(__file__).parent / "testdata" / "two_records.tfrecord"  # written by TensorFlow
FRAMING = 16  # bytes beside the data: 8 + 4 before it, 4 behind it
CONTENTS = (b"first", b"", b"the third")
OFFSETS = (0, 5 + FRAMING, 5 + 2 * FRAMING)


def framed(*contents: bytes) -> bytes:
    return b"".join(frame(data, crc32c(data)) for data in contents)


def scan(path: Path, content: bytes) -> list[Record]:
    path.write_bytes(content)
    return list(scan_records(path))


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]


def test_checksums_have_the_published_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32/ISCSI
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_the_golden_file_is_read_and_written_byte_by_byte() -> None:
    records = list(scan_records(GOLDEN))
    assert [(r.index, r.offset, len(r.data), r.damage) for r in records] == [
        (0, 0, 155, None),
        (1, 171, 156, None),
    ]
    assert framed(*[record.data for record in records]) == GOLDEN.read_bytes()


def test_tensorflow_reads_what_is_written(tmp_path: Path) -> None:
    from data_prep.command_line import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    path = tmp_path / "x.tfrecord"
    path.write_bytes(framed(*CONTENTS))
    assert tuple(tf.compat.v1.io.tf_record_iterator(str(path))) == CONTENTS


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert scan(tmp_path / "x", b"") == []


def test_records_know_their_places(tmp_path: Path) -> None:
    records = scan(tmp_path / "x", framed(*CONTENTS))
    assert tuple(record.data for record in records) == CONTENTS
    assert tuple(record.offset for record in records) == OFFSETS
    assert str(records[2]) == "record 2 (at byte 37)"
    assert str(Record(7, 1234567, b"")) == "record 7 (at byte 1,234,567)"


@pytest.mark.parametrize("position", [12, 16])  # the data's first and last byte
def test_a_flipped_bit_in_the_data_spares_the_records_behind_it(
    tmp_path: Path, position: int
) -> None:
    records = scan(tmp_path / "x", flip(framed(*CONTENTS), position))
    assert [r.damage for r in records] == ["the checksum of its data does not match", None, None]
    assert records[2].data == CONTENTS[2]


def test_a_flipped_bit_in_the_stored_checksum_is_damage(tmp_path: Path) -> None:
    records = scan(tmp_path / "x", flip(framed(*CONTENTS), 17))
    assert [r.damage for r in records] == ["the checksum of its data does not match", None, None]
    assert records[0].data == CONTENTS[0]


@pytest.mark.parametrize("position", [0, 7, 8, 11])  # of the length, and of its checksum
def test_a_flipped_bit_in_the_length_ends_the_reading(tmp_path: Path, position: int) -> None:
    records = scan(tmp_path / "x", flip(framed(*CONTENTS), OFFSETS[1] + position))
    assert records[0] == Record(0, 0, b"first")
    assert records[1:] == [
        Record(1, OFFSETS[1], b"", "the checksum of its length does not match"),
    ]


def test_a_length_that_no_record_has_is_damage(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 62)
    records = scan(tmp_path / "x", length + struct.pack("<I", mask(crc32c(length))))
    assert [r.damage for r in records] == ["the checksum of its length does not match"]


@pytest.mark.parametrize("cut", [1, 8, 11])
def test_a_file_cut_inside_a_head(tmp_path: Path, cut: int) -> None:
    records = scan(tmp_path / "x", framed(*CONTENTS)[: OFFSETS[2] + cut])
    assert len(records) == 3
    assert records[2] == Record(2, OFFSETS[2], b"", "the file ends inside its head")


@pytest.mark.parametrize(("cut", "missing"), [(12, 13), (15, 10), (24, 1)])
def test_a_file_cut_inside_a_record(tmp_path: Path, cut: int, missing: int) -> None:
    records = scan(tmp_path / "x", framed(*CONTENTS)[: OFFSETS[2] + cut])
    assert len(records) == 3
    assert records[2].damage == f"the file ends {missing} bytes before it does"


def test_a_file_cut_between_records_looks_whole(tmp_path: Path) -> None:
    """Which is why the manifest counts."""
    records = scan(tmp_path / "x", framed(*CONTENTS)[: OFFSETS[2]])
    assert [record.damage for record in records] == [None, None]
