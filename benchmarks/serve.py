"""Measures the server: requests a second and latency at 1, 8 and 64 clients.

Starts `predict/serve.py` as a process of its own, and is the clients itself: connections that stay
open, each of which sends the next request when it has the answer to the last. A request is one
digit of 28x28 pixels, or what the run reads, as JSON to `/v1/models/NAME:predict`.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError

ROOT = Path(__file__).resolve().parents[1]
_WARM_UP_SECONDS = 1
_NUM_IMAGES = 64  # different requests


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "A finished run.")
    flags.DEFINE_multi_integer("clients", [1, 8, 64], "Connections at a time.", 1)
    flags.DEFINE_float("seconds", 5, "Length of each measurement.", 0.1)
    flags.DEFINE_bool("json", False, "Prints a JSON object for each number of clients.")


@dataclass(frozen=True)
class Figures:
    """One measurement.

    Attributes:
      clients: connections at a time.
      requests_per_second: answered, errors included.
      p50_ms: half of the answers took at most so many milliseconds.
      p99_ms: 99 % of them.
      errors: answers with another status than 200.
    """

    clients: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def main(argv: list[str]) -> int:
    """Measures and prints; returns 1 where there was an error."""
    values = flags.FLAGS
    logdir = Path(values.logdir)
    command = [sys.executable, str(ROOT / "predict/serve.py"), f"--logdir={logdir}", "--port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        if not address:
            raise UserError(f"{logdir}: the server did not start, and said why above")
        requests = make_requests(address, logdir.resolve().name)
        measure(address, requests, 8, _WARM_UP_SECONDS)
        all_figures = [measure(address, requests, n, values.seconds) for n in values.clients]
    finally:
        server.terminate()
        server.wait()
    if values.json:
        for figures in all_figures:
            print(json.dumps(asdict(figures)))
    else:
        print(format_figures(all_figures))
    return 1 if any(figures.errors for figures in all_figures) else 0


def make_requests(address: str, name: str) -> list[bytes]:
    """Makes requests of one image each, of pixels drawn at random.

    Args:
      address: the server's URL.
      name: the run's.

    Returns:
      Whole HTTP requests.
    """
    import numpy as np

    with urllib.request.urlopen(f"{address}v1/models") as response:
        models = {model["name"]: model for model in json.load(response)["models"]}
    shape = models[name]["image_shape"]
    generator = np.random.default_rng(0)
    requests = []
    for _ in range(_NUM_IMAGES):
        # As many numbers of one to three figures as a digit has: most are zero.
        pixels = generator.integers(0, 256, shape) * (generator.random(shape) < 0.2)
        if shape[2] == 1:
            pixels = pixels[:, :, 0]
        body = json.dumps({"instances": [pixels.tolist()]}).encode()
        path = f"/v1/models/{urllib.parse.quote(name)}:predict"
        host = urllib.parse.urlsplit(address).netloc
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    return requests


def measure(address: str, requests: list[bytes], clients: int, seconds: float) -> Figures:
    """Keeps so many clients busy for a while.

    Args:
      address: the server's URL.
      requests: sent in turn.
      clients: connections.
      seconds: how long new requests are sent.

    Returns:
      What was measured.

    Raises:
      UserError: the server closed a connection.
    """
    parts = urllib.parse.urlsplit(address)
    latencies: list[float] = []
    errors = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            connection = socket.create_connection((parts.hostname, parts.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ, _Client(connection))
        start = time.perf_counter()
        end = start + seconds
        sent = 0
        for key in list(selector.get_map().values()):
            key.data.send(requests[sent % len(requests)])
            sent += 1
        busy = clients
        while busy:
            for key, _ in selector.select():
                status = key.data.receive()
                if not status:
                    continue
                now = time.perf_counter()
                latencies.append(now - key.data.start)
                errors += status != b"200"
                if now < end:
                    key.data.send(requests[sent % len(requests)])
                    sent += 1
                else:
                    selector.unregister(key.fileobj)
                    key.data.close()
                    busy -= 1
        taken = time.perf_counter() - start
    latencies.sort()
    return Figures(
        clients=clients,
        requests_per_second=len(latencies) / taken,
        p50_ms=1000 * latencies[len(latencies) // 2],
        p99_ms=1000 * latencies[len(latencies) * 99 // 100],
        errors=errors,
    )


class _Client:
    """One connection, with one request at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.start = 0.0

    def send(self, request: bytes) -> None:
        self._received = b""
        self.start = time.perf_counter()
        self._connection.sendall(request)

    def receive(self) -> bytes:
        """Reads what has come; returns the status once the answer is whole, else nothing."""
        piece = self._connection.recv(65536)
        if not piece:
            raise UserError("the server closed a connection; run it by hand to see why")
        self._received += piece
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return b""
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return head[9:12] if len(body) >= length else b""

    def close(self) -> None:
        self._connection.close()


def format_figures(all_figures: list[Figures]) -> str:
    """Returns a table with a line for each measurement."""
    lines = [f"{'clients':>7} {'requests/s':>11} {'p50':>10} {'p99':>10} {'errors':>7}"]
    lines += [
        f"{figures.clients:>7} {figures.requests_per_second:>11,.0f} {figures.p50_ms:>7.2f} ms "
        f"{figures.p99_ms:>7.2f} ms {figures.errors:>7}"
        for figures in all_figures
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
