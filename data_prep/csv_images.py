"""Reads images from CSV files: an image a line, its label first, then its pixels row by row.

    label,pixel0,pixel1,…        this header row may be there or not
    5,0,0,18,254,…

This is how Kaggle's digit recognizer has MNIST. Files are streamed, in blocks of whole lines. A
block that numpy does not understand, or that holds a number out of range, is read again cell by
cell, which either succeeds, as it does with numbers like `12.0`, or names the line and the column.
"""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from data_prep.command_line import UserError, log
from data_prep.source import Batch, Source, SourceSplit, describe_file

SPLITS = ("train", "validation", "test")
MAX_CLASSES = 10_000
MAX_LINE_BYTES = 1 << 24  # 1024 x 1024 pixels in three channels, and some
BLOCK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # which spreadsheets put at the head of a file


@dataclass(frozen=True)
class CsvFile:
    """What the first line of a file tells.

    Attributes:
      path: where it is.
      num_columns: the label's and the pixels'.
      header: the names of the columns, in lower case; None where the first line is an image.
    """

    path: Path
    num_columns: int
    header: tuple[str, ...] | None


def read_csv_dataset(path: Path, image_shape: tuple[int, int, int] | None) -> Source:
    """Opens a dataset of CSV files.

    Args:
      path: a folder with train.csv and, where there are such, validation.csv and test.csv, each of
        which may be gzipped (train.csv.gz); or one CSV file, which is the training split.
      image_shape: height, width and channels; None for square grey images.

    Returns:
      The source; its images are uint8 [n, height, width, channels], 0 to 255 as in the files. Its
      classes are the numbers 0 to the largest training label.

    Raises:
      UserError: a file is missing, empty or damaged, or a line of it is not an image with a label.
    """
    files = {split: _read_first_line(file) for split, file in _find_files(path).items()}
    if "test" in files and (header := files["test"].header) and "label" not in header:
        log(f"{files['test'].path}: not used, for it has no column named label")
        del files["test"]
    train = files["train"]
    for file in files.values():
        _check_columns(file, train)
    shape = image_shape or _square_shape(train)
    if math.prod(shape) != train.num_columns - 1:
        raise UserError(
            f"{train.path}: expected a label and {math.prod(shape):,} pixels for images of "
            f"{','.join(map(str, shape))}, found {train.num_columns - 1:,} pixels; "
            "pass their --image_shape=HEIGHT,WIDTH,CHANNELS"
        )
    num_examples, largest = _count(train, MAX_CLASSES)
    counts = {"train": num_examples}
    for split, file in files.items():
        if split != "train":
            counts[split] = _count(file, largest + 1)[0]
    return Source(
        image_shape=shape,
        class_names=tuple(str(label) for label in range(largest + 1)),
        files=tuple(describe_file(file.path) for file in files.values()),
        splits={
            split: _make_split(file, counts[split], largest + 1, shape)
            for split, file in files.items()
        },
    )


def _find_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {"train": path}
    found = {}
    for split in SPLITS:
        names = (f"{split}.csv", f"{split}.csv.gz")
        for name in names:
            if split not in found and (path / name).is_file():
                found[split] = path / name
    if "train" not in found:
        what = "no train.csv in it" if path.is_dir() else "nothing of that name"
        raise UserError(
            f"{path}: expected a CSV file, or a folder with train.csv, found {what}; "
            "pass the file itself, or rename it"
        )
    return found


def _make_split(
    file: CsvFile, num_examples: int, num_classes: int, shape: tuple[int, int, int]
) -> SourceSplit:
    def read() -> Iterator[Batch]:
        for rows in _read_rows(file, num_classes):
            yield rows[:, 1:].astype(np.uint8).reshape(-1, *shape), rows[:, 0].astype(np.int64)

    return SourceSplit(num_examples=num_examples, read=read)


