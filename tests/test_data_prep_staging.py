"""The folder that appears whole or not at all, and what is left behind: nothing."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from data_prep.command_line import UserError
from data_prep.staging import publish, staging_folder


def write(final: Path, content: str) -> None:
    with staging_folder(final) as staging:
        (staging / "file").write_text(content)
        publish(final)


def tree(folder: Path) -> dict[str, str]:
    """All files and empty folders below a folder."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def test_a_folder_appears_when_it_is_published(tmp_path: Path) -> None:
    final = tmp_path / "new"
    with staging_folder(final) as staging:
        (staging / "file").write_text("x")
        assert not final.exists()
        publish(final)
        assert tree(final) == {"file": "x"}
    assert tree(tmp_path) == {"new/file": "x"}


def test_a_folder_is_replaced_when_it_is_published(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")
    (tmp_path / "a" / "other").touch()
    write(tmp_path / "a", "new")
    assert tree(tmp_path) == {"a/file": "new"}


def test_what_is_not_published_goes(tmp_path: Path) -> None:
    write(tmp_path / "a", "old")
    with staging_folder(tmp_path / "a") as staging:
        (staging / "file").write_text("new")
    with pytest.raises(ZeroDivisionError), staging_folder(tmp_path / "a") as staging:
        (staging / "file").write_text(str(1 // 0))
    assert tree(tmp_path) == {"a/file": "old"}


def test_parents_are_made_and_stay_only_with_a_folder_in_them(tmp_path: Path) -> None:
    final = tmp_path / "b" / "c" / "a"
    with staging_folder(final):
        pass
    assert tree(tmp_path) == {}
    write(final, "x")
    assert tree(tmp_path) == {"b/c/a/file": "x"}


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", "x")
    assert tree(tmp_path) == {"a/file": "x"}


def test_a_second_writer_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    final = tmp_path / "a"
    with staging_folder(final) as staging:
        (staging / "file").write_text("x")
        with pytest.raises(UserError, match="/a: another process is writing this folder now; wait"):
            write(final, "y")
        publish(final)
        with pytest.raises(UserError, match="another process"):  # until the very end
            write(final, "y")
    assert tree(tmp_path) == {"a/file": "x"}


def test_two_folders_do_not_hinder_each_other(tmp_path: Path) -> None:
    with staging_folder(tmp_path / "a"):
        write(tmp_path / "b", "x")
    assert tree(tmp_path) == {"b/file": "x"}


def test_a_lock_file_that_was_removed_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder may remove the file between another's `open` and `flock`."""
    opened: list[int] = []
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        if not opened:
            (tmp_path / ".a.lock").unlink()
        opened.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with staging_folder(tmp_path / "a"):
        assert (tmp_path / ".a.lock").exists()
        assert len(opened) == 2
    assert tree(tmp_path) == {}


def test_what_a_killed_writer_left_is_cleared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".a.converting" / "sub").mkdir(parents=True)
    (tmp_path / ".a.converting" / "half").write_text("x")
    (tmp_path / ".a.lock").touch()
    write(tmp_path / "a", "new")
    assert tree(tmp_path) == {"a/file": "new"}
    left = tmp_path / ".a.converting"
    assert capfd.readouterr().err == f"removing what an interrupted run left: {left}\n"


def test_a_kill_after_the_renames_leaves_the_new_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", "new")
    write(tmp_path / ".a.replaced", "old")
    with staging_folder(tmp_path / "a"):
        assert tree(tmp_path / "a") == {"file": "new"}
    assert tree(tmp_path) == {"a/file": "new"}


def test_a_kill_between_the_renames_is_mended(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / ".a.replaced", "old")
    write(tmp_path / ".a.converting", "new")
    with staging_folder(tmp_path / "a"):
        assert tree(tmp_path / "a") == {"file": "old"}
    assert tree(tmp_path) == {"a/file": "old"}
    assert f"{tmp_path / 'a'}: restored; an interrupted run had" in capfd.readouterr().err


def test_ctrl_c_between_the_renames_is_mended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", "old")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == ".a.converting":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", "new")
    assert tree(tmp_path) == {"a/file": "old"}


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "disk" / "a")
    for content in ("first", "second"):
        write(tmp_path / "a", content)
        assert (tmp_path / "a").is_symlink()
        assert tree(tmp_path / "disk") == {"a/file": content}


def test_the_working_directory_may_be_named_by_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    write(Path(), "x")
    assert tree(tmp_path) == {"a/file": "x"}


@pytest.mark.parametrize("final", ["/", "/dev/.."])
def test_the_top_of_a_file_system_is_refused(final: str) -> None:
    with pytest.raises(
        UserError, match=r"^/: expected a folder that can be replaced .* a folder in"
    ):
        write(Path(final), "x")


def test_a_failed_write_says_where(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, staging_folder(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(FileNotFoundError) as missing, staging_folder(tmp_path / "a"):
        (tmp_path / "b").read_text()
    assert missing.value.filename == str(tmp_path / "b")
