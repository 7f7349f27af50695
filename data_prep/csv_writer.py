"""Writes one split as CSV: the label, then the pixels, as Kaggle's digit files have them."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from data_prep.schema import Shard
from data_prep.split_writer import SplitWriter

_DIGITS = [str(value) for value in range(256)]


class CsvSplitWriter(SplitWriter):
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
        super().__init__(num_examples=num_examples, num_classes=num_classes)
        self._path = folder / f"{split}.csv"
        self._file = self._path.open("wb")
        self._digest = hashlib.sha256()
        self._num_pixels = math.prod(image_shape)
        header = ["label", *(f"pixel{i}" for i in range(self._num_pixels))]
        self._write_text(",".join(header) + "\n")

    def _append(self, images: np.ndarray, labels: list[int], written: int) -> None:
        rows = zip(labels, images.reshape(len(images), self._num_pixels).tolist(), strict=True)
        lines = [",".join([str(label), *[_DIGITS[p] for p in row]]) + "\n" for label, row in rows]
        self._write_text("".join(lines))

    def _write_text(self, text: str) -> None:
        self._file.write(text.encode())
        self._digest.update(text.encode())

    def _finish_files(self) -> bytes:
        self._file.close()
        self._shards.append(
            Shard(
                name=self._path.name,
                num_examples=self._num_examples,
                num_bytes=self._path.stat().st_size,
                sha256=self._digest.hexdigest(),
            )
        )
        return b""
