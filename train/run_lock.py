"""Keeps all but one process from training in a run folder, or changing its version."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.command_line import UserError


class FolderInUse(UserError):
    """Another process trains in the run folder now."""


def require_folder(logdir: Path) -> None:
    """Refuses a file where a folder is to be made or gone on with."""
    if logdir.exists() and not logdir.is_dir():
        raise UserError(f"{logdir}: a file; name a folder with --logdir")


@contextmanager
def locked(logdir: Path) -> Iterator[None]:
    """Keeps every other trainer out of a run folder while the block runs.

    Args:
      logdir: the run folder; made if need be.

    Yields:
      Nothing.

    Raises:
      FolderInUse: another process trains in it.
      UserError: it is a file.
    """
    require_folder(logdir)
    made = not logdir.exists()
    logdir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(logdir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderInUse(
                f"{logdir}: another process is training in this folder now; wait until it has "
                "finished, or name another --logdir"
            ) from error
        yield
    finally:
        os.close(descriptor)
        if made and not any(logdir.iterdir()):
            logdir.rmdir()
