"""Takes files out of zip archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from data_prep.command_line import UserError
from data_prep.download import extract_members

CONTENT = bytes(range(256)) * 999


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"gzip/{name}", content)
    return path


def test_members_are_extracted(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", one=b"first", two=CONTENT, three=b"not asked for")
    paths = extract_members(archive, ["gzip/one", "gzip/two"], tmp_path / "out")
    assert [path.read_bytes() for path in paths] == [b"first", CONTENT]
    assert names(tmp_path / "out") == ["one", "two"]


def test_intact_members_are_kept_and_damaged_ones_replaced(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", one=b"first", two=b"second")
    (tmp_path / "one").write_bytes(b"first")
    (tmp_path / "two").write_bytes(b"sec0nd")
    inode = (tmp_path / "one").stat().st_ino
    extract_members(archive, ["gzip/one", "gzip/two"], tmp_path)
    assert (tmp_path / "one").stat().st_ino == inode
    assert (tmp_path / "two").read_bytes() == b"second"


def test_a_missing_member(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", one=b"first")
    with pytest.raises(UserError, match=r"a\.zip: expected a file gzip/two in it, found none"):
        extract_members(archive, ["gzip/one", "gzip/two"], tmp_path / "out")


def test_no_zip_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>")
    with pytest.raises(UserError, match="expected a whole zip archive, found damage"):
        extract_members(tmp_path / "a.zip", ["gzip/one"], tmp_path / "out")


def test_a_damaged_member_is_not_extracted(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", one=CONTENT)
    data = bytearray(archive.read_bytes())
    data[200] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(UserError, match="expected a whole zip archive, found damage"):
        extract_members(archive, ["gzip/one"], tmp_path / "out")
    assert names(tmp_path / "out") == []
