"""Reads IDX files, the format of MNIST and its relatives, plain or gzipped.

    offset  bytes  content
    0       2      zero
    2       1      type of the values: 08 = unsigned bytes, the only one read here
    3       1      number of dimensions: 1 in a file of labels, 3 or 4 in a file of images
    4       4 x d  the dimensions, big-endian: n | n, height, width | n, height, width, channels
    4 + 4 x d      the values, row by row, to the end of the file

(Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".)

Everything that such a file can get wrong is checked: headers, sizes and labels before the first
image is given, the images while they are streamed. Nothing beyond what a header announces is ever
decompressed.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from data_prep.command_line import UserError
from data_prep.source import Batch, Source, SourceSplit, describe_file

MAX_IMAGES = 100_000_000
MAX_SIDE = 1024  # pixels
BATCH_BYTES = 1 << 21  # of pixels in memory at a time: about 2,700 images of MNIST
GZIP_MAGIC = b"\x1f\x8b"
GZIP_MAX_RATIO = 1032  # DEFLATE cannot pack more bytes than this into one (RFC 1951)
VALUE_TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
GET_AGAIN = "get the file again"


@dataclass(frozen=True)
class IdxFile:
    """A file whose header has been read.

    Attributes:
      path: where it is.
      shape: the dimensions that its header announces, the number of items first.
    """

    path: Path
    shape: tuple[int, ...]


def find_files(
    folder: Path, prefixes: Mapping[str, str], *, required: Sequence[str]
) -> dict[str, tuple[Path, Path]]:
    """Finds the file of images and the file of labels of each split.

    Args:
      folder: where to look.
      prefixes: how the file names of each split begin, such as {"train": "train", "test": "t10k"}.
      required: the splits that must be there; the others may lack both their files.

    Returns:
      The images' and the labels' path for each split found.

    Raises:
      UserError: the folder or a required file is missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of IDX files, found no folder of that name")
    pairs = {}
    for split, prefix in prefixes.items():
        images = _find(folder, _spellings(prefix, "images", (3, 4)))
        labels = _find(folder, _spellings(prefix, "labels", (1,)))
        if images and labels:
            pairs[split] = images, labels
        elif images or labels or split in required:
            missing = f"{prefix}-labels-idx1-ubyte" if images else f"{prefix}-images-idx3-ubyte"
            there = sorted(path.name for path in folder.iterdir())
            found = ", ".join(there[:6]) + (", …" if len(there) > 6 else "") or "an empty folder"
            raise UserError(
                f"{folder}: expected {missing}.gz or {missing}, found {found}; "
                "add the file, or name the folder that holds it"
            )
    return pairs


