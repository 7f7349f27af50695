"""A folder that appears under its name whole or not at all.

Files are written to a hidden sibling, `.NAME.converting`, which is renamed at the end. The sibling
is also the lock: its writer holds an exclusive `flock` on it, which the kernel drops when the
process dies, however it dies. So two writers never share it, and what a killed one left behind is
found, and cleared, by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.command_line import UserError, log


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Gives an empty folder to write to, which `publish` then puts in the place of `final`.

    Unless it was published, the folder is removed when the block ends, and `final` stays as it was.

    Args:
      final: the folder to be.

    Yields:
      The folder to write to.

    Raises:
      UserError: another process is writing to the same folder.
    """
    made_parent = not final.parent.exists()
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = _staging_of(final)
    lock = _lock(staging, final)
    try:
        _restore_after_a_kill(final)
        for leftover in staging.iterdir():
            log(f"removing what an interrupted run left: {leftover}")
            leftover.unlink()
        yield staging
    finally:
        # Once published, nothing stands here; before that, everything here is unfinished.
        shutil.rmtree(staging, ignore_errors=True)
        os.close(lock)
        if made_parent and not any(final.parent.iterdir()):
            final.parent.rmdir()


def publish(final: Path) -> None:
    """Puts the staging folder in the place of `final`; what stood there is removed afterwards.

    Args:
      final: the folder that `staging_folder` was called with.
    """
    staging, replaced = _staging_of(final), _replaced_of(final)
    _sync(staging)
    if final.exists():
        final.rename(replaced)
    staging.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _staging_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.converting")


def _replaced_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.replaced")


def _lock(staging: Path, final: Path) -> int:
    """Returns an open descriptor that holds the lock on the staging folder, made if need be."""
    while True:
        staging.mkdir(exist_ok=True)
        try:
            descriptor = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue  # Its owner finished between the two calls.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"{final}: another process is writing this folder now; wait until it has finished"
            ) from error
        # Its owner may have renamed it before we locked it: then we hold the finished folder.
        if staging.exists() and os.path.samestat(os.fstat(descriptor), staging.stat()):
            return descriptor
        os.close(descriptor)


def _restore_after_a_kill(final: Path) -> None:
    """Mends what a kill around the renames leaves: the old folder under its hidden name."""
    replaced = _replaced_of(final)
    if not replaced.exists():
        return
    if final.exists():
        shutil.rmtree(replaced)
    else:
        replaced.rename(final)
        log(f"{final}: restored; an interrupted run had set it aside")


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
