"""Writes the shards of one split, and says afterwards what was written."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep import tfrecord
from data_prep.schema import ExampleEncoder, Shard
from data_prep.split_writer import SplitWriter


def shard_name(dataset: str, split: str, index: int, num_shards: int) -> str:
    """Returns the name of a shard, as TFDS and TF-Slim write it."""
    return f"{dataset}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"


class ShardedSplitWriter(SplitWriter):
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
        super().__init__(num_examples=num_examples, num_classes=num_classes)
        self._folder = folder
        self._names = [shard_name(dataset, split, i, num_shards) for i in range(num_shards)]
        self._ends = [num_examples * (i + 1) // num_shards for i in range(num_shards)]
        self._encoder = ExampleEncoder(image_shape, image_format)
        self._encode_image = _IMAGE_ENCODERS[image_format]
        self._checksums = bytearray()
        self._open_shard()

    def _append(self, images: np.ndarray, labels: list[int], written: int) -> None:
        start = 0
        while start < len(labels):
            stop = min(len(labels), self._ends[len(self._shards)] - written)
            self._write_run(images[start:stop], labels[start:stop])
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
        self._file = (self._folder / self._names[len(self._shards)]).open("wb")
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

    def _finish_files(self) -> bytes:
        return bytes(self._checksums)


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