def _spellings(prefix: str, kind: str, dimensions: Sequence[int]) -> list[str]:
    """Returns the names that a file goes by: with a hyphen or a dot, gzipped or not."""
    return [
        f"{prefix}-{kind}{mark}idx{number}-ubyte{ending}"
        for number in dimensions
        for mark in "-."
        for ending in (".gz", "")
    ]


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_idx_dataset(
    pairs: Mapping[str, tuple[Path, Path]],
    *,
    class_names: tuple[str, ...] | None = None,
    transposed: bool = False,
) -> Source:
    """Opens a dataset of IDX files.

    Args:
      pairs: for each split the path of its images and of its labels, as `find_files` returns them;
        `train` must be among them.
      class_names: the name of each label; None for the numbers 0 to the largest training label.
      transposed: whether the images lie on their side, as EMNIST's do; they are put upright.

    Returns:
      The source; its images are uint8 [n, height, width, channels], 0 to 255 as in the files.

    Raises:
      UserError: a header, a size, a count or a label is wrong, or splits differ in shape. Damage
        to the images themselves is raised while they are read.
    """
    opened = {
        split: (_read_header(images, "images"), _read_header(labels, "labels"))
        for split, (images, labels) in pairs.items()
    }
    shape = opened["train"][0].shape[1:]
    for images, labels in opened.values():
        if images.shape[0] != labels.shape[0]:
            raise UserError(
                f"{labels.path}: expected {images.shape[0]:,} labels, one for each image of "
                f"{images.path.name}, found {labels.shape[0]:,}; {GET_AGAIN}, or its partner"
            )
        if images.shape[1:] != shape:
            raise UserError(
                f"{images.path}: expected images of {_times(shape)} as in "
                f"{opened['train'][0].path.name}, found {_times(images.shape[1:])}; "
                "all splits must have one shape"
            )
    num_classes = len(class_names) if class_names else 256
    largest = _check_labels(opened["train"][1], num_classes)
    names = class_names or tuple(str(label) for label in range(largest + 1))
    for split, (_, labels) in opened.items():
        if split != "train":
            _check_labels(labels, len(names))
    height, width, *channels = shape
    image_shape = (height, width, channels[0] if channels else 1)
    if transposed:
        image_shape = (width, height, image_shape[2])
    return Source(
        image_shape=image_shape,
        class_names=names,
        files=tuple(describe_file(path) for pair in pairs.values() for path in pair),
        splits={
            split: _make_split(images, labels, transposed)
            for split, (images, labels) in opened.items()
        },
    )


