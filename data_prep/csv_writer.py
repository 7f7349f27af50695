"""Writes one split as CSV: the label, then the pixels, as Kaggle's digit files have them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from types import TracebackType

import numpy as np

from data_prep.schema import Shard, Split

_DIGITS = [str(value) for value in range(256)]


class CsvSplitWriter:
    """Writes one split's examples, in the order they come, into `<split>.csv`."""

    def __init__(
        self,
        folder: Path,
        *,
        split: str,
        num_examples: int,
        image_shape: tuple[int, int, int],
        num_classes: int,
    ) -> None:
        """Opens the file and writes its header row.

        Args:
          folder: where the file goes.
          split: the split's name.
          num_examples: how many examples will come.
          image_shape: height, width, channels of every image.
          num_classes: how many labels there are.
        """
        self.remaining = num_examples
        self._num_examples = num_examples
        self._class_counts = np.zeros(num_classes, np.int64)
        self._path = folder / f"{split}.csv"
        self._file = self._path.open("wb")
        self._digest = hashlib.sha256()
        pixels = range(math.prod(image_shape))
        self._append(",".join(["label", *(f"pixel{i}" for i in pixels)]) + "\n")

    def __enter__(self) -> CsvSplitWriter:
        """Returns itself; leaving the block closes the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file."""
        self._file.close()

    def write(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Appends examples; those beyond `num_examples` are left out.

        Args:
          images: uint8 [n, height, width, channels]; rows top to bottom, channels last.
          labels: int64 [n].
        """
        images, labels = images[: self.remaining], labels[: self.remaining]
        self._class_counts += np.bincount(labels, minlength=len(self._class_counts))
        self.remaining -= len(labels)
        flat = images.reshape(len(images), math.prod(images.shape[1:]))
        rows = zip(labels.tolist(), flat.tolist(), strict=True)
        lines = [",".join([str(label), *[_DIGITS[p] for p in row]]) + "\n" for label, row in rows]
        self._append("".join(lines))

    def _append(self, text: str) -> None:
        self._file.write(text.encode())
        self._digest.update(text.encode())

    def finish(self) -> tuple[Split, bytes]:
        """Returns what was written; a CSV file has no record checksums, so those are empty."""
        self._file.close()
        shard = Shard(
            name=self._path.name,
            num_examples=self._num_examples,
            num_bytes=self._path.stat().st_size,
            sha256=self._digest.hexdigest(),
        )
        counts = tuple(int(count) for count in self._class_counts)
        return Split(self._num_examples, counts, (shard,)), b""
