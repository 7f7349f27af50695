"""What the server does to clients that ask too much, too slowly, or for ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from tests.predict_fixtures import draw
from tests.server_fixtures import draw_png, encode, serve_limited, write_runs

HEAD = b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("limits") / "runs") / "digits"


@pytest.fixture(scope="module")
def server(logdir):
    with serve_limited(
        logdir,
        json_bytes=20_000,
        picture_bytes=60_000,
        header_bytes=4_000,
        connections=6,
        waiting_images=4,
        readers=1,
        waiting_pictures=2,
        receive_seconds=1.0,
        linger_seconds=0.5,
        idle_seconds=1.0,
        read_seconds=8.0,
    ) as running:
        yield running


@pytest.fixture
def connect(server):
    opened = []

    def open_connection() -> socket.socket:
        connection = socket.create_connection(server.address, timeout=10)
        opened.append(connection)
        return connection

    yield open_connection
    for connection in opened:
        connection.close()


def receive_all(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def predict(server, n: int) -> requests.Response:
    body = {"instances": np.zeros((n, 28, 28), int).tolist()}
    return requests.post(f"{server.url}/v1/models/digits:predict", json=body)


def read(server, data: bytes) -> requests.Response:
    headers = {"Content-Type": "image/png"}
    return requests.post(f"{server.url}/v1/read", data=data, headers=headers, timeout=30)


def test_body_too_large(server):
    answer = requests.post(f"{server.url}/v1/models/digits:predict", data=b" " * 20_001)
    assert answer.status_code == 413
    assert answer.json()["error"] == "expected a body of at most 20,000 bytes, found a larger one"
    assert requests.post(f"{server.url}/v1/models/digits:predict", data=b" ").status_code == 400
    assert read(server, b" " * 60_001).status_code == 413
    assert read(server, b" " * 59_999).status_code == 400  # Large enough for a picture.


def test_endless_body_is_cut(server, connect):
    connection = connect()
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    start = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() < start + 10:
            connection.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            time.sleep(0.005)
    assert 0.4 < time.monotonic() - start < 5


def test_client_that_sends_too_much_sees_the_answer(server, connect):
    connection = connect()
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        connection.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
    connection.sendall(b"0\r\n\r\n")
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answers = receive_all(connection)
    assert answers.startswith(b"HTTP/1.1 413 ")
    assert b"HTTP/1.1 200 OK" in answers  # The connection was still good.


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HT",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ",
        HEAD + b"Content-Length: 100\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
def test_client_that_stalls_is_cut(server, connect, sent):
    connection = connect()
    connection.sendall(sent)
    start = time.monotonic()
    answer = receive_all(connection)
    assert 0.5 < time.monotonic() - start < 4
    if sent:
        error = (408, "expected the whole request within 1 s")
        assert status_and_error(answer) == error
    else:
        assert answer == b""


def test_client_that_drips_is_cut(server, connect):
    connection = connect()
    start = time.monotonic()
    with pytest.raises(OSError):
        for byte in (b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 1000).decode():
            connection.sendall(byte.encode())
            time.sleep(0.05)
            if time.monotonic() > start + 8:
                break
    assert time.monotonic() - start < 5


def test_idle_connection_is_closed(server, connect):
    connection = connect()
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection.sendall(request)
    time.sleep(0.5)
    connection.sendall(request)  # Still open, and this renews its time.
    start = time.monotonic()
    assert receive_all(connection).count(b"200 OK") == 2
    assert 0.5 < time.monotonic() - start < 3


HEADERS_TOO_LARGE = (431, "expected headers of at most 4,000 bytes, found more")


def test_headers_too_large(server, connect):
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 4_000)
    assert status_and_error(receive_all(connection)) == HEADERS_TOO_LARGE


@pytest.mark.parametrize("size", [4_000, 30_000, 3_000_000])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda size: b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % (b"y" * size),
        lambda size: b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"y" * size),
        lambda size: HEAD + b"A: b\r\n" * (size // 6) + b"Content-Length: 2\r\n\r\n{}",
    ],
    ids=["one header", "a path", "many headers"],
)
def test_client_that_sends_too_large_headers_whole_sees_the_answer(
    server, connect, request_of, size
):
    connection = connect()
    connection.sendall(request_of(size))
    time.sleep(0.1)  # A connection that is reset meanwhile loses what it has received.
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    assert status_and_error(answer) == HEADERS_TOO_LARGE
    assert answer.count(b"HTTP/1.1") == 1


def test_headers_within_the_limit_and_a_body_in_one_piece(server, connect):
    connection = connect()
    padding = b"Host: localhost\r\nX: " + b"y" * 3_700 + b"\r\n"
    body = b" " * 15_000  # It came with the headers and is none of them.
    head = b"POST /v1/models/digits:predict HTTP/1.1\r\nConnection: close\r\n" + padding
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    status, error = status_and_error(receive_all(connection))
    assert (status, error[:16]) == (400, "JSON Parse error")


def test_refused_client_that_goes_on_sending_is_cut(server, connect):
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"y" * 5_000)
    start = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() < start + 8:
            connection.sendall(b"y" * 1_000)
            time.sleep(0.01)
    assert 0.2 < time.monotonic() - start < 5


def test_what_is_no_http_is_answered_as_such(server, connect):
    connection = connect()
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert status_and_error(receive_all(connection)) == (400, "Invalid HTTP request received.")


def test_connections_too_many(server, connect):
    time.sleep(1.2)  # Those of the tests before are closed by now.
    first = [connect() for _ in range(6)]
    more = connect()
    status, error = status_and_error(receive_all(more))
    assert (status, error) == (503, "busy: 6 connections are open; try again in 1 s")
    first[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert first[0].recv(1000).startswith(b"HTTP/1.1 200")
    for connection in first:
        connection.close()
    time.sleep(0.1)
    assert requests.get(f"{server.url}/healthz").status_code == 200


def test_overload_is_refused_at_once_and_passes(server):
    answer = predict(server, 5)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"] == "busy: 0 images wait for the network; try again in 1 s"
    assert predict(server, 4).status_code == 200


def test_pictures_too_many_at_once(server, connect):
    (reader,) = server.children()
    assert read(server, draw_png("7")).status_code == 200
    os.kill(reader, signal.SIGSTOP)
    try:
        body = draw_png("7")
        head = HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        waiting = [connect() for _ in range(2)]
        for connection in waiting:
            connection.sendall(head + body)
        time.sleep(0.3)
        start = time.monotonic()
        answer = read(server, body)
        assert time.monotonic() - start < 1
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"] == "busy: 2 pictures are being read; try again in 1 s"
    finally:
        os.kill(reader, signal.SIGCONT)
    assert all(b'"text":"7"' in receive_all(connection) for connection in waiting)


def test_reader_that_crashes_is_replaced(server):
    (reader,) = server.children()
    os.kill(reader, signal.SIGKILL)
    answer = read(server, draw_png("7"))
    assert answer.status_code == 500
    assert answer.json()["error"] == "reading the picture failed; give another one"
    assert read(server, draw_png("7")).json()["text"] == "7"
    assert server.children() != [reader]


def test_reader_that_takes_too_long_is_replaced(logdir):
    with serve_limited(logdir, readers=1, read_seconds=4.0) as server:
        assert read(server, draw_png("3")).json()["text"] == "3"
        (reader,) = server.children()
        os.kill(reader, signal.SIGSTOP)  # As good as a picture that takes for ever.
        start = time.monotonic()
        answer = read(server, draw_png("7"))
        assert 3.5 < time.monotonic() - start < 8
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("reading the picture took more than 4 s")
        assert read(server, draw_png("7")).json()["text"] == "7"


def test_server_ends_though_a_reader_does_not(logdir):
    with serve_limited(logdir, readers=1, stop_seconds=1.0) as server:
        assert read(server, draw_png("3")).json()["text"] == "3"
        (reader,) = server.children()
        os.kill(reader, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(read, server, draw_png("7"))
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            assert answer.result().status_code == 503
            assert answer.result().json()["error"] == "the server is stopping"
        assert server.process.wait(timeout=10) == 0
        assert "Traceback" not in server.process.stderr.read()
        with pytest.raises(ProcessLookupError):
            os.kill(reader, 0)


def test_requests_under_way_are_finished_before_the_end(logdir):
    with serve_limited(logdir, receive_seconds=20.0) as server:
        body = encode(np.concatenate([draw("1"), draw("2")], axis=1))
        with socket.create_connection(server.address, timeout=20) as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            with pytest.raises(OSError):  # It takes no new ones.
                socket.create_connection(server.address, timeout=1).close()
            connection.sendall(body[100:])
            assert b'"text":"12"' in receive_all(connection)
        assert server.process.wait(timeout=10) == 0


def test_nobody_is_left_when_the_server_is_killed(logdir):
    with serve_limited(logdir) as server:
        read(server, draw_png("7"))
        readers = server.children()
        assert len(readers) == 2
        server.process.kill()
        server.process.wait()
        end = time.monotonic() + 5
        while any(os.path.exists(f"/proc/{pid}/exe") for pid in readers):
            assert time.monotonic() < end
            time.sleep(0.05)
