from __future__ import annotations

import gzip
import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_prep import datasets
from data_prep.command_line import UserError
from data_prep.datasets import DATASETS, DatasetInfo, open_source
from data_prep.download import DownloadError
from data_prep.source import Source, describe_file

FOUR = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def open_dataset(name: str, folder: Path, **arguments: Any) -> Source:
    defaults: dict[str, Any] = {
        "from_dir": folder,
        "download_dir": folder / "downloads",
        "image_shape": None,
        "seed": 0,
        "synthetic_train": 5,
        "synthetic_test": 2,
    }
    return open_source(name, **{**defaults, **arguments})


def fail(name: str, folder: Path, **arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset(name, folder, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def idx_gz(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(head + values.tobytes(), mtime=0)


def images(count: int) -> np.ndarray:
    return np.arange(count * 15, dtype=np.uint8).reshape(count, 3, 5)


def write_idx(folder: Path, names: tuple[str, ...] = FOUR, label: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(
        names,
        (images(4), np.full(4, label, np.uint8), images(2), np.full(2, label, np.uint8)),
        strict=True,
    ):
        (folder / name).write_bytes(idx_gz(values))


def read(source: Source, split: str = "train") -> np.ndarray:
    return np.concatenate([batch for batch, _ in source.splits[split].read()])


def test_the_table() -> None:
    assert list(DATASETS) == [
        "mnist",
        "fashion_mnist",
        "kmnist",
        "emnist_digits",
        "emnist_balanced",
        "synthetic",
        "idx",
        "csv",
        "image_folder",
        "feedback",
    ]
    for name, info in DATASETS.items():
        assert info.name == name
        assert info.image_preparation in ("mnist", "resize")
        assert bool(info.files) == bool(info.mirrors) == bool(info.folder)
        for file in info.files:
            assert len(bytes.fromhex(file.sha256)) == 32
        assert all(mirror.startswith("http") for mirror in info.mirrors)


def test_class_names() -> None:
    def class_names(name: str) -> tuple[str, ...]:
        names = DATASETS[name].class_names
        assert names is not None
        assert len(set(names)) == len(names)
        return names

    for name in ("mnist", "emnist_digits", "synthetic"):
        assert class_names(name) == tuple(str(digit) for digit in range(10))
    assert class_names("mnist")[6] == "6"
    assert len(class_names("fashion_mnist")) == len(class_names("kmnist")) == 10
    assert class_names("fashion_mnist")[9] == "Ankle boot"
    assert len(class_names("emnist_balanced")) == 47
    assert class_names("emnist_balanced")[36] == "a"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_the_users_own_copy_is_read_and_said_to_differ(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_idx(tmp_path)
    source = open_dataset(name, tmp_path)
    assert source.class_names == DATASETS[name].class_names
    assert source.image_shape == (3, 5, 1)
    assert {split: part.num_examples for split, part in source.splits.items()} == {
        "train": 4,
        "test": 2,
    }
    message = capsys.readouterr().err
    assert f"{tmp_path}: not the files that {name} was published as" in message
    assert message.count("\n") == 1


def test_a_copy_must_be_complete(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / FOUR[2]).unlink()
    (tmp_path / FOUR[3]).unlink()
    assert "expected t10k-images-idx3-ubyte.gz" in fail("mnist", tmp_path)
    assert list(open_dataset("idx", tmp_path).splits) == ["train"]


def test_labels_must_fit_the_dataset(tmp_path: Path) -> None:
    write_idx(tmp_path, label=10)
    assert "expected labels of 0 to 9, found 10 at index 0" in fail("mnist", tmp_path)
    assert len(open_dataset("idx", tmp_path).class_names) == 11


def test_own_idx_files_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_idx(tmp_path)
    open_dataset("idx", tmp_path)
    assert capsys.readouterr().err == ""


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("0,1,2\n1,3,4\n")
    source = open_dataset("csv", tmp_path, image_shape=(1, 2, 1))
    assert read(source).ravel().tolist() == [1, 2, 3, 4]


def test_image_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "a" / "1.png")
    assert open_dataset("image_folder", tmp_path).image_shape == (28, 28, 1)
    source = open_dataset("image_folder", tmp_path, image_shape=(8, 6, 3))
    assert read(source).shape == (1, 8, 6, 3)


def test_synthetic(tmp_path: Path) -> None:
    source = open_dataset("synthetic", tmp_path, from_dir=None)
    assert source.class_names == DATASETS["synthetic"].class_names
    assert {split: part.num_examples for split, part in source.splits.items()} == {
        "train": 5,
        "test": 2,
    }


def emnist_names(part: str) -> tuple[str, ...]:
    return tuple(
        f"emnist-{part}-{split}-{ending}-ubyte.gz"
        for split in ("train", "test")
        for ending in ("images-idx3", "labels-idx1")
    )


@pytest.mark.parametrize("part", ["digits", "balanced"])
def test_emnist_is_put_upright(tmp_path: Path, part: str) -> None:
    write_idx(tmp_path, emnist_names(part))
    source = open_dataset(f"emnist_{part}", tmp_path)
    assert source.image_shape == (5, 3, 1)
    np.testing.assert_array_equal(read(source, "test")[..., 0], images(2).transpose(0, 2, 1))


def write_emnist_zip(folder: Path) -> Path:
    write_idx(folder / "files", emnist_names("digits"), label=9)
    archive = folder / "gzip.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in (folder / "files").iterdir():
            opened.write(path, f"gzip/{path.name}")
    return archive


def test_emnist_from_the_users_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_emnist_zip(tmp_path)
    source = open_dataset("emnist_digits", tmp_path)
    assert source.splits["train"].num_examples == 4
    there = sorted(path.name for path in (tmp_path / "downloads" / "emnist").iterdir())
    assert there == sorted(emnist_names("digits"))
    assert "not the files that emnist_digits was published as" in capsys.readouterr().err
    assert "expected a file gzip/emnist-balanced-train-images" in fail("emnist_balanced", tmp_path)


def publish(monkeypatch: pytest.MonkeyPatch, name: str, paths: list[Path]) -> None:
    """Makes files on this machine the published ones of a dataset."""
    files = [describe_file(path) for path in paths]
    info = DATASETS[name]
    fake = DatasetInfo(
        **{
            **vars(info),
            "files": tuple(
                datasets.RemoteFile(file.name, file.num_bytes, file.sha256) for file in files
            ),
            "mirrors": ("http://127.0.0.1:9/",),
        }
    )
    monkeypatch.setitem(datasets.DATASETS, name, fake)


def test_published_files_are_taken_from_the_download_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "downloads" / "mnist"
    write_idx(folder)
    publish(monkeypatch, "mnist", [folder / name for name in FOUR])
    source = open_dataset("mnist", tmp_path, from_dir=None)
    assert [file.name for file in source.files] == list(FOUR)
    open_dataset("mnist", tmp_path, from_dir=folder)
    assert capsys.readouterr().err == ""


def test_emnist_is_extracted_from_the_download_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_emnist_zip(tmp_path / "downloads" / "emnist")
    publish(monkeypatch, "emnist_digits", [archive])
    source = open_dataset("emnist_digits", tmp_path, from_dir=None)
    assert source.splits["train"].num_examples == 4
    assert [file.name for file in source.files] == list(emnist_names("digits"))


def test_own_mirrors_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(files: Any, mirrors: Any, folder: Path) -> None:
        asked.append((files, mirrors, folder))
        raise DownloadError("nothing")

    monkeypatch.setattr(datasets, "fetch_files", fetch)
    with pytest.raises(DownloadError):
        open_dataset("kmnist", tmp_path, from_dir=None, mirrors=["http://near/"])
    info = DATASETS["kmnist"]
    expected = (info.files, ("http://near/", *info.mirrors), tmp_path / "downloads" / "kmnist")
    assert asked == [expected]


def test_an_unknown_dataset(tmp_path: Path) -> None:
    message = fail("minst", tmp_path)
    assert message.startswith("--dataset: expected one of mnist, fashion_mnist")
    assert message.endswith("found 'minst'; did you mean mnist?")
    assert fail("xyz", tmp_path).endswith("choose one of them")


@pytest.mark.parametrize("name", ["idx", "csv", "image_folder"])
def test_own_files_need_a_folder(tmp_path: Path, name: str) -> None:
    message = fail(name, tmp_path, from_dir=None)
    assert message == f"--dataset={name} reads your own files: pass --from_dir=PATH"


def test_synthetic_has_no_files(tmp_path: Path) -> None:
    assert "--from_dir: expected nothing, for synthetic images are drawn" in fail(
        "synthetic", tmp_path
    )


@pytest.mark.parametrize(
    ("name", "use_folder"), [("mnist", True), ("csv", True), ("synthetic", False)]
)
def test_mirrors_of_what_is_not_downloaded(tmp_path: Path, name: str, use_folder: bool) -> None:
    folder = tmp_path if use_folder else None
    message = fail(name, tmp_path, from_dir=folder, mirrors=["http://near/"])
    assert f"--mirror: expected nothing, for {folder or name} is not downloaded" in message


def test_a_shape_that_the_images_have_not(tmp_path: Path) -> None:
    write_idx(tmp_path)
    assert open_dataset("idx", tmp_path, image_shape=(3, 5, 1)).image_shape == (3, 5, 1)
    message = fail("idx", tmp_path, image_shape=(5, 3, 1))
    assert "--image_shape: expected the shape that the images of idx have, 3,5,1, found" in message


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR is not set")
def test_real_mnist_has_the_published_digests(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.environ["MNIST_DIR"])
    for file in DATASETS["mnist"].files:
        data = (folder / file.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.num_bytes, file.sha256)
    open_dataset("mnist", folder)
    assert capsys.readouterr().err == ""
