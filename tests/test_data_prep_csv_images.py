from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep import csv_images
from data_prep.command_line import UserError
from data_prep.csv_images import read_csv_dataset
from data_prep.source import Source, describe_file

HEADER = "label,pixel0,pixel1,pixel2,pixel3\n"
LINES = "1,0,10,200,255\n0,1,2,3,4\n2,9,99,100,0\n"
PIXELS = np.array([[0, 10, 200, 255], [1, 2, 3, 4], [9, 99, 100, 0]], np.uint8)
LABELS = np.array([1, 0, 2])


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(source: Source, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    batches = list(source.splits[split].read())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def check(source: Source, split: str = "train") -> None:
    """Asserts that a split holds the three images of LINES."""
    images, labels = read(source, split)
    assert source.splits[split].num_examples == 3
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(images.reshape(3, 4), PIXELS)
    np.testing.assert_array_equal(labels, LABELS)


def fail(path: Path, image_shape: tuple[int, int, int] | None = None) -> str:
    """Opens a dataset that must be refused; returns the one line that says why."""
    with pytest.raises(UserError) as caught:
        read_csv_dataset(path, image_shape)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        HEADER + LINES,
        '"Label","a","b","c","d"\n' + LINES,  # as R writes it
        "\ufeff" + HEADER + LINES,  # as spreadsheets write it
        LINES.rstrip("\n"),
        (HEADER + LINES).replace("\n", "\r\n"),
        LINES.replace("\n", "\n\n"),
        LINES.replace(",", " , "),
        LINES.replace(",4", ",4.0").replace("1,", "1.0,"),
        LINES.replace(",4", ",004"),
    ],
)
def test_many_ways_to_write_the_same(tmp_path: Path, text: str) -> None:
    source = read_csv_dataset(write(tmp_path / "train.csv", text), None)
    assert source.image_shape == (2, 2, 1)
    assert source.class_names == ("0", "1", "2")
    check(source)
    check(source)  # and again from the start


def test_a_folder_with_three_splits(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", HEADER + LINES)
    validation = write(tmp_path / "validation.csv.gz", LINES)
    test = write(tmp_path / "test.csv", HEADER + "2,7,7,7,7\n")
    source = read_csv_dataset(tmp_path, None)
    assert list(source.splits) == ["train", "validation", "test"]
    check(source, "validation")
    assert read(source, "test")[1].tolist() == [2]
    assert source.files == tuple(map(describe_file, (train, validation, test)))


def test_shape_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "0," + ",".join(map(str, range(18))) + "\n")
    source = read_csv_dataset(tmp_path, (2, 3, 3))
    assert source.image_shape == (2, 3, 3)
    np.testing.assert_array_equal(read(source)[0][0], np.arange(18).reshape(2, 3, 3))


def test_a_test_file_without_labels_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train.csv", HEADER + LINES)
    path = write(tmp_path / "test.csv", "pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n")
    source = read_csv_dataset(tmp_path, None)
    assert list(source.splits) == ["train"]
    assert [file.name for file in source.files] == ["train.csv"]
    assert capsys.readouterr().err == f"{path}: not used, for it has no column named label\n"


def test_labels_of_more_digits_than_pixels(tmp_path: Path) -> None:
    source = read_csv_dataset(write(tmp_path / "train.csv", "1999,1\n0,2\n"), None)
    assert len(source.class_names) == 2000
    assert source.image_shape == (1, 1, 1)
    assert read(source)[1].tolist() == [1999, 0]


@pytest.mark.parametrize("block_bytes", [7, 20])
def test_blocks_join_lines_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(csv_images, "BLOCK_BYTES", block_bytes)
    path = write(tmp_path / "train.csv", HEADER + LINES)
    check(read_csv_dataset(path, None))
    write(path, LINES + "0,1,2,3,300\n")
    assert f"{path}:4: expected a pixel in column 5" in fail(path)


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    line = "3," + ",".join(["200"] * 1000) + "\n"
    path = write(tmp_path / "train.csv", line * 4000)  # 16 MB
    tracemalloc.start()
    source = read_csv_dataset(path, (10, 100, 1))
    assert sum(len(images) for images, _ in source.splits["train"].read()) == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20


