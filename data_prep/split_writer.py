"""What writes one split, whatever the format: it counts, and keeps to the number announced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import BinaryIO, TypeVar

import numpy as np

from data_prep.schema import Shard, Split

_Self = TypeVar("_Self", bound="SplitWriter")


class SplitWriter(ABC):
    """Writes a split's examples in the order they come.

    Attributes:
      remaining: how many of the announced examples have not come yet.
    """

    _file: BinaryIO  # the one that is open

    def __init__(self, *, num_examples: int, num_classes: int) -> None:
        """Starts counting.

        Args:
          num_examples: how many examples will come, at least 1.
          num_classes: how many labels there are.
        """
        self.remaining = num_examples
        self._num_examples = num_examples
        self._class_counts = np.zeros(num_classes, np.int64)
        self._shards: list[Shard] = []

    def __enter__(self: _Self) -> _Self:
        """Returns itself; leaving the block closes the file that is open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file that is open."""
        self._file.close()

    def write(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Appends examples; those beyond `num_examples` are left out.

        Args:
          images: uint8 [n, height, width, channels]; rows top to bottom, channels last.
          labels: int64 [n], each below `num_classes`.
        """
        images, labels = images[: self.remaining], labels[: self.remaining]
        self._class_counts += np.bincount(labels, minlength=len(self._class_counts))
        self._append(images, labels.tolist(), self._num_examples - self.remaining)
        self.remaining -= len(labels)

    @abstractmethod
    def _append(self, images: np.ndarray, labels: list[int], written: int) -> None:
        """Writes examples, after `written` others."""

    @abstractmethod
    def _finish_files(self) -> bytes:
        """Closes what is open, and returns the records' checksums."""

    def finish(self) -> tuple[Split, bytes]:
        """Returns what was written, and every record's CRC32C: little-endian uint32, in order.

        Where there are no records, as in a CSV file, there are no checksums.

        Raises:
          RuntimeError: fewer examples came than were announced.
        """
        if self.remaining:
            raise RuntimeError(f"{self.remaining} of {self._num_examples} examples never came")
        checksums = self._finish_files()
        counts = tuple(int(count) for count in self._class_counts)
        return Split(self._num_examples, counts, tuple(self._shards)), checksums
