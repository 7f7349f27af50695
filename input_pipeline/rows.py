"""Reads records that are all laid out alike, many at a time, as the rows of a matrix of bytes.

Raw images of one shape whose labels are below 128 give records of one length, which differ in three
places only:

    length, its checksum | … label … pixels … | checksum of the data

Whatever else a row holds must be what the encoder writes, or the row is none of these.
"""

from __future__ import annotations

import math
from pathlib import Path

import google_crc32c
import numpy as np

from data_prep import tfrecord
from data_prep.schema import ExampleEncoder, Manifest

_HEAD_BYTES, _CHECKSUM_BYTES = 12, 4
_LABELS = 128  # A label from here on takes more than a byte.


class RowLayout:
    """Where a record of a dataset holds its pixels and its label.

    Attributes:
      row_bytes: the length of a record in the file.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Finds the places by encoding two examples that differ in all of them."""
        encoder = ExampleEncoder(manifest.image_shape, "raw")
        size = math.prod(manifest.image_shape)
        self._row, other = (
            np.frombuffer(tfrecord.frame(encoder.encode(bytes([value]) * size, value), 0), np.uint8)
            for value in (0, _LABELS - 1)
        )
        self._label, first = np.flatnonzero(self._row != other)[:2].tolist()
        self._pixels = slice(first, first + size)
        self._fixed = (
            slice(self._label),
            slice(self._label + 1, first),
            slice(first + size, -_CHECKSUM_BYTES),
        )
        self._num_labels = min(len(manifest.class_names), _LABELS)
        self.row_bytes = len(self._row)

    def read(self, path: Path, first: int, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Reads records and checks all of each, its checksums included.

        Args:
          path: a TFRecord file.
          first: the index of the first record to read.
          count: how many to read, at least 1.

        Returns:
          pixels uint8 [count, height * width * channels] and labels uint8 [count], both views of
          what was read; None where a record is damaged or laid out in another way.
        """
        content = np.fromfile(path, np.uint8, count * self.row_bytes, offset=first * self.row_bytes)
        if len(content) < count * self.row_bytes:
            return None
        content.flags.writeable = False  # google_crc32c takes nothing else.
        rows = content.reshape(count, self.row_bytes)
        labels = rows[:, self._label]
        if labels.max() >= self._num_labels:
            return None
        if not all((rows[:, part] == self._row[part]).all() for part in self._fixed):
            return None
        data = rows[:, _HEAD_BYTES:-_CHECKSUM_BYTES]
        checksums = np.fromiter(map(google_crc32c.value, data), np.uint32, count)
        stored = np.ascontiguousarray(rows[:, -_CHECKSUM_BYTES:]).view("<u4")[:, 0]
        if not np.array_equal(tfrecord.mask(checksums), stored):
            return None
        return rows[:, self._pixels], labels
