"""The TFRecord file format: records framed by lengths and checksums, one after the other.

    uint64 little-endian   length of the data, in bytes
    uint32 little-endian   masked CRC32C of the length's eight bytes
    bytes                  the data
    uint32 little-endian   masked CRC32C of the data

A file has neither a header nor a count, so one that was cut between two records looks whole: only
the counts and sizes in the manifest tell. (Format: tensorflow/core/lib/io/record_writer.h.)
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import google_crc32c

if TYPE_CHECKING:
    import numpy as np

_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_Crc = TypeVar("_Crc", int, "np.ndarray")
MAX_RECORD_BYTES = 1 << 30  # beyond this a length is damage, not data


@dataclass(frozen=True)
class Record:
    """One record as it stands in a file.

    Attributes:
      index: its place in the file, from 0.
      offset: where its framing begins, in bytes from the file's start.
      data: its content; empty where the framing is broken.
      damage: what is wrong with it, or None.
    """

    index: int
    offset: int
    data: bytes
    damage: str | None = None

    def __str__(self) -> str:
        """Says where it is, as error messages do."""
        return f"record {self.index} (at byte {self.offset:,})"


def crc32c(data: bytes) -> int:
    """Returns the CRC32C (Castagnoli) of the data, unmasked."""
    return int(google_crc32c.value(data))


def mask(crc: _Crc) -> _Crc:
    """Returns a CRC32C as TFRecord stores it: rotated right by 15 bits, plus a constant.

    Args:
      crc: the checksum, or uint32 [n] of them.
    """
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.lru_cache(maxsize=4096)
def _frame_head(length: int) -> bytes:
    return _LENGTH.pack(length, mask(crc32c(length.to_bytes(8, "little"))))


def frame(data: bytes, crc: int) -> bytes:
    """Returns a record's bytes in the file.

    Args:
      data: the record's content.
      crc: its `crc32c`.
    """
    return b"".join((_frame_head(len(data)), data, _CHECKSUM.pack(mask(crc))))


def scan_records(path: Path) -> Iterator[Record]:
    """Reads a TFRecord file from its start, one record in memory at a time, damaged ones included.

    A record whose data does not match its checksum is passed over, since its length still says
    where the next one begins; after broken framing nothing more can be read.

    Args:
      path: the file.

    Yields:
      Its records in order; the last one may be the place where reading had to stop.
    """
    with path.open("rb") as file:
        index, offset = 0, 0
        while head := file.read(_LENGTH.size):
            if len(head) < _LENGTH.size:
                yield Record(index, offset, b"", "the file ends inside its head")
                return
            length, length_crc = _LENGTH.unpack(head)
            if mask(crc32c(head[:8])) != length_crc or length > MAX_RECORD_BYTES:
                yield Record(index, offset, b"", "the checksum of its length does not match")
                return
            body = file.read(length + _CHECKSUM.size)
            missing = length + _CHECKSUM.size - len(body)
            if missing:
                yield Record(index, offset, b"", f"the file ends {missing:,} bytes before it does")
                return
            data = body[:length]
            matches = mask(crc32c(data)) == _CHECKSUM.unpack(body[length:])[0]
            damage = None if matches else "the checksum of its data does not match"
            yield Record(index, offset, data, damage)
            index += 1
            offset += _LENGTH.size + length + _CHECKSUM.size
