from __future__ import annotations

import gzip
import io
import socket
import threading
import time

import numpy as np
import pytest
import requests_hardened.ip_filter
import urllib3.connection
from PIL import Image

from predict.image_source import FetchLimits, ImageError, load_image
from tests.predict_fixtures import draw, serve, to_rgb

INK = draw("3", size=30, margin=5)
QUICK = FetchLimits(seconds=0.5)
LOOPBACK = "127.0.0.1"
PUBLIC = "93.184.216.34"  # never really connected to


def png():
    file = io.BytesIO()
    Image.fromarray(INK).save(file, "PNG")
    return file.getvalue()


PNG = png()


def reply(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def load(url, **options):
    return load_image(url, allow_private_urls=True, **options)


@pytest.fixture
def connections(monkeypatch):
    """Counts connections by address, and leads those to PUBLIC to this machine."""
    connected = []
    connect = urllib3.connection.connection.create_connection

    def create_connection(address, *args, **kwargs):
        connected.append(address[0])
        assert address[0] == PUBLIC, f"connected to {address}"
        return connect((LOOPBACK, address[1]), *args, **kwargs)

    monkeypatch.setattr(urllib3.connection.connection, "create_connection", create_connection)
    return connected


def resolve(monkeypatch, answers):
    """Makes name look-ups give these addresses, one after the other."""
    look_up = socket.getaddrinfo
    remaining = list(answers)
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: look_up(remaining.pop(0), *args, **kwargs),
    )


def test_picture_is_fetched_whatever_its_name_and_type():
    seen = []

    def answer(handler):
        seen.append(dict(handler.headers))
        reply(handler, body=PNG, Content_Type="text/html")

    with serve(answer) as url:
        assert np.array_equal(load(f"{url}/page.html?a=b#c"), to_rgb(INK))
        assert np.array_equal(load(url.upper().replace("HTTP", "hTTp")), to_rgb(INK))
    assert "compatible" in seen[0]["User-Agent"] and seen[0]["Accept-Encoding"] == "identity"


def test_chunked_picture_is_fetched():
    def answer(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(PNG), 100):
            piece = PNG[start : start + 100]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    with serve(answer) as url:
        assert np.array_equal(load(url), to_rgb(INK))


def test_five_redirects_are_followed_and_no_more():
    def answer(handler):
        number = int(handler.path[1:])
        if number:
            reply(handler, (301, 302, 303, 307, 308)[number % 5], Location=f"{number - 1}")
        else:
            reply(handler, body=PNG)

    with serve(answer) as url:
        assert np.array_equal(load(f"{url}/5"), to_rgb(INK))
        with pytest.raises(ImageError, match="expected at most 5 redirects, found more"):
            load(f"{url}/6")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"Location": "file:///etc/passwd"},
            "expected a redirect to http or https, found .* file:",
        ),
        ({"Location": "ftp://a.org/"}, "expected a redirect to http or https, found one to ftp:"),
        ({"Location": "http://[::1"}, "expected a URL such as https://example.org/digit.png"),
        ({}, "the server answered 302 without saying where to go"),
    ],
)
def test_redirect_that_leads_nowhere(headers, message):
    with serve(lambda handler: reply(handler, 302, **headers)) as url:
        with pytest.raises(ImageError, match=message):
            load(url)


def test_body_of_a_redirect_is_not_read():
    def answer(handler):
        if handler.path == "/picture":
            reply(handler, body=PNG)
            return
        handler.send_response(302)
        handler.send_header("Location", "/picture")
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    with serve(answer) as url:
        assert np.array_equal(load(url), to_rgb(INK))


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(404, "Not Found"), (403, "Forbidden"), (500, "Internal Server Error"), (299, "an unknown")],
)
def test_status_is_told(status, meaning):
    with serve(lambda handler: reply(handler, status, PNG)) as url:
        with pytest.raises(ImageError, match=rf"the server answered {status} \({meaning}"):
            load(url)


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"<!DOCTYPE html><p>Sign in", {}, "expected a PNG or JPEG image, found an HTML page"),
        (b"", {}, "expected a PNG or JPEG image, found an empty file"),
        (PNG[:200], {}, "the PNG image is cut short"),
        (PNG, {"Content-Length": "200"}, "the PNG image is cut short"),  # says less than it has
        (
            PNG,
            {"Content-Length": "100000"},
            "closed the connection before the end of the file; try again",
        ),
        (PNG, {"Content-Length": "10000001"}, "expected a file of at most 10,000,000 bytes"),
        (gzip.compress(PNG), {"Content-Encoding": "gzip"}, r"packed by the server \(.*'gzip'\)"),
        (gzip.compress(PNG), {}, "expected a PNG or JPEG image, found a gzip archive"),
    ],
)
def test_what_comes_is_no_whole_picture(body, headers, message):
    with serve(lambda handler: reply(handler, 200, body, **headers)) as url:
        with pytest.raises(ImageError, match=message):
            load(f"{url}/digit.png")


