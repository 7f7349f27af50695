"""What every source of images gives the converter, whatever it is read from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Batch: TypeAlias = "tuple[np.ndarray, np.ndarray]"  # uint8 [n, height, width, channels], int64 [n]


@dataclass(frozen=True)
class SourceFile:
    """A file that a dataset was made from, as the manifest remembers it."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceSplit:
    """One split of a source: counted beforehand, then streamed.

    Attributes:
      num_examples: how many images `read` gives in all.
      read: starts at the first image and yields batches of any size, in an order that is always
        the same; raises `UserError` where the source is damaged.
    """

    num_examples: int
    read: Callable[[], Iterator[Batch]]


@dataclass(frozen=True)
class Source:
    """Labelled images as they come, before they become records.

    Attributes:
      image_shape: height, width and channels of every image.
      class_names: the name of each label, label 0 first.
      files: what the images are read from; empty where they are drawn.
      splits: `train` always; `validation` and `test` where the source has them.
      image_preparation: `mnist` or `resize` where the files say it; None where the dataset's kind
        decides.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    files: tuple[SourceFile, ...]
    splits: Mapping[str, SourceSplit]
    image_preparation: str | None = None


def describe_file(path: Path) -> SourceFile:
    """Returns a file's name, size in bytes and sha256, reading it in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return SourceFile(name=path.name, num_bytes=path.stat().st_size, sha256=digest.hexdigest())
