"""Fetches files from the first mirror that has them, whole or not at all.

A file appears under its name only when its size and its sha256 are right; until then it is a
hidden `.NAME.part` beside it. Its writer holds an exclusive lock on the folder, which the kernel
drops when the process dies: so a second process waits and then finds the files there, and what a
killed one left behind is cleared by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from data_prep.command_line import UserError, log
from data_prep.source import describe_file

if TYPE_CHECKING:
    import urllib3

CONNECT_TIMEOUT = 10.0  # seconds
STALL_TIMEOUT = 15.0  # seconds without a single byte
TRIES = 2  # at each mirror, where the trouble may pass
PAUSE = 1.0  # seconds between them
PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name at every mirror, and what proves that it is the right one."""

    name: str
    num_bytes: int
    sha256: str


class DownloadError(UserError):
    """No mirror gave a file."""


class _MirrorError(Exception):
    """One attempt failed; `passing` says whether trying the same mirror again may help."""

    def __init__(self, reason: str, *, passing: bool) -> None:
        super().__init__(reason)
        self.passing = passing


def fetch_files(files: Sequence[RemoteFile], mirrors: Sequence[str], folder: Path) -> list[Path]:
    """Brings files into a folder; those that are there and intact are kept.

    Proxies are taken from the environment (`http_proxy`, `https_proxy`, `no_proxy`).

    Args:
      files: what to fetch.
      mirrors: URLs of folders that hold all of them, tried in this order. One that failed is tried
        last for the files that follow.
      folder: where to put them; made if need be.

    Returns:
      The files' paths, in the order given.

    Raises:
      DownloadError: no mirror gave a file.
    """
    order = [mirror.rstrip("/") for mirror in mirrors]
    with _only_writer(folder):
        for file in files:
            if not _is_intact(file, folder / file.name):
                _fetch(file, order, folder)
    return [folder / file.name for file in files]


def extract_members(archive: Path, members: Sequence[str], folder: Path) -> list[Path]:
    """Extracts files from a zip archive; those that are there and intact are kept.

    Args:
      archive: the zip file.
      members: the names of the files in it; their own folders are left out.
      folder: where to put them; made if need be.

    Returns:
      The files' paths, in the order given.

    Raises:
      UserError: the archive is damaged, not a zip file, or lacks a member.
    """
    paths = [folder / Path(member).name for member in members]
    try:
        with _only_writer(folder), zipfile.ZipFile(archive) as opened:
            for member, path in zip(members, paths, strict=True):
                info = opened.getinfo(member)
                if path.is_file() and _size_and_crc(path) == (info.file_size, info.CRC):
                    continue
                with opened.open(info) as source, _whole_or_nothing(path) as target:
                    while piece := source.read(PIECE_BYTES):
                        target.write(piece)
    except KeyError as error:
        raise UserError(
            f"{archive}: expected a file {member} in it, found none; get the archive again"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"{archive}: expected a whole zip archive, found damage ({error}); "
            "get the archive again"
        ) from error
    return paths


def _size_and_crc(path: Path) -> tuple[int, int]:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return path.stat().st_size, crc


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Waits until no other process writes to the folder, and clears what killed ones left."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{folder}: another process is writing here; waiting until it has finished")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob(".*.part"):
            log(f"removing what an interrupted run left: {leftover}")
            leftover.unlink()
        yield
    finally:
        os.close(lock)