def test_endless_body_is_cut_off():
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(PNG)

    with serve(answer) as url:
        with pytest.raises(ImageError, match="expected a file of at most 50,000 bytes"):
            load(url, limits=FetchLimits(num_bytes=50_000))


def stall(handler, stop):
    stop.wait(5)


def drip_headers(handler, stop):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stop.wait(0.05):
        handler.wfile.write(b"x")


def drip_body(handler, stop):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PNG)))
    handler.end_headers()
    for place in range(len(PNG)):
        handler.wfile.write(PNG[place : place + 1])
        if stop.wait(0.05):
            break


def redirect_slowly(handler, stop):
    stop.wait(0.2)
    reply(handler, 302, Location="/again")


@pytest.mark.parametrize("behave", [stall, drip_headers, drip_body, redirect_slowly])
def test_slow_server_is_given_up_in_time(behave):
    stop = threading.Event()
    with serve(lambda handler: behave(handler, stop)) as url:
        start = time.monotonic()
        with pytest.raises(ImageError, match=r"did not deliver within 0\.5 seconds; try again"):
            load(url, limits=QUICK)
        assert time.monotonic() - start < 1.5
        stop.set()


def test_slow_name_look_up_is_given_up_in_time(monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: stop.wait(5) and [])
    with pytest.raises(ImageError, match=r"did not deliver within 0\.5 seconds"):
        load_image("http://slow.example/", limits=QUICK)
    stop.set()


@pytest.mark.parametrize("allow_private_urls", [False, True])
def test_unknown_host(monkeypatch, allow_private_urls):
    def look_up(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ImageError, match=r"^the host nowhere\.example is not known; check the URL"):
        load_image("http://nowhere.example/a.png", allow_private_urls=allow_private_urls)


def test_nobody_listens():
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port = listener.getsockname()[1]
    with pytest.raises(ImageError, match=r"^no connection to 127\.0\.0\.1: connection refused$"):
        load(f"http://127.0.0.1:{port}/")


def test_server_that_speaks_no_http():
    def answer(handler):
        handler.wfile.write(b"220 mail ready\r\n")

    with serve(answer) as url:
        with pytest.raises(ImageError, match=r"127\.0\.0\.1 did not answer as a web server does"):
            load(url)
        with pytest.raises(ImageError, match=r"no secure connection to 127\.0\.0\.1: "):
            load(url.replace("http:", "https:"))


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///a.png", "http://[::1", "http://a:99999/", f"http://{'a' * 80}.org/"],
)
def test_url_that_cannot_be(url):
    with pytest.raises(ImageError, match=r"expected a URL such as https://example\.org/digit\.png"):
        load_image(url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "localhost", "10.0.0.1", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "0.0.0.0", "100.64.0.1", "100.100.100.200", "192.0.0.192",
        "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[::7f00:1]",
        "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:db8::1]",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(monkeypatch, connections, caplog, host):
    monkeypatch.setattr(requests_hardened.ip_filter, "allowed_gai_family", lambda: socket.AF_UNSPEC)
    for scheme in ("http", "https"):
        message = r"has the address \S+, which is not on the public internet; --allow_private_urls"
        with pytest.raises(ImageError, match=message):
            load_image(f"{scheme}://{host}/latest/meta-data")
    assert connections == [] and caplog.records == []


def test_public_address_is_fetched_from(monkeypatch, connections):
    hosts = []

    def answer(handler):
        hosts.append(handler.headers["Host"])
        reply(handler, body=PNG)

    with serve(answer) as url:
        port = url.rpartition(":")[2]
        resolve(monkeypatch, [PUBLIC, LOOPBACK])
        assert np.array_equal(load_image(f"http://digits.example:{port}/a.png"), to_rgb(INK))
    assert connections == [PUBLIC] and hosts == [f"digits.example:{port}"]


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "http://localhost/", "//127.0.0.1"])
def test_redirect_to_a_private_address_is_refused(monkeypatch, connections, target):
    with serve(lambda handler: reply(handler, 302, Location=target)) as url:
        with pytest.raises(ImageError, match="which is not on the public internet"):
            load_image(url.replace(LOOPBACK, PUBLIC))
    assert connections == [PUBLIC]


def test_name_that_changes_its_address_gains_nothing(monkeypatch, connections):
    with serve(lambda handler: reply(handler, 302, Location="/again")) as url:
        port = url.rpartition(":")[2]
        # Looked up once for each request: public at first, then not.
        resolve(monkeypatch, [PUBLIC, LOOPBACK, LOOPBACK])
        with pytest.raises(ImageError, match=r"digits\.example has the address 127\.0\.0\.1"):
            load_image(f"http://digits.example:{port}/")
    assert connections == [PUBLIC]


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with serve(lambda handler: reply(handler, body=PNG)) as url:
        assert np.array_equal(load(url), to_rgb(INK))