BAD_LINES = {
    "0,1,2,3": "expected 5 columns as in the first line, found 4",
    "0,1,2,3,4,5": "expected 5 columns as in the first line, found 6",
    "0,1,2,x,4": "expected a pixel in column 4, a whole number of 0 to 255, found 'x'",
    "0,1,2,,4": "expected a pixel in column 4, a whole number of 0 to 255, found ''",
    "0,1,2,3,256": "expected a pixel in column 5, a whole number of 0 to 255, found '256'",
    "0,1,-2,3,4": "expected a pixel in column 3, a whole number of 0 to 255, found '-2'",
    "0,1,0.5,3,4": "expected a pixel in column 3, a whole number of 0 to 255, found '0.5'",
    "0,1,2,nan,4": "expected a pixel in column 4, a whole number of 0 to 255, found 'nan'",
    "-1,1,2,3,4": "expected a label, a whole number of 0 to 9,999, found '-1'",
    "1.5,1,2,3,4": "expected a label, a whole number of 0 to 9,999, found '1.5'",
    "cat,1,2,3,4": "expected a label, a whole number of 0 to 9,999, found 'cat'",
    "10000,1,2,3,4": "expected a label, a whole number of 0 to 9,999, found '10000'",
}


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("header", [HEADER, ""])
def test_bad_lines(tmp_path: Path, line: str, header: str) -> None:
    path = write(tmp_path / "train.csv", header + LINES + line + "\n" + LINES)
    number = 5 if header else 4
    assert f"{path}:{number}: {BAD_LINES[line]}" in fail(path)


def test_a_label_that_train_has_not(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", LINES)
    path = write(tmp_path / "test.csv", LINES + "3,1,2,3,4\n")
    assert f"{path}:4: expected a label, a whole number of 0 to 2, found '3'" in fail(tmp_path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "")
    assert fail(path) == f"{path}: expected lines of a label and pixels, found an empty file"


def test_nothing_but_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", HEADER)
    assert fail(path) == f"{path}: expected images, found nothing but the header row"


def test_no_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", LINES.replace(",", ";"))
    assert f"{path}:1: expected a label and pixels with commas" in fail(path)


def test_a_header_without_label(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "a,b,c,d,e\n" + LINES)
    assert f"{path}:1: expected the header's first column to be label, found 'a'" in fail(path)


def test_a_label_column_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", LINES)
    path = write(tmp_path / "test.csv", "a,b,c,d,label\n" + LINES)
    assert f"{path}:1: expected the header's first column to be label" in fail(tmp_path)


def test_splits_of_different_shape(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", LINES)
    path = write(tmp_path / "test.csv", "0,1\n")
    assert f"{path}:1: expected 5 columns as in train.csv, found 2" in fail(tmp_path)


def test_pixels_that_make_no_square(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "0,1,2,3\n")
    assert f"{path}: expected a square number of pixels, found 3; pass --image_shape" in fail(path)


def test_another_shape_than_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", LINES)
    expected = "expected a label and 6 pixels for images of 2,3,1, found 4 pixels"
    assert expected in fail(path, (2, 3, 1))


def test_nothing_there(tmp_path: Path) -> None:
    assert "found nothing of that name" in fail(tmp_path / "none")
    write(tmp_path / "test.csv", LINES)
    assert "or a folder with train.csv, found no train.csv in it" in fail(tmp_path)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv.gz", LINES)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: expected whole gzip data, found damage" in fail(tmp_path)
    path.write_bytes(b"<html>")
    assert f"{path}: expected whole gzip data, found damage" in fail(tmp_path)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_images, "BLOCK_BYTES", 10)
    monkeypatch.setattr(csv_images, "MAX_LINE_BYTES", 50)
    path = write(tmp_path / "train.csv", "0" * 100)
    assert f"{path}:1: expected lines of at most 50 bytes, found a longer one" in fail(path)
