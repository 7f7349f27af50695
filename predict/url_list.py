"""Gathers the URLs to read: from the command line, from lists, and by patterns such as *.png."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.command_line import UserError
from predict.image_source import is_path

STDIN = "-"


def gather_urls(given: Sequence[str], urls_file: str | None) -> list[str]:
    """Lists every picture to read, in order.

    Args:
      given: URLs, paths, patterns of paths, or `-` for a list on stdin.
      urls_file: a file that lists more of them, one a line, to be read after those given; `-` for
        stdin.

    Returns:
      URLs and paths, at least one. A pattern becomes the sorted paths of the files that it matches;
      one that matches nothing stays as it is, a file that does not exist.

    Raises:
      UserError: there is none, or a list cannot be read.
    """
    if [*given, urls_file].count(STDIN) > 1:
        raise UserError("expected one list on stdin, found - more than once; give it once")
    names: list[str] = []
    for name in given:
        names += read_list(name) if name == STDIN else [name]
    if urls_file is not None:
        names += read_list(urls_file)
    urls = [url for name in names for url in _expand(name)]
    if not urls:
        what = "an empty list" if urls_file is not None or STDIN in given else "none"
        raise UserError(f"expected a picture to read, found {what}; name one with --url=URL")
    return urls


def read_list(path: str) -> list[str]:
    """Reads a list of URLs or paths.

    Args:
      path: a text file with one on each line, or `-` for stdin.

    Returns:
      What stands on the lines that are not blank.

    Raises:
      UserError: there is no such file, or it is no text.
    """
    if path == STDIN and sys.stdin is None:
        raise UserError("expected a list of pictures on stdin, found it closed; redirect a list")
    try:
        data = sys.stdin.buffer.read() if path == STDIN else Path(path).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--urls_file: {path} cannot be read: {reason.lower()}") from error
    if b"\0" in data:
        raise UserError(
            f"--urls_file: expected text with a URL on each line, found other data in {path}; "
            "name a picture with --url"
        )
    # A file's name may be no valid text; Python then writes its bytes in this way.
    lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    return [line.strip() for line in lines if line.strip()]


def _expand(name: str) -> list[str]:
    if is_path(name) and any(sign in name for sign in "*?[") and not os.path.exists(name):
        import glob  # Imported here: one picture needs none.

        return sorted(glob.glob(os.path.expanduser(name), recursive=True)) or [name]
    return [name]