def _read_first_line(path: Path) -> CsvFile:
    _, block = next(_read_blocks(path), (1, b""))
    if not block.strip():
        raise UserError(f"{path}: expected lines of a label and pixels, found an empty file")
    cells = block.split(b"\n", 1)[0].decode("utf-8", "replace").split(",")
    names = tuple(cell.strip().strip('"').lower() for cell in cells)
    return CsvFile(path, len(cells), None if _is_number(names[0]) else names)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_columns(file: CsvFile, train: CsvFile) -> None:
    if file.num_columns < 2:
        raise UserError(
            f"{file.path}:1: expected a label and pixels with commas between them, found 1 column; "
            "save the file with commas"
        )
    if file.header is not None and file.header[0] != "label":
        raise UserError(
            f"{file.path}:1: expected the header's first column to be label, found "
            f"{file.header[0]!r}; put the labels first and name them so"
        )
    if file.num_columns != train.num_columns:
        raise UserError(
            f"{file.path}:1: expected {train.num_columns:,} columns as in {train.path.name}, found "
            f"{file.num_columns:,}; all splits must have images of one shape"
        )


def _square_shape(file: CsvFile) -> tuple[int, int, int]:
    num_pixels = file.num_columns - 1
    side = math.isqrt(num_pixels)
    if side * side != num_pixels:
        raise UserError(
            f"{file.path}: expected a square number of pixels, found {num_pixels:,}; "
            "pass --image_shape=HEIGHT,WIDTH,CHANNELS"
        )
    return side, side, 1


def _count(file: CsvFile, num_classes: int) -> tuple[int, int]:
    """Reads a file through; returns how many images it has, and their largest label."""
    count, largest = 0, 0
    for rows in _read_rows(file, num_classes):
        count += len(rows)
        largest = max(largest, int(rows[:, 0].max()))
    if not count:
        raise UserError(f"{file.path}: expected images, found nothing but the header row")
    return count, largest


def _read_rows(file: CsvFile, num_classes: int) -> Iterator[np.ndarray]:
    """Yields checked rows of numbers, int32 [n, columns], n > 0."""
    for line, block in _read_blocks(file.path):
        lines = block.decode("utf-8", "replace").split("\n")
        if line == 1 and file.header is not None:
            lines[0] = ""
        rows = _parse_fast(lines, file.num_columns, num_classes)
        if rows is None:
            rows = _parse_lines(file, lines, line, num_classes)
        if len(rows):
            yield rows


def _read_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields blocks of whole lines, each with the number of its first line, from 1."""
    line = 1
    try:
        with _open(path) as file:
            while block := file.read(BLOCK_BYTES):
                block += file.readline(MAX_LINE_BYTES)
                if len(block) >= MAX_LINE_BYTES and not block.endswith(b"\n"):
                    raise UserError(
                        f"{path}:{line}: expected lines of at most {MAX_LINE_BYTES:,} bytes, found "
                        "a longer one; is it a CSV file of images?"
                    )
                if line == 1:
                    block = block.removeprefix(BYTE_ORDER_MARK)
                block = block.replace(b"\r\n", b"\n")
                yield line, block if block.endswith(b"\n") else block + b"\n"
                line += block.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: expected whole gzip data, found damage ({error})") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _parse_fast(lines: list[str], num_columns: int, num_classes: int) -> np.ndarray | None:
    """Parses lines of whole numbers in range; returns None where there is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # It warns of numbers that are not whole, and of none.
            rows = np.loadtxt(lines, np.int32, delimiter=",", comments=None, ndmin=2)
    except (ValueError, Warning):
        return None
    in_range = (
        rows.shape[1] == num_columns
        and rows.min() >= 0
        and rows[:, 0].max() < num_classes
        and rows[:, 1:].max() <= 255
    )
    return rows if in_range else None


def _parse_lines(file: CsvFile, lines: list[str], first_line: int, num_classes: int) -> np.ndarray:
    """Parses line by line and cell by cell; blank lines are passed over."""
    rows = []
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) != file.num_columns:
            raise UserError(
                f"{file.path}:{number}: expected {file.num_columns:,} columns as in the first "
                f"line, found {len(cells):,}; correct or remove the line"
            )
        rows.append(
            [
                _parse_cell(cell, column, num_classes, f"{file.path}:{number}")
                for column, cell in enumerate(cells)
            ]
        )
    return np.array(rows, np.int32).reshape(-1, file.num_columns)


def _parse_cell(cell: str, column: int, num_classes: int, where: str) -> int:
    limit = 255 if column else num_classes - 1
    number = float(cell) if _is_number(cell) else math.nan
    if not (number.is_integer() and 0 <= number <= limit):
        what = f"a pixel in column {column + 1}" if column else "a label"
        raise UserError(
            f"{where}: expected {what}, a whole number of 0 to {limit:,}, found {cell.strip()!r}; "
            "correct or remove the line"
        )
    return int(number)
