"""Builds IDX files byte by byte, right and wrong ones, and reads them."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep import idx
from data_prep.command_line import UserError
from data_prep.source import Source, describe_file

PREFIXES = {"train": "train", "test": "t10k"}
SHAPE = (7, 3, 5)  # odd and not square, to catch swapped sides


def idx_bytes(
    values: np.ndarray, *, type_code: int = 8, shape: tuple[int, ...] | None = None
) -> bytes:
    shape = values.shape if shape is None else shape
    return struct.pack(f">2xBB{len(shape)}I", type_code, len(shape), *shape) + values.tobytes()


def make_images(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def make_labels(count: int = SHAPE[0]) -> np.ndarray:
    return (np.arange(count) % 3).astype(np.uint8)


def write_split(
    folder: Path,
    prefix: str = "train",
    *,
    images: bytes | None = None,
    labels: bytes | None = None,
) -> None:
    folder.mkdir(exist_ok=True)
    images = idx_bytes(make_images()) if images is None else images
    labels = idx_bytes(make_labels()) if labels is None else labels
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images)
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def open_folder(folder: Path, **arguments: object) -> Source:
    pairs = idx.find_files(folder, PREFIXES, required=("train",))
    return idx.read_idx_dataset(pairs, **arguments)  # type: ignore[arg-type]


def read(source: Source, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    batches = list(source.splits[split].read())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def fail(folder: Path, **arguments: object) -> str:
    """Opens and reads a dataset that must be refused; returns the one line that says why."""
    with pytest.raises(UserError) as caught:
        read(open_folder(folder, **arguments))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_plain_files_are_read(tmp_path: Path) -> None:
    write_split(tmp_path)
    source = open_folder(tmp_path)
    images, labels = read(source)
    assert source.image_shape == (3, 5, 1)
    assert source.class_names == ("0", "1", "2")
    assert list(source.splits) == ["train"]
    assert source.splits["train"].num_examples == 7
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(images[..., 0], make_images())
    np.testing.assert_array_equal(labels, make_labels())


def test_class_name_of_label_6_is_6(tmp_path: Path) -> None:
    labels = np.array([6, 7, 8, 9, 6, 6, 6], np.uint8)
    write_split(tmp_path, labels=idx_bytes(labels))
    assert open_folder(tmp_path).class_names[6] == "6"


def test_reading_starts_again_each_time(tmp_path: Path) -> None:
    write_split(tmp_path)
    source = open_folder(tmp_path)
    np.testing.assert_array_equal(read(source)[0], read(source)[0])


@pytest.mark.parametrize(
    "ending", ["-idx3-ubyte.gz", "-idx3-ubyte", ".idx3-ubyte.gz", ".idx3-ubyte"]
)
def test_every_spelling_is_found(tmp_path: Path, ending: str) -> None:
    for kind, values in (("images", make_images()), ("labels", make_labels())):
        data = idx_bytes(values)
        name = f"train-{kind}{ending if kind == 'images' else ending.replace('3', '1')}"
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    source = open_folder(tmp_path)
    np.testing.assert_array_equal(read(source)[0][..., 0], make_images())
    assert source.files == (
        describe_file(tmp_path / f"train-images{ending}"),
        describe_file(tmp_path / f"train-labels{ending.replace('3', '1')}"),
    )


def test_a_plain_file_named_gz_is_read(tmp_path: Path) -> None:
    write_split(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.rename(f"{path}.gz")
    np.testing.assert_array_equal(read(open_folder(tmp_path))[0][..., 0], make_images())


def test_four_dimensions_hold_colours(tmp_path: Path) -> None:
    images = make_images((7, 4, 2, 3))
    write_split(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    (tmp_path / "train-images-idx4-ubyte").write_bytes(idx_bytes(images))
    source = open_folder(tmp_path)
    assert source.image_shape == (4, 2, 3)
    np.testing.assert_array_equal(read(source)[0], images)


def test_transposed_images_are_put_upright(tmp_path: Path) -> None:
    write_split(tmp_path)
    source = open_folder(tmp_path, transposed=True)
    assert source.image_shape == (5, 3, 1)
    images, _ = read(source)
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images[..., 0], make_images().transpose(0, 2, 1))


def test_a_test_split_is_read(tmp_path: Path) -> None:
    write_split(tmp_path)
    test_images = make_images((2, 3, 5), seed=1)
    write_split(tmp_path, "t10k", images=idx_bytes(test_images), labels=idx_bytes(make_labels(2)))
    source = open_folder(tmp_path)
    assert source.splits["test"].num_examples == 2
    np.testing.assert_array_equal(read(source, "test")[0][..., 0], test_images)
    assert len(source.files) == 4


def test_one_image_of_one_class(tmp_path: Path) -> None:
    write_split(
        tmp_path, images=idx_bytes(make_images((1, 1, 1))), labels=idx_bytes(make_labels(1))
    )
    source = open_folder(tmp_path)
    assert source.class_names == ("0",)
    assert read(source)[0].shape == (1, 1, 1, 1)


def test_batches_are_small_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "BATCH_BYTES", 2 * 3 * 5)
    write_split(tmp_path)
    source = open_folder(tmp_path)
    assert [len(images) for images, _ in source.splits["train"].read()] == [2, 2, 2, 1]
    np.testing.assert_array_equal(read(source)[0][..., 0], make_images())


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path) -> None:
    count = 12_000  # 24 MB of pixels
    data = idx_bytes(np.zeros((count, 40, 50), np.uint8))
    write_split(tmp_path, images=gzip.compress(data, 1), labels=idx_bytes(make_labels(count)))
    del data
    tracemalloc.start()
    source = open_folder(tmp_path)
    assert sum(len(images) for images, _ in source.splits["train"].read()) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * idx.BATCH_BYTES


def test_missing_folder(tmp_path: Path) -> None:
    assert "expected a folder of IDX files, found no folder" in fail(tmp_path / "none")


def test_missing_images(tmp_path: Path) -> None:
    (tmp_path / "readme").touch()
    message = fail(tmp_path)
    assert "expected train-images-idx3-ubyte.gz or train-images-idx3-ubyte, found readme" in message


def test_missing_files_in_an_empty_folder(tmp_path: Path) -> None:
    assert "found an empty folder" in fail(tmp_path)


def test_missing_labels(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert "expected train-labels-idx1-ubyte.gz" in fail(tmp_path)


def test_half_a_test_split(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(make_labels()))
    assert "expected t10k-images-idx3-ubyte.gz" in fail(tmp_path)


def test_required_test_split_is_missing(tmp_path: Path) -> None:
    write_split(tmp_path)
    with pytest.raises(UserError, match="expected t10k-images-idx3-ubyte"):
        idx.find_files(tmp_path, PREFIXES, required=("train", "test"))


GOOD = idx_bytes(make_images())
BAD_IMAGES = {
    "empty": (b"", "found an empty file"),
    "html": (b"\n<!DOCTYPE html>\n<title>404</title>", r"found a web page ('<!DOCTYPE html>')"),
    "magic": (b"\x89PNG" + GOOD[4:], "begins with 00 00 08 and 03 or 04, found 89 50 4e 47"),
    "two bytes": (b"\0\0", "found 00 00"),
    "type": (idx_bytes(make_images(), type_code=0x0D), "found type 0d (32-bit floats)"),
    "unknown type": (idx_bytes(make_images(), type_code=0x42), "found type 42 (no known type)"),
    "labels for images": (
        idx_bytes(make_labels()),
        "expected 3 or 4 dimensions in a file of images",
    ),
    "header cut": (GOOD[:11], "the file ends inside its header"),
    "no images": (idx_bytes(make_images((0, 3, 5))), "found 0 x 3 x 5 in the header"),
    "absurd side": (idx_bytes(make_images(), shape=(7, 2000, 5)), "sides of 1 to 1,024 pixels"),
    "absurd count": (idx_bytes(make_images(), shape=(2**31, 3, 5)), "found 2147483648 x 3 x 5"),
    "channels": (idx_bytes(make_images((7, 3, 5, 2))), "1 or 3 channels"),
    "cut short": (
        GOOD[:-20],
        "expected 121 bytes for 7 images of 3 x 5, found 101; it was cut short",
    ),
    "trailing": (GOOD + b"x", "found 122; something follows the last item"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images(tmp_path: Path, name: str) -> None:
    data, expected = BAD_IMAGES[name]
    write_split(tmp_path, images=data)
    message = fail(tmp_path)
    assert expected in message
    assert message.startswith(str(tmp_path / "train-images-idx3-ubyte"))


BAD_GZIPPED_IMAGES = {
    "content cut short": (
        gzip.compress(GOOD[:-20]),
        "found the end of the file in number 5; it was",
    ),
    "gzip cut short": (gzip.compress(GOOD)[:-12], "found an end before its end"),
    "trailing": (gzip.compress(GOOD + b"x"), "7 images of 3 x 5 and no more, found further bytes"),
    "checksum": (gzip.compress(GOOD)[:-8] + b"\0\0\0\0\0\0\0\0", "found damage in it (CRC check"),
    "bytes behind": (gzip.compress(GOOD) + b"junk", "found damage in it"),
    "deflate damaged": (gzip.compress(GOOD)[:10] + b"\xff" * 99, "found damage in it"),
    "impossible": (
        gzip.compress(idx_bytes(make_images(), shape=(90_000_000, 3, 5))),
        "compressed bytes, which cannot hold them",
    ),
    "html": (gzip.compress(b"<html>gone</html>"), "found a web page ('<html>gone</html>')"),
}


@pytest.mark.parametrize("name", BAD_GZIPPED_IMAGES)
def test_bad_gzipped_images(tmp_path: Path, name: str) -> None:
    data, expected = BAD_GZIPPED_IMAGES[name]
    write_split(tmp_path, images=data)
    assert expected in fail(tmp_path)


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path) -> None:
    bomb = gzip.compress(GOOD + bytes(64 << 20))
    write_split(tmp_path, images=bomb)
    del bomb
    tracemalloc.start()
    assert "found further bytes" in fail(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20


def test_a_flipped_bit_anywhere_in_gzip_data_is_found(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(GOOD))
    for position in random.Random(0).sample(range(10, len(data)), 20):
        data[position] ^= 4
        write_split(tmp_path, images=bytes(data))
        assert "train-images" in fail(tmp_path)
        data[position] ^= 4


def test_labels_with_images_dimensions(tmp_path: Path) -> None:
    write_split(tmp_path, labels=GOOD)
    assert "expected 1 dimension in a file of labels, found 3" in fail(tmp_path)


def test_labels_cut_short(tmp_path: Path) -> None:
    write_split(tmp_path, labels=gzip.compress(idx_bytes(make_labels())[:-2]))
    assert "expected 7 labels, found the end of the file in number 5" in fail(tmp_path)


def test_counts_that_disagree(tmp_path: Path) -> None:
    write_split(tmp_path, labels=idx_bytes(make_labels(6)))
    message = fail(tmp_path)
    assert "expected 7 labels, one for each image of train-images-idx3-ubyte, found 6" in message


def test_label_out_of_range(tmp_path: Path) -> None:
    write_split(tmp_path)
    message = fail(tmp_path, class_names=("a", "b"))
    assert "train-labels-idx1-ubyte: expected labels of 0 to 1, found 2 at index 2" in message


def test_test_label_that_train_has_not(tmp_path: Path) -> None:
    write_split(tmp_path)
    write_split(tmp_path, "t10k", labels=idx_bytes(make_labels() + 1))
    assert "t10k-labels-idx1-ubyte: expected labels of 0 to 2, found 3 at index 2" in fail(tmp_path)


def test_splits_of_different_shape(tmp_path: Path) -> None:
    write_split(tmp_path)
    write_split(tmp_path, "t10k", images=idx_bytes(make_images((7, 5, 3))))
    message = fail(tmp_path)
    assert "expected images of 3 x 5 as in train-images-idx3-ubyte, found 5 x 3" in message


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_real_mnist() -> None:
    pairs = idx.find_files(Path(os.environ["MNIST_DIR"]), PREFIXES, required=("train", "test"))
    source = idx.read_idx_dataset(pairs, class_names=tuple("0123456789"))
    images, labels = read(source, "test")
    assert (source.splits["train"].num_examples, len(images)) == (60_000, 10_000)
    assert images.shape[1:] == source.image_shape == (28, 28, 1)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.mean() == pytest.approx(33.79, abs=0.01)
