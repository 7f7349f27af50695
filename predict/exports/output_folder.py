"""The folder that exports go to.

    NAME.onnx, NAME.keras, …   the exports of the run NAME
    NAME/1/, NAME/2/, …        its SavedModels
    NAME.md                    the model card, which covers all of them
    NAME-exports.json          what the card is made from
    .exporting/                what is being written; removed at the end, or by the next export

The writer holds an exclusive `flock` on the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.command_line import UserError

_STAGING_NAME = ".exporting"


@contextmanager
def open_output(output_dir: Path) -> Iterator[Path]:
    """Keeps other exports out of a folder, and gives an empty folder in it to write to.

    Args:
      output_dir: where exports go; made if need be.

    Yields:
      The folder to write to, which is removed at the end.

    Raises:
      UserError: another process exports to the same folder, or it cannot be made.
    """
    made = not output_dir.exists()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{output_dir}: no folder can be made there; choose one on an ordinary disk with "
            "--output_dir"
        ) from error
    descriptor = os.open(output_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{output_dir}: another process is exporting to this folder now; wait until it "
                "has finished, or name another --output_dir"
            ) from error
        staging = output_dir / _STAGING_NAME
        try:
            if staging.exists():  # An export was killed.
                shutil.rmtree(staging)
            staging.mkdir()
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        os.close(descriptor)
        if made:
            with contextlib.suppress(OSError):  # Not empty, so in use.
                output_dir.rmdir()
