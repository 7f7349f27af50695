from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from predict import fetch
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
    """Lists the addresses connected to, and leads those to PUBLIC to this machine."""
    connected = []

    def connect(sock, address):
        connected.append(address[0])
        assert address[0] == PUBLIC, f"connected to {address}"
        socket.socket.connect(sock, (LOOPBACK, address[1]))

    monkeypatch.setattr(fetch._TimedSocket, "connect", connect, raising=False)
    return connected


def resolve(monkeypatch, *answers):
    """Makes each name look-up give the next answer: a list of addresses."""
    look_up = socket.getaddrinfo
    remaining = list(answers)

    def getaddrinfo(host, port, **kwargs):
        return [found for ip in remaining.pop(0) for found in look_up(ip, port, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_picture_is_fetched_whatever_its_name_and_type():
    seen = []

    def answer(handler):
        seen.append(dict(handler.headers))
        reply(handler, body=PNG, Content_Type="text/html")

    with serve(answer) as url:
        assert np.array_equal(load(f"{url}/page.html?a=b#c"), to_rgb(INK))
        assert np.array_equal(load(url.upper().replace("HTTP", "hTTp")), to_rgb(INK))
    assert "compatible" in seen[0]["User-Agent"] and seen[0]["Accept-Encoding"] == "identity"


def test_address_is_sent_as_servers_want_it():
    seen = []

    def answer(handler):
        seen.append((handler.path, handler.headers["Host"], handler.headers["Authorization"]))
        reply(handler, body=PNG)

    with serve(answer) as url:
        port = url.rpartition(":")[2]
        load(f"http://me:s%3acret@LOCALHOST:{port}/größe 7/%20?q=a b&c=%C3#part")
        load(f"http://localhost:{port}?x")
    assert seen == [
        ("/gr%C3%B6%C3%9Fe%207/%20?q=a%20b&c=%C3", f"localhost:{port}", "Basic bWU6czpjcmV0"),
        ("/?x", f"localhost:{port}", None),
    ]


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
        (PNG, {"Content-Length": "20000001"}, "expected a file of at most 20,000,000 bytes"),
        (PNG, {"Content-Encoding": "br"}, r"packed by the server \(Content-Encoding: 'br'\)"),
        (PNG, {"Content-Encoding": "gzip"}, "127.0.0.1 sent a damaged file .*gzip.*; try again"),
        (
            gzip.compress(PNG, mtime=0)[:90],
            {"Content-Encoding": "gzip"},
            "closed the connection before",
        ),
        (gzip.compress(PNG, mtime=0), {}, "expected a PNG or JPEG image, found a gzip archive"),
    ],
)
def test_what_comes_is_no_whole_picture(body, headers, message):
    with serve(lambda handler: reply(handler, 200, body, **headers)) as url:
        with pytest.raises(ImageError, match=message):
            load(f"{url}/digit.png")


def test_packed_picture_is_unpacked():
    def answer(handler):
        reply(handler, body=gzip.compress(PNG, mtime=0), Content_Encoding="gzip")

    with serve(answer) as url:
        assert np.array_equal(load(url), to_rgb(INK))


def test_gzip_bomb_is_cut_off_in_little_memory():
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    assert len(bomb) < 2_000_000  # of 400 MB

    with serve(lambda handler: reply(handler, body=bomb, Content_Encoding="gzip")) as url:
        tracemalloc.start()
        with pytest.raises(ImageError, match="expected a file of at most 20,000,000 bytes"):
            load(url)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 80_000_000  # a growing buffer is copied


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


def drip_redirects(handler, stop):
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nX-Slow: ")
    stop.wait(0.15)
    handler.wfile.write(b"\r\n\r\n")


def drip_interim_answers(handler, stop):
    while not stop.wait(0.05):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def drip_trailers(handler, stop):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    while not stop.wait(0.05):
        handler.wfile.write(b"X-More: 1\r\n")


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


SLOW = [stall, drip_headers, drip_redirects, drip_interim_answers, drip_trailers, drip_body,
        redirect_slowly]  # fmt: skip


