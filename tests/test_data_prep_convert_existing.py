"""Conversion onto a dataset that is there: kept, refused or overwritten, and never half of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.conversion import Conversion
from tests.convert_fixtures import SHAPE, WriteIdx, contents, make, refuse, write_source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_idx: WriteIdx) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), write_idx)


def test_a_complete_dataset_is_kept(tmp_path: Path, source: Path) -> None:
    manifest = make(tmp_path / "a", source).manifest
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert make(tmp_path / "a", source) == Conversion(manifest, kept=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()} == before


def test_other_options_are_refused_and_named(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "a", source)
    assert refuse(tmp_path / "a", source, seed=3) == (
        f"{tmp_path / 'a'}: holds a dataset made with seed=0, and seed=3 is asked for; "
        "pass --overwrite to replace it, or another --data_dir"
    )
    assert "made with image_shape=None, and image_shape=[5, 3, 1]" in refuse(
        tmp_path / "a", source, image_shape=SHAPE
    )


def test_another_source_is_refused(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "a", source)
    other = tmp_path / "other"
    other.mkdir()
    for name, content in contents(source).items():
        (other / name).write_bytes(content[:-1] + b"\0" if "t10k-images" in name else content)
    assert "holds a dataset made from other source files" in refuse(tmp_path / "a", other)


@pytest.mark.parametrize("name", ["a-train.tfrecord-00002-of-00004", "record_crc32c.bin"])
def test_a_damaged_dataset_is_not_taken_for_complete(
    tmp_path: Path, source: Path, name: str
) -> None:
    make(tmp_path / "a", source)
    good = contents(tmp_path / "a")
    (tmp_path / "a" / name).write_bytes(good[name][:-16])
    reason = refuse(tmp_path / "a", source)
    assert reason.startswith(str(tmp_path / "a" / name))
    assert reason.endswith("; pass --overwrite to convert the dataset again")
    assert not make(tmp_path / "a", source, overwrite=True).kept
    assert contents(tmp_path / "a") == good


def test_a_folder_without_a_manifest_is_not_taken_for_complete(
    tmp_path: Path, source: Path
) -> None:
    """As a conversion that was killed would leave it, if it wrote under the final name."""
    make(tmp_path / "a", source)
    (tmp_path / "a" / "manifest.json").unlink()
    for overwrite in (False, True):
        reason = refuse(tmp_path / "a", source, overwrite=overwrite)
        assert "holds files but no manifest.json, so it is not a complete dataset" in reason


def test_overwrite_spares_what_is_not_of_the_dataset(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "a", source)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        reason = refuse(tmp_path / "a", source, overwrite=overwrite)
        assert "holds notes.txt, which is not of the dataset a in it" in reason


def test_overwrite_spares_a_folder_with_another_manifest(tmp_path: Path, source: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text('{"name": "a web page"}')
    reason = refuse(tmp_path / "a", source, overwrite=True)
    assert "not a manifest (no 'format_version'); restore it, or remove the folder" in reason


def test_overwrite_replaces_a_dataset(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "a", source, num_shards=9)
    assert make(tmp_path / "a", source, num_shards=2, overwrite=True).kept is False
    make(tmp_path / "2" / "a", source, num_shards=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "2" / "a")


def test_a_dataset_survives_a_source_that_is_damaged(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "a", source)
    other = tmp_path / "other"
    other.mkdir()
    for name, content in contents(source).items():
        (other / name).write_bytes(content[:-1])
    assert "it was cut short" in refuse(tmp_path / "a", other, overwrite=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"validation_size": 60}, "60 for validation to be set aside, but there are only 60 "),
        ({"test_size": 5}, "--test_size=5: the source has a test split of its own with 13 images"),
        ({"image_shape": (3, 5, 1)}, "--image_shape: expected the shape that the images of idx"),
    ],
)
def test_options_that_do_not_fit_the_source(
    tmp_path: Path, source: Path, options: dict[str, Any], text: str
) -> None:
    assert text in refuse(tmp_path / "a", source, **options)
    assert not (tmp_path / "a").exists()


def test_paths_that_do_not_fit(tmp_path: Path, source: Path) -> None:
    assert "--from_dir=nowhere: no such folder" in refuse(tmp_path / "a", Path("nowhere"))
    assert "--dataset=idx reads your own files: pass --from_dir" in refuse(tmp_path / "a", None)
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'}: a file; choose another" in refuse(tmp_path / "file", source)