def _make_split(images: IdxFile, labels: IdxFile, transposed: bool) -> SourceSplit:
    def read() -> Iterator[Batch]:
        batch_size = max(1, BATCH_BYTES // math.prod(images.shape[1:]))
        height, width, *channels = images.shape[1:]
        batches = zip(_read_items(images, batch_size), _read_items(labels, batch_size), strict=True)
        for pixels, classes in batches:
            pixels = pixels.reshape(-1, height, width, channels[0] if channels else 1)
            if transposed:
                pixels = np.ascontiguousarray(pixels.swapaxes(1, 2))
            yield pixels, classes.astype(np.int64)

    return SourceSplit(num_examples=images.shape[0], read=read)


def _check_labels(labels: IdxFile, num_classes: int) -> int:
    """Reads all labels and returns the largest."""
    largest = index = 0
    for batch in _read_items(labels, BATCH_BYTES):
        wrong = np.flatnonzero(batch >= num_classes)
        if wrong.size:
            raise UserError(
                f"{labels.path}: expected labels of 0 to {num_classes - 1}, found "
                f"{batch[wrong[0]]} at index {index + wrong[0]}; correct the label, or check that "
                "the file belongs to this dataset"
            )
        largest = max(largest, int(batch.max()))
        index += len(batch)
    return largest


def _read_items(file: IdxFile, batch_size: int) -> Iterator[np.ndarray]:
    """Yields the file's values as uint8 [n, …]; checks that it ends where it should."""
    count, item_shape = file.shape[0], file.shape[1:]
    item_bytes = math.prod(item_shape)
    with _naming_damage(file.path), _open(file.path) as stream:
        stream.read(4 + 4 * len(file.shape))
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            values = stream.read(size * item_bytes)
            if len(values) < size * item_bytes:
                raise UserError(
                    f"{file.path}: expected {_items(file)}, found the end of the file in number "
                    f"{start + len(values) // item_bytes:,}; it was cut short: {GET_AGAIN}"
                )
            yield np.frombuffer(values, np.uint8).reshape(size, *item_shape)
        if stream.read(1):  # At the end, gzip's own checksum is compared too.
            raise UserError(
                f"{file.path}: expected {_items(file)} and no more, found further bytes behind "
                f"them; {GET_AGAIN}"
            )


def _read_header(path: Path, kind: str) -> IdxFile:
    """Reads and checks a header; `kind` is images or labels."""
    wanted = "00 00 08 and 03 or 04" if kind == "images" else "00 00 08 01"
    with _naming_damage(path), _open(path) as stream:
        magic = stream.read(4)
        if not magic:
            raise UserError(
                f"{path}: expected an IDX file of {kind}, found an empty file; {GET_AGAIN}"
            )
        if magic.lstrip()[:1] == b"<":
            beginning = (magic + stream.read(36)).decode("ascii", "replace").strip().split("\n")[0]
            raise UserError(
                f"{path}: expected an IDX file of {kind}, found a web page ({beginning!r}); "
                f"{GET_AGAIN}, from another place"
            )
        if len(magic) < 4 or magic[:2] != b"\0\0":
            raise UserError(
                f"{path}: expected an IDX file of {kind}, which begins with {wanted}, found "
                f"{magic.hex(' ')}; {GET_AGAIN}"
            )
        if magic[2] != 0x08:
            found = VALUE_TYPES.get(magic[2], "no known type")
            raise UserError(
                f"{path}: expected values of type 08 ({VALUE_TYPES[8]}), found type "
                f"{magic[2]:02x} ({found}); save the {kind} as unsigned bytes"
            )
        if magic[3] not in ((3, 4) if kind == "images" else (1,)):
            wanted = "3 or 4 dimensions" if kind == "images" else "1 dimension"
            raise UserError(
                f"{path}: expected {wanted} in a file of {kind}, found {magic[3]}; "
                "check that images and labels are not swapped"
            )
        dimensions = stream.read(4 * magic[3])
        if len(dimensions) < 4 * magic[3]:
            raise UserError(f"{path}: the file ends inside its header; {GET_AGAIN}")
    file = IdxFile(path, struct.unpack(f">{magic[3]}I", dimensions))
    _check_dimensions(file)
    _check_size(file)
    return file


def _check_dimensions(file: IdxFile) -> None:
    count, sides, channels = file.shape[0], file.shape[1:3], file.shape[3:]
    if not (
        1 <= count <= MAX_IMAGES
        and all(1 <= side <= MAX_SIDE for side in sides)
        and all(number in (1, 3) for number in channels)
    ):
        raise UserError(
            f"{file.path}: expected 1 to {MAX_IMAGES:,} items, sides of 1 to {MAX_SIDE:,} pixels "
            f"and 1 or 3 channels, found {_times(file.shape)} in the header; {GET_AGAIN}"
        )


def _check_size(file: IdxFile) -> None:
    """Compares a plain file's size with its header; a gzipped one must be able to hold it."""
    expected = 4 + 4 * len(file.shape) + math.prod(file.shape)
    size = file.path.stat().st_size
    if _is_gzipped(file.path):
        if expected > GZIP_MAX_RATIO * size:
            raise UserError(
                f"{file.path}: expected {_items(file)}, {expected:,} bytes, found {size:,} "
                f"compressed bytes, which cannot hold them; {GET_AGAIN}"
            )
    elif size != expected:
        what = "it was cut short" if size < expected else "something follows the last item"
        raise UserError(
            f"{file.path}: expected {expected:,} bytes for {_items(file)}, found {size:,}; "
            f"{what}: {GET_AGAIN}"
        )


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _open(path: Path) -> BinaryIO:
    """Opens a file for reading its plain content; what it holds decides, not its name."""
    return cast(BinaryIO, gzip.open(path)) if _is_gzipped(path) else path.open("rb")


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turns what gzip finds wrong into a line that names the file."""
    try:
        yield
    except EOFError as error:
        raise UserError(
            f"{path}: expected whole gzip data, found an end before its end; it was cut short: "
            f"{GET_AGAIN}"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: expected gzip data, found damage in it ({error}); {GET_AGAIN}"
        ) from error


def _items(file: IdxFile) -> str:
    """Says what a header announces: `60,000 images of 28 x 28` or `60,000 labels`."""
    if len(file.shape) == 1:
        return f"{file.shape[0]:,} labels"
    return f"{file.shape[0]:,} images of {_times(file.shape[1:])}"


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(number) for number in shape)
