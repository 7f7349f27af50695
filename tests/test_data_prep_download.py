"""Fetches from servers on this machine that do what servers on the internet do."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from data_prep import download
from data_prep.download import DownloadError, RemoteFile, fetch_files

ROOT = Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 999
FILE = RemoteFile("images.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
SMALL = RemoteFile("labels.gz", 6, hashlib.sha256(b"labels").hexdigest())

Answer = Callable[[BaseHTTPRequestHandler], None]


def send(body: bytes, *, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def send_without_length(body: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Server(ThreadingHTTPServer):
    """A mirror: its folders (`good`, `html`, …) each answer in their own way."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()  # ends every stall
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[str, Answer] = {
            "404": send(b"not here", status=404),
            "403": send(b"go away", status=403),
            "html": send(b"<html>Sign in</html>", Content_Type="text/html"),
            "other": send(CONTENT[::-1]),
            "short": send(CONTENT[:1000], length=len(CONTENT)),
            "short_unannounced": send_without_length(CONTENT[:1000]),
            "long_unannounced": send_without_length(CONTENT * 9),
            "stall": self.stall,
            "silent": lambda handler: self.stall(handler, head=False),
            "busy": send(b"", status=503),
            "moved": send(b"", status=302, Location=f"{self.url}/good/{FILE.name}"),
            "loop": send(b"", status=302, Location=f"{self.url}/loop/{FILE.name}"),
            "encoded": send(CONTENT, Content_Encoding="gzip"),
        }

    def stall(self, handler: BaseHTTPRequestHandler, *, head: bool = True) -> None:
        if head:
            send(CONTENT[:1000], length=len(CONTENT))(handler)
            handler.wfile.flush()
        self.release.wait(20)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        self.server.headers.append(dict(self.headers))
        *_, folder, name = self.path.split("/")
        good = send(b"labels" if name == SMALL.name else CONTENT)
        try:
            self.server.answers.get(folder, good)(self)
        except ConnectionError:
            pass

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.3)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_fetched(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    paths = fetch_files([FILE, SMALL], [f"{server.url}/good/"], folder)
    assert paths == [folder / FILE.name, folder / SMALL.name]
    assert paths[0].read_bytes() == CONTENT
    assert paths[1].read_bytes() == b"labels"
    assert names(folder) == [FILE.name, SMALL.name]
    assert server.requested == ["/good/images.gz", "/good/labels.gz"]


def test_intact_files_are_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(CONTENT)
    assert fetch_files([FILE], [f"{server.url}/404"], tmp_path) == [tmp_path / FILE.name]
    assert server.requested == []


def test_a_damaged_file_is_said_and_fetched_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE.name).write_bytes(CONTENT[:-1] + b"x")
    fetch_files([FILE], [f"{server.url}/good"], tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert f"{tmp_path / FILE.name}: damaged: expected 255,744 bytes" in capsys.readouterr().err


def test_a_damaged_file_stays_when_no_mirror_answers(server: Server, tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch_files([FILE], [f"{server.url}/404"], tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == b"old"


REASONS = {
    "404": ("HTTP 404 Not Found", 1),
    "403": ("HTTP 403 Forbidden", 1),
    "html": ("announces 20 bytes (text/html) instead of 255,744", 1),
    "other": ("sent another file (sha256 ", 1),
    "short": ("the connection broke", 2),
    "short_unannounced": ("the connection ended after 1,000 of 255,744 bytes", 2),
    "long_unannounced": ("sent more than the 255,744 bytes expected", 1),
    "stall": ("no byte for 0.3 s", 2),
    "silent": ("no byte for 0.3 s", 2),
    "busy": ("HTTP 503 Service Unavailable", 2),
    "loop": ("redirects without end", 31),
}


@pytest.mark.parametrize("folder", REASONS)
def test_a_bad_mirror_is_named_and_leaves_nothing(
    server: Server, tmp_path: Path, folder: str
) -> None:
    reason, requests_made = REASONS[folder]
    with pytest.raises(DownloadError) as caught:
        fetch_files([FILE], [f"{server.url}/{folder}"], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"no mirror gave images.gz (127.0.0.1:{server.server_port}: {reason}")
    assert message.endswith("put them into one folder and pass --from_dir=DIR")
    assert "\n" not in message
    assert names(tmp_path) == []
    assert len(server.requested) == requests_made


def test_the_next_mirror_is_tried(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["404", "403", "stall", "short", "html", "other", "good"]
    fetch_files([FILE], [f"{server.url}/{folder}" for folder in folders], tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert names(tmp_path) == [FILE.name]
    assert f"{server.url}/404/images.gz: HTTP 404 Not Found" in capsys.readouterr().err


def test_a_mirror_that_failed_is_tried_last_for_the_next_file(
    server: Server, tmp_path: Path
) -> None:
    fetch_files([FILE, SMALL], [f"{server.url}/404", f"{server.url}/good"], tmp_path)
    assert server.requested == ["/404/images.gz", "/good/images.gz", "/good/labels.gz"]


def test_every_mirror_is_named_when_none_answers(server: Server, tmp_path: Path) -> None:
    mirrors = [f"{server.url}/404", f"{server.url}/busy", "nonsense"]
    with pytest.raises(DownloadError, match=r"HTTP 404 .*; .*HTTP 503 .*; nonsense: not a usable"):
        fetch_files([FILE], mirrors, tmp_path)


def test_trouble_that_passes_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.answers["flaky"] = lambda handler: server.answers[
        "busy" if len(server.requested) == 1 else "good_now"
    ](handler)
    server.answers["good_now"] = send(CONTENT)
    fetch_files([FILE], [f"{server.url}/flaky"], tmp_path)
    assert server.requested == ["/flaky/images.gz"] * 2


def test_redirects_are_followed(server: Server, tmp_path: Path) -> None:
    fetch_files([FILE], [f"{server.url}/moved"], tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT


def test_gzipped_files_are_kept_as_published(server: Server, tmp_path: Path) -> None:
    fetch_files([FILE], [f"{server.url}/encoded"], tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_a_closed_port(server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DownloadError, match=f"127.0.0.1:{port}: no connection;?"):
        fetch_files([FILE], [f"http://127.0.0.1:{port}"], tmp_path)


def test_a_host_without_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(DownloadError, match=r"mirror\.invalid: host name not found"):
        fetch_files([FILE], ["http://mirror.invalid/"], tmp_path)


def test_the_environments_proxy_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    fetch_files([FILE], ["http://mirror.invalid/good"], tmp_path)
    assert server.requested == ["http://mirror.invalid/good/images.gz"]


def test_a_dead_proxy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="the proxy does not let us through"):
        fetch_files([FILE], ["http://mirror.invalid/good"], tmp_path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (requests.ConnectTimeout("slow"), "no connection within 10 s"),
        (requests.exceptions.SSLError("expired"), "its certificate was refused"),
    ],
)
def test_failures_before_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def get(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(DownloadError, match=f"mirror: {reason}"):
        fetch_files([FILE], ["https://mirror/"], tmp_path)


def test_two_at_once_fetch_each_file_once(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first_asked = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        first_asked.set()
        server.release.wait(5)
        send(CONTENT)(handler)

    server.answers["slow"] = slow
    download.STALL_TIMEOUT = 5.0  # The fixture puts it back.

    def fetch() -> None:
        fetch_files([FILE], [f"{server.url}/slow"], tmp_path)

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    threads[0].start()
    assert first_asked.wait(5)
    threads[1].start()
    waited = ""
    while "another process is writing here" not in waited and threads[1].is_alive():
        waited += capsys.readouterr().err
        time.sleep(0.01)
    server.release.set()
    for thread in threads:
        thread.join(10)
    assert "another process is writing here" in waited
    assert server.requested == ["/slow/images.gz"]
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert names(tmp_path) == [FILE.name]


def start_stalled_download(server: Server, folder: Path) -> subprocess.Popen[str]:
    """Starts a process and waits until it is in the middle of a file."""
    code = (
        "import signal; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from data_prep import download\n"
        f"file = download.RemoteFile({FILE.name!r}, {FILE.num_bytes}, {FILE.sha256!r})\n"
        f"download.fetch_files([file], [{server.url + '/stall'!r}], Path({str(folder)!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    part = folder / f".{FILE.name}.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and server.requested) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert part.exists()
    return process


def test_ctrl_c_leaves_nothing(server: Server, tmp_path: Path) -> None:
    process = start_stalled_download(server, tmp_path)
    process.send_signal(signal.SIGINT)
    # A signal that comes just before the read begins is seen when that read times out (15 s).
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert names(tmp_path) == []


def test_what_a_killed_download_left_is_cleared(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start_stalled_download(server, tmp_path)
    process.kill()
    process.communicate(timeout=10)
    assert names(tmp_path) == [".images.gz.part"]
    fetch_files([SMALL], [f"{server.url}/good"], tmp_path)
    assert names(tmp_path) == [SMALL.name]
    assert "removing what an interrupted run left" in capsys.readouterr().err