@pytest.mark.parametrize("behave", SLOW)
def test_slow_server_is_given_up_in_time_and_leaves_nothing_behind(behave):
    stop = threading.Event()
    num_threads = threading.active_count()
    with serve(lambda handler: behave(handler, stop)) as url:
        start = time.monotonic()
        with pytest.raises(ImageError, match=r"did not deliver within 0\.5 seconds; try again"):
            load(url, limits=FetchLimits(seconds=0.5, num_redirects=50))
        assert time.monotonic() - start < 1.5
        stop.set()
    wait_for(lambda: threading.active_count() == num_threads)


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def listen(behave):
    """Serves without HTTP: `behave` gets each connection. Gives the port."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        behave(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def test_secure_connection_that_drips_is_given_up_in_time():
    stop = threading.Event()

    def drip(connection):
        connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of 16,383 bytes begins
        while not stop.wait(0.05):
            connection.sendall(b"\x02")

    with listen(drip) as port:
        start = time.monotonic()
        with pytest.raises(ImageError, match=r"did not deliver within 0\.5 seconds"):
            load(f"https://{LOOPBACK}:{port}/", limits=QUICK)
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


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Returns a certificate for localhost that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    name = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -out cert.pem -keyout key.pem"
    subprocess.run(f"{command} {name}".split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@contextlib.contextmanager
def serve_tls(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1 << 16)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PNG)}\r\n\r\n".encode()
            secure.sendall(head + PNG)

    with listen(answer) as port:
        yield port


def test_https_with_a_certificate_that_is_trusted(monkeypatch, tls):
    context = fetch._tls_context.__wrapped__()
    context.load_verify_locations(tls[0])
    monkeypatch.setattr(fetch, "_tls_context", lambda: context)
    with serve_tls(*tls) as port:
        assert np.array_equal(load(f"https://localhost:{port}/"), to_rgb(INK))
        with pytest.raises(ImageError, match=r"certificate of 127\.0\.0\.1 is not valid: IP addre"):
            load(f"https://{LOOPBACK}:{port}/")


def test_https_with_a_certificate_that_is_not(tls):
    with serve_tls(*tls) as port:
        with pytest.raises(ImageError, match="the certificate of localhost is not valid: self"):
            load(f"https://localhost:{port}/")


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
        "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::808:808]", "[2002:7f00:1::]",
        "[2002:808:808::]", "[2001:0:53aa:64c::1]", "[::8.8.8.8]", "[::ffff:0:7f00:1]",
        "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[100::1]", "[4000::1]", "[fe80::1%lo]",
        "0x7f.1", "0177.0.0.1", "192.88.99.1", "198.18.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(connections, host):
    for scheme in ("http", "https"):
        message = r"has the address \S+, which is not on the public internet; --allow_private_urls"
        with pytest.raises(ImageError, match=message):
            load_image(f"{scheme}://{host}/latest/meta-data")
    assert connections == []


def test_public_address_is_fetched_from(monkeypatch, connections):
    hosts = []

    def answer(handler):
        hosts.append(handler.headers["Host"])
        reply(handler, body=PNG)

    with serve(answer) as url:
        port = url.rpartition(":")[2]
        resolve(monkeypatch, [PUBLIC], [LOOPBACK])
        assert np.array_equal(load_image(f"http://digits.example:{port}/a.png"), to_rgb(INK))
    assert connections == [PUBLIC] and hosts == [f"digits.example:{port}"]


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "[::ffff:8.8.8.8]",
                                  "[64:ff9b::808:808]", "[2001:4860:4860::8888]"])  # fmt: skip
def test_public_addresses_are_connected_to(monkeypatch, host):
    connected = []

    def refuse(found, deadline):
        connected.append(found)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(fetch, "_connect_any", refuse)
    with pytest.raises(ImageError, match=r"^no connection to .*: connection refused$"):
        load_image(f"http://{host}/")
    assert len(connected) == 1


def test_one_private_address_among_several_is_enough_to_refuse(monkeypatch, connections):
    resolve(monkeypatch, [PUBLIC, "10.1.2.3"])
    with pytest.raises(ImageError, match=r"^digits\.example has the address 10\.1\.2\.3, which"):
        load_image("http://digits.example/")
    assert connections == []


def test_next_address_is_tried():
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))
        with serve(lambda handler: reply(handler, body=PNG)) as url:
            ports = [closed.getsockname()[1], int(url.rpartition(":")[2])]
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", (LOOPBACK, port)) for port in ports
            ]
            with fetch._connect_any(found, time.monotonic() + 5) as sock:
                assert sock.getpeername()[1] == ports[1]


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "http://localhost/",
                                    "//127.0.0.1", "http://[::ffff:a9fe:a9fe]/",
                                    "https://10.0.0.1/"])  # fmt: skip
def test_redirect_to_a_private_address_is_refused(monkeypatch, connections, target):
    with serve(lambda handler: reply(handler, 302, Location=target)) as url:
        with pytest.raises(ImageError, match="which is not on the public internet"):
            load_image(url.replace(LOOPBACK, PUBLIC))
    assert connections == [PUBLIC]


def test_name_that_changes_its_address_gains_nothing(monkeypatch, connections):
    with serve(lambda handler: reply(handler, 302, Location="/again")) as url:
        port = url.rpartition(":")[2]
        # Looked up once for each request: public at first, then not.
        resolve(monkeypatch, [PUBLIC], [LOOPBACK], [LOOPBACK])
        with pytest.raises(ImageError, match=r"digits\.example has the address 127\.0\.0\.1"):
            load_image(f"http://digits.example:{port}/")
    assert connections == [PUBLIC]


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with serve(lambda handler: reply(handler, body=PNG)) as url:
        assert np.array_equal(load(url), to_rgb(INK))