@contextmanager
def _whole_or_nothing(path: Path) -> Iterator[BinaryIO]:
    """Gives a file to write, which gets its name when the block ends well and else is removed."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _is_intact(file: RemoteFile, path: Path) -> bool:
    if not path.exists():
        return False
    there = describe_file(path)
    if (there.num_bytes, there.sha256) == (file.num_bytes, file.sha256):
        return True
    log(
        f"{path}: damaged: expected {file.num_bytes:,} bytes with sha256 {file.sha256}, found "
        f"{there.num_bytes:,} with {there.sha256}; fetching it again"
    )
    return False


def _fetch(file: RemoteFile, order: list[str], folder: Path) -> None:
    """Fetches one file; moves mirrors that fail to the end of `order`."""
    reasons = []
    for mirror in list(order):
        try:
            _fetch_from(mirror, file, folder)
            return
        except _MirrorError as error:
            reasons.append(f"{urlsplit(mirror).netloc or mirror}: {error}")
            log(f"{mirror}/{file.name}: {error}")
            order.remove(mirror)
            order.append(mirror)
    raise DownloadError(
        f"no mirror gave {file.name} ({'; '.join(reasons)}); check the network, or get the files "
        "by hand, put them into one folder and pass --from_dir=DIR"
    )


def _fetch_from(mirror: str, file: RemoteFile, folder: Path) -> None:
    url = f"{mirror}/{file.name}"
    log(f"fetching {url} ({file.num_bytes:,} bytes)")
    for attempt in range(1, TRIES + 1):
        try:
            with _whole_or_nothing(folder / file.name) as target:
                _receive(url, file, target)
            return
        except _MirrorError as error:
            if attempt == TRIES or not error.passing:
                raise
            log(f"{url}: {error}; trying again")
            time.sleep(PAUSE)


def _receive(url: str, file: RemoteFile, target: BinaryIO) -> None:
    """Writes what a URL answers to `target`, and checks that it is the file."""
    import requests  # Imported here: files that are there already need no network.
    import urllib3

    # The bytes as published: servers must not compress them, nor the client decompress them.
    headers = {"Accept-Encoding": "identity"}
    timeouts = (CONNECT_TIMEOUT, STALL_TIMEOUT)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeouts) as response:
            status = response.status_code
            if status != 200:
                passing = status in (408, 429) or status >= 500
                raise _MirrorError(f"HTTP {status} {response.reason}".rstrip(), passing=passing)
            announced = response.headers.get("Content-Length", "")
            if announced.isdigit() and int(announced) != file.num_bytes:
                kind = response.headers.get("Content-Type", "unknown type")
                raise _MirrorError(
                    f"announces {int(announced):,} bytes ({kind}) instead of {file.num_bytes:,}",
                    passing=False,
                )
            _copy(response.raw, file, target)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _explain(error) from error


def _copy(raw: urllib3.BaseHTTPResponse, file: RemoteFile, target: BinaryIO) -> None:
    """Copies at most one byte more than the file has, and checks size and sha256."""
    from tqdm import tqdm  # Imported here for the same reason.

    digest, count = hashlib.sha256(), 0
    bar = tqdm(
        desc=file.name,
        total=file.num_bytes,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        while piece := raw.read(min(PIECE_BYTES, file.num_bytes + 1 - count)):
            target.write(piece)
            digest.update(piece)
            count += len(piece)
            bar.update(len(piece))
    if count > file.num_bytes:
        raise _MirrorError(f"sent more than the {file.num_bytes:,} bytes expected", passing=False)
    if count < file.num_bytes:
        reason = f"the connection ended after {count:,} of {file.num_bytes:,} bytes"
        raise _MirrorError(reason, passing=True)
    if digest.hexdigest() != file.sha256:
        raise _MirrorError(f"sent another file (sha256 {digest.hexdigest()})", passing=False)


def _explain(error: Exception) -> _MirrorError:
    """Says in a few words why a request failed."""
    import requests
    import urllib3

    # requests wraps urllib3's own exception, which is the one that knows.
    cause = getattr(error.args[0], "reason", error) if error.args else error
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return _MirrorError("host name not found", passing=False)
    if isinstance(error, requests.ConnectTimeout):
        return _MirrorError(f"no connection within {CONNECT_TIMEOUT:g} s", passing=False)
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return _MirrorError(f"no byte for {STALL_TIMEOUT:g} s", passing=True)
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return _MirrorError("the connection broke", passing=True)
    if isinstance(error, requests.exceptions.ProxyError):
        return _MirrorError("the proxy does not let us through", passing=False)
    if isinstance(error, requests.exceptions.SSLError):
        return _MirrorError("its certificate was refused", passing=False)
    if isinstance(error, requests.TooManyRedirects):
        return _MirrorError("redirects without end", passing=False)
    if isinstance(error, requests.ConnectionError):
        return _MirrorError("no connection", passing=False)
    return _MirrorError(f"not a usable URL ({error})", passing=False)
