"""A folder that appears under its name whole or not at all.

    NAME               the finished folder
    .NAME.converting   what is being written; it is renamed to NAME at the end
    .NAME.replaced     the finished folder of before, between that renaming and its removal
    .NAME.lock         the writer holds an exclusive `flock` on it from its first step to its last

The kernel drops the lock when its holder dies, however it dies. So two writers never meet, and what
a killed one left behind is found, and cleared, by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.command_line import UserError, log, raise_if_stopped


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which `publish` then puts in the place of `final`.

    Unless it was published, the folder is removed when the block ends, and `final` stays as it was.

    Args:
      final: the folder to be; if it is a symbolic link, what the link leads to.

    Yields:
      The folder to write to.

    Raises:
      UserError: another process is writing to the same folder, or it cannot be replaced.
    """
    final = final.resolve()
    if os.path.ismount(final):
        raise UserError(
            f"{final}: expected a folder that can be replaced as a whole, found the top of a file "
            "system; choose a folder in it"
        )
    missing = [folder for folder in final.parents if not folder.exists()]
    staging, lock = _staging_of(final), None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(final)
        _clear_after_a_kill(final)
        staging.mkdir()
        yield staging
    except OSError as error:
        if error.filename is None:  # A write that fails does not say where.
            error.filename = str(final)
        raise
    finally:
        if lock is not None:
            _restore(final)
            for unneeded in (staging, _replaced_of(final)):
                shutil.rmtree(unneeded, ignore_errors=True)
            # Removed while it is held: whoever opened it before finds it removed, and tries again.
            _lock_of(final).unlink(missing_ok=True)
            os.close(lock)
        with contextlib.suppress(OSError):  # Not empty, so in use.
            for folder in missing:
                folder.rmdir()


def publish(final: Path) -> None:
    """Puts the staging folder in the place of `final`.

    Args:
      final: the folder that `staging_folder` was called with.

    Raises:
      KeyboardInterrupt, Terminated: Ctrl-C or SIGTERM has arrived, though a library swallowed it.
    """
    raise_if_stopped()
    final = final.resolve()
    staging = _staging_of(final)
    _sync(staging)
    if final.exists():
        final.rename(_replaced_of(final))
    staging.rename(final)
    _sync_folder(final.parent)


def _staging_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.converting")


def _replaced_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.replaced")


def _lock_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.lock")


def _lock(final: Path) -> int:
    """Returns an open descriptor that holds the lock."""
    while True:
        try:
            descriptor = os.open(_lock_of(final), os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError as error:
            raise UserError(
                f"{final}: no file can be made beside it; choose a folder on an ordinary disk"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"{final}: another process is writing this folder now; wait until it has finished"
            ) from error
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _clear_after_a_kill(final: Path) -> None:
    """Mends what a writer that was killed left behind."""
    if _restore(final):
        log(f"{final}: restored; an interrupted run had set it aside")
    for leftover in (_staging_of(final), _replaced_of(final)):
        if leftover.exists():
            log(f"removing what an interrupted run left: {leftover}")
            shutil.rmtree(leftover)


def _restore(final: Path) -> bool:
    """Brings back a folder that was set aside if nothing has taken its place."""
    if final.exists() or not _replaced_of(final).exists():
        return False
    _replaced_of(final).rename(final)
    return True


def _sync(folder: Path) -> None:
    """Asks the disk to keep every file, so that a power cut cannot leave a named, empty one."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
