"""What the tests of the server share: runs whose models read drawn digits, and servers of them."""

from __future__ import annotations

import base64
import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from tests.predict_fixtures import DIGITS, draw, write_digit_run, write_test_run

ROOT = Path(__file__).resolve().parents[1]
# Runs the server with other limits than serve.py's.
_LIMITED = """
import socket, sys
from pathlib import Path
sys.path[0] = {root!r}
from predict.image_source import FetchLimits
from predict.serve import address_of, listen
from predict.server.limits import ServerLimits
from predict.server.running import serve
from predict.server.runs import find_runs
from predict.server.service import ServerConfig
import signal
signal.signal(signal.SIGTERM, lambda signum, frame: None)
listener = listen("127.0.0.1", 0)
config = ServerConfig(
    find_runs({logdir!r}), Path({feedback!r}), {feedback_bytes}, limits=ServerLimits({limits})
)
serve(config, listener, lambda: print(address_of(listener), flush=True))
"""


class RunningServer:
    """A server process: its URL without the last slash, and its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = process.stdout.readline().strip().rstrip("/")
        assert self.url.startswith("http://"), process.communicate()[1]
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))

    def children(self) -> list[int]:
        """The readers' process ids."""
        folder = Path(f"/proc/{self.process.pid}/task")
        pids = [
            int(pid) for task in folder.iterdir() for pid in (task / "children").read_text().split()
        ]
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def write_runs(folder: Path) -> Path:
    """Writes a folder of two runs: `digits`, and `letters`, which calls 0 `a`, 1 `b`, and so on.

    A third, `unfinished`, has no exported model.
    """
    for name, class_names in (("digits", DIGITS), ("letters", "abcdefghij")):
        run = write_test_run(folder / name, class_names=tuple(class_names))
        run.export_path.parent.mkdir()
        run.export_path.write_bytes(_export_digit_model())
    write_test_run(folder / "unfinished")
    return folder


@functools.cache
def _export_digit_model() -> bytes:
    """The model takes a while to make, so all tests of a process share it."""
    with tempfile.TemporaryDirectory() as folder:
        return write_digit_run(Path(folder) / "run").export_path.read_bytes()


@contextmanager
def serve(logdir: Path | str, *options: str) -> Iterator[RunningServer]:
    """Runs serve.py on a free port."""
    script = str(ROOT / "predict/serve.py")
    with _run([script, f"--logdir={logdir}", "--port=0", *options]) as server:
        yield server


@contextmanager
def serve_limited(logdir: Path, *, feedback_bytes: int = 1_000_000, **limits: float) -> Iterator:
    """Runs the server with some of `ServerLimits` changed."""
    program = _LIMITED.format(
        root=str(ROOT),
        logdir=str(logdir),
        feedback=str(logdir / "feedback"),
        feedback_bytes=feedback_bytes,
        limits=", ".join(f"{name}={value!r}" for name, value in limits.items()),
    )
    with _run(["-c", program]) as server:
        yield server


@contextmanager
def _run(arguments: list[str]) -> Iterator[RunningServer]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    try:
        yield RunningServer(process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()


def encode(pixels: np.ndarray, format_name: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_name)
    return file.getvalue()


def draw_png(text: str) -> bytes:
    """A picture of a digit, as a PNG file."""
    return encode(draw(text))


def to_b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}
