"""Writes the shards of one split, and says afterwards what was written."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from data_prep import tfrecord
from data_prep.schema import ExampleEncoder, Shard, Split


def shard_name(dataset: str, split: str, index: int, num_shards: int) -> str:
    """Returns the name of a shard, as TFDS and TF-Slim write it."""
    return f"{dataset}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"


class SplitWriter:
    """Writes one split's examples, in the order they come, into shards of nearly equal counts.

    Shard i of S holds examples floor(n i / S) up to floor(n (i + 1) / S), so the bytes depend only
    on the examples and the counts, never on the sizes of the batches they came in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dataset: str,
        split: str,
        num_examples: int,
        num_shards: int,
        image_shape: tuple[int, int, int],
        image_format: str,
        num_classes: int,
    ) -> None:
        """Opens the first shard.

        Args:
          folder: where the shards go.
          dataset: the dataset's name.
          split: the split's name.
          num_examples: how many examples will come, at least 1.
          num_shards: how many files to write, 1 to `num_examples`.
          image_shape: height, width, channels of every image.
          image_format: `raw` or `png`.
          num_classes: how many labels there are.
        """
        self.remaining = num_examples
        self._folder = folder
        self._names = [shard_name(dataset, split, i, num_shards) for i in range(num_shards)]
        self._ends = [num_examples * (i + 1) // num_shards for i in range(num_shards)]
        self._num_examples = num_examples
        self._encoder = ExampleEncoder(image_shape, image_format)
        self._encode_image = _IMAGE_ENCODERS[image_format]
        self._class_counts = np.zeros(num_classes, np.int64)
        self._checksums = bytearray()
        self._shards: list[Shard] = []
        self._open_shard()

    def __enter__(self) -> SplitWriter:
        """Returns itself; leaving the block closes the shard that is open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the shard that is open."""
        self._file.close()

    def write(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Appends examples; those beyond `num_examples` are left out.

        Args:
          images: uint8 [n, height, width, channels].
          labels: int64 [n], each below `num_classes`.
        """
        images, labels = images[: self.remaining], labels[: self.remaining]
        self._class_counts += np.bincount(labels, minlength=len(self._class_counts))
        written = self._num_examples - self.remaining
        self.remaining -= len(labels)
        start = 0
        while start < len(labels):
            stop = min(len(labels), self._ends[len(self._shards)] - written)
            self._write_run(images[start:stop], labels[start:stop].tolist())
            if written + stop == self._ends[len(self._shards)]:
                self._close_shard()
            start = stop

    def _write_run(self, images: np.ndarray, labels: list[int]) -> None:
        """Appends examples that all belong to the open shard."""
        pieces = []
        for image, label in zip(images, labels, strict=True):
            data = self._encoder.encode(self._encode_image(image), label)
            crc = tfrecord.crc32c(data)
            self._checksums += _CHECKSUM.pack(crc)
            pieces.append(tfrecord.frame(data, crc))
        run = b"".join(pieces)
        self._file.write(run)
        self._digest.update(run)
        self._num_bytes += len(run)

    def _open_shard(self) -> None:
        self._file: BinaryIO = (self._folder / self._names[len(self._shards)]).open("wb")
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def _close_shard(self) -> None:
        self._file.close()
        index = len(self._shards)
        first = self._ends[index - 1] if index else 0
        self._shards.append(
            Shard(
                name=self._names[index],
                num_examples=self._ends[index] - first,
                num_bytes=self._num_bytes,
                sha256=self._digest.hexdigest(),
            )
        )
        if len(self._shards) < len(self._names):
            self._open_shard()

    def finish(self) -> tuple[Split, bytes]:
        """Returns what was written, and every record's CRC32C: little-endian uint32, in order.

        Raises:
          RuntimeError: fewer examples came than were announced.
        """
        if self.remaining:
            raise RuntimeError(f"{self.remaining} of {self._num_examples} examples never came")
        counts = tuple(int(count) for count in self._class_counts)
        return Split(self._num_examples, counts, tuple(self._shards)), bytes(self._checksums)


_CHECKSUM = struct.Struct("<I")


def _encode_png(image: np.ndarray) -> bytes:
    from PIL import Image  # Only PNG records need it.

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


_IMAGE_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "raw": np.ndarray.tobytes,
    "png": _encode_png,
}
