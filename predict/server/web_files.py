"""The page's files, read once when the server starts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "web"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PATHS = {"index.html": "/", "docs.html": "/docs"}  # the others are found by their names


@dataclass(frozen=True)
class WebFile:
    """A file of the page, as it is sent."""

    content: bytes
    media_type: str
    etag: str


def load_web_files() -> Mapping[str, WebFile]:
    """Reads the files of `web/`; the keys are the paths that requests name."""
    files = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            name = _PATHS.get(path.name, f"/{path.name}")
            files[name] = WebFile(content, _MEDIA_TYPES[path.suffix], etag)
    return files
