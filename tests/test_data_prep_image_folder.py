from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import image_folder
from data_prep.command_line import UserError
from data_prep.image_folder import load_image, read_image_folder
from data_prep.source import Source

SHAPE = (4, 6, 1)


def write(path: Path, pixels: Any = 7, *, mode: str | None = None, **options: Any) -> Path:
    """Writes an image: of one grey value, or of an array of pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if np.ndim(pixels) == 0:
        pixels = np.full((4, 6), pixels, np.uint8)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def write_classes(root: Path, *names: str, count: int = 3) -> None:
    for label, name in enumerate(names):
        for index in range(count):
            write(root / name / f"{index}.png", (50 * label + index) % 256)


def read(source: Source, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    batches = list(source.splits[split].read())
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def fail(folder: Path) -> str:
    """Opens and reads a folder that must be refused; returns the one line that says why."""
    with pytest.raises(UserError) as caught:
        read(read_image_folder(folder, SHAPE, seed=0))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_folders_are_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, "cat", "dog")
    source = read_image_folder(tmp_path, SHAPE, seed=0)
    images, labels = read(source)
    assert source.class_names == ("cat", "dog")
    assert source.image_shape == SHAPE
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert images.shape == (6, *SHAPE)
    assert source.splits["train"].num_examples == 6
    pairs = sorted(zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))
    assert pairs == [(0, 0), (1, 0), (2, 0), (50, 1), (51, 1), (52, 1)]


def test_splits_are_folders(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        write_classes(tmp_path / split, "a", "b", count=count)
    source = read_image_folder(tmp_path, SHAPE, seed=0)
    counts = {split: source.splits[split].num_examples for split in source.splits}
    assert counts == {"train": 6, "validation": 4, "test": 2}
    assert [file.name for file in source.files] == ["train/", "validation/", "test/"]


def test_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    write_classes(tmp_path, "10", "9", "b", "1", "A", count=1)
    names = read_image_folder(tmp_path, SHAPE, seed=0).class_names
    assert names == ("1", "9", "10", "A", "b")


def test_class_name_of_label_6_is_6(tmp_path: Path) -> None:
    write_classes(tmp_path, *"0123456789", count=1)
    assert read_image_folder(tmp_path, SHAPE, seed=0).class_names[6] == "6"


def test_a_test_split_may_lack_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "a", "b", "c")
    write_classes(tmp_path / "test", "c", count=1)
    source = read_image_folder(tmp_path, SHAPE, seed=0)
    assert source.class_names == ("a", "b", "c")
    assert read(source, "test")[1].tolist() == [2]


def test_the_order_is_shuffled_by_seed(tmp_path: Path) -> None:
    write_classes(tmp_path, "a", "b", count=20)
    orders = [
        read(read_image_folder(tmp_path, SHAPE, seed))[0][:, 0, 0, 0].tolist() for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])
    assert sorted(orders[0]) == sorted(orders[2])
    assert orders[0][:5] == [60, 1, 19, 54, 11]  # pinned: the order is part of the format


def test_the_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    write_classes(tmp_path, "a", "b")
    first = read_image_folder(tmp_path, SHAPE, seed=0).files
    assert first == read_image_folder(tmp_path, SHAPE, seed=5).files
    sizes = [path.stat().st_size for path in tmp_path.glob("*/*")]
    assert (first[0].name, first[0].num_bytes) == ("train/", sum(sizes))
    write(tmp_path / "a/0.png", 99)
    second = read_image_folder(tmp_path, SHAPE, seed=0).files
    (tmp_path / "a/0.png").rename(tmp_path / "a/9.png")
    third = read_image_folder(tmp_path, SHAPE, seed=0).files
    assert len({file.sha256 for file in (*first, *second, *third)}) == 3


def test_hidden_files_and_notes_are_passed_over(tmp_path: Path) -> None:
    write_classes(tmp_path, "a")
    (tmp_path / "README.txt").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "a" / ".DS_Store").touch()
    assert read_image_folder(tmp_path, SHAPE, seed=0).splits["train"].num_examples == 3


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "BATCH_BYTES", 2 * 4 * 6)
    write_classes(tmp_path, "a", count=5)
    source = read_image_folder(tmp_path, SHAPE, seed=0)
    assert [len(images) for images, _ in source.splits["train"].read()] == [2, 2, 1]


def test_memory_does_not_grow_with_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "BATCH_BYTES", 1 << 16)
    write(tmp_path / "a" / "0.png")
    for index in range(1, 200):
        (tmp_path / "a" / f"{index}.png").hardlink_to(tmp_path / "a" / "0.png")
    source = read_image_folder(tmp_path, (100, 100, 3), seed=0)  # 6 MB in all
    next(source.splits["train"].read())
    tracemalloc.start()
    assert sum(len(images) for images, _ in source.splits["train"].read()) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


GREY = np.array([[0, 60, 120], [180, 240, 255]], np.uint8)
RGB = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


def load(path: Path, channels: int = 1, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    """Loads an image at its own size, unless another is given."""
    image = load_image(path, (*size, channels))
    assert image.dtype == np.uint8
    assert image.shape == (*size, channels)
    return image.squeeze()


def test_grey_and_colour_are_kept(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load(write(tmp_path / "a.png", GREY)), GREY)
    np.testing.assert_array_equal(load(write(tmp_path / "b.png", RGB), 3), RGB)


def test_channels_are_converted(tmp_path: Path) -> None:
    grey = write(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(load(grey, 3), np.dstack([GREY] * 3))
    colour = write(tmp_path / "b.PNG", RGB)
    luma = np.round(RGB @ np.array([0.299, 0.587, 0.114]))
    np.testing.assert_allclose(load(colour), luma, atol=1)


def test_16_bits_are_scaled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load(path), GREY)


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = np.where(GREY > 100, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(load(write(tmp_path / "a.png", bits, mode="1")), bits)
    path = write(tmp_path / "b.png", RGB, mode="P")
    np.testing.assert_allclose(load(path, 3).astype(int), RGB, atol=40)


def test_jpegs_are_read(tmp_path: Path) -> None:
    flat = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    for name, mode in (("a.jpg", None), ("b.JPEG", "CMYK")):
        path = write(tmp_path / name, flat, mode=mode, format="JPEG")
        np.testing.assert_allclose(load(path, 3, (16, 24)).astype(int), flat, atol=4)


@pytest.mark.parametrize(("ink", "page"), [(30, 255), (220, 0)])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_ink_on_nothing_stays_visible(tmp_path: Path, ink: int, page: int, mode: str) -> None:
    alpha = np.where(GREY > 100, 255, 0).astype(np.uint8)
    pixels = np.dstack([np.full_like(GREY, ink)] * 3 + [alpha])
    path = write(tmp_path / "a.png", pixels, mode=mode)
    np.testing.assert_array_equal(load(path), np.where(alpha == 255, ink, page))


def test_a_transparent_palette_colour(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 1], [1, 1, 0]], np.uint8), "P")
    image.putpalette([9, 9, 9, 20, 20, 20])
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(load(tmp_path / "a.png"), [[255, 20, 20], [20, 20, 255]])


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    path = write(tmp_path / "a.png", GREY, exif=exif)
    np.testing.assert_array_equal(load(path, size=(3, 2)), np.rot90(GREY, -1))


def test_damaged_exif_does_not_hinder(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", np.full((8, 8), 77, np.uint8), exif=b"Exif\0\0II*\0\xff")
    np.testing.assert_allclose(load(path, size=(8, 8)), 77, atol=2)


def test_the_aspect_ratio_is_kept_and_the_border_goes_on(tmp_path: Path) -> None:
    pixels = np.full((20, 10), 200, np.uint8)
    pixels[8:12, 3:7] = 0
    image = load(write(tmp_path / "a.png", pixels), size=(20, 31))
    np.testing.assert_array_equal(image[:, 10:20], pixels)
    assert (image[:, :10] == 200).all()
    assert (image[:, 20:] == 200).all()


def test_large_images_are_averaged(tmp_path: Path) -> None:
    checkers = (np.indices((300, 200)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = load(write(tmp_path / "a.png", checkers), size=(15, 10))
    np.testing.assert_allclose(image, 127, atol=3)


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1)])
def test_very_long_images(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = write(tmp_path / "a.png", np.full(shape, 80, np.uint8))
    assert (load(path, size=(5, 3)) == 80).all()


def test_missing_folder(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'}: expected a folder of images" in fail(tmp_path / "none")


def test_no_class_folders(tmp_path: Path) -> None:
    assert "expected a folder of images for each class, found no folders in it" in fail(tmp_path)


def test_an_image_outside_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, "a")
    path = write(tmp_path / "stray.png")
    assert f"{path}: expected images in a folder for each class, found one outside" in fail(
        tmp_path
    )


def test_a_class_without_images(tmp_path: Path) -> None:
    write_classes(tmp_path, "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".hidden.png").touch()
    assert f"{tmp_path / 'b'}: expected images of this class, found none" in fail(tmp_path)


def test_something_else_in_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, "a")
    (tmp_path / "a" / "more").mkdir()
    assert f"{tmp_path / 'a' / 'more'}: expected only images (.png, .jpg" in fail(tmp_path)
    (tmp_path / "a" / "more").rmdir()
    (tmp_path / "a" / "b.gif").touch()
    assert f"{tmp_path / 'a' / 'b.gif'}: expected only images" in fail(tmp_path)


def test_a_class_that_train_has_not(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "a", "b")
    write_classes(tmp_path / "test", "a", "c")
    message = fail(tmp_path)
    assert "test/c: expected one of the classes that train has, a, b, found c" in message


def test_a_test_folder_without_train(tmp_path: Path) -> None:
    write_classes(tmp_path / "test", "a")
    assert "expected a folder train, and beside it no others" in fail(tmp_path)


def test_an_unknown_split(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", "a")
    write_classes(tmp_path / "val", "a")
    assert "no others than validation and test, found train, val" in fail(tmp_path)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.png"
    path.parent.mkdir()
    for content, found in ((b"", "no such image"), (b"<html>", "no such image"), (b"GIF89a", "no")):
        path.write_bytes(content)
        assert f"{path}: expected a whole PNG or JPEG image, found {found}" in fail(tmp_path)


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
def test_an_image_cut_short(tmp_path: Path, name: str) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (40, 30)).astype(np.uint8)
    path = write(tmp_path / "a" / name, noise)
    path.write_bytes(path.read_bytes()[:-300])
    assert f"{path}: expected a whole PNG or JPEG image, found" in fail(tmp_path)


def test_an_animated_image(tmp_path: Path) -> None:
    frames = [Image.new("L", (3, 2), value) for value in (0, 99)]
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "b.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert f"{path}: expected a still image, found an animated one" in fail(tmp_path)


@pytest.mark.parametrize(
    ("size", "found"),
    [((5001, 5000), "5,001 x 5,000"), ((10_000, 10_000), "more"), ((99_999, 99_999), "more")],
)
def test_too_many_pixels(tmp_path: Path, size: tuple[int, int], found: str) -> None:
    path = write(tmp_path / "a" / "b.png")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", *size)  # in the head alone: there are no such pixels
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    expected = f"{path}: expected an image of at most 25,000,000 pixels, found {found}"
    assert expected in fail(tmp_path)


def test_unreadable_files_keep_their_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_image(tmp_path / "none.png", SHAPE)
