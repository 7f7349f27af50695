"""Fetches a file over http or https, trusting neither the server nor the way to it.

A host's name is looked up once for each request, every address that comes back is checked, and one
of these very addresses is connected to; redirects start anew. One deadline holds for all of it, and
every wait ends with it: those for headers and for TLS too, so that nothing is left behind however
slowly a server drips. Bytes are counted after unpacking.

Python's own http.client, because the deadline needs its hand on the socket: `requests` limits each
single wait, not their sum, and takes longer to import than a picture to read.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
import zlib
from typing import Any

from predict.image_source import FetchLimits, ImageError, check_num_bytes

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; predict.py)",  # Some servers refuse a bare library.
    "Accept": "image/png,image/jpeg,*/*;q=0.5",
    "Accept-Encoding": "identity",  # Pictures are packed already; some servers pack them again.
    "Connection": "close",
}
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16  # bytes
_SAFE_IN_URL = "!#$%&'()*+,/:;=?@[]~"  # what stays as it is; `%` since it may be quoted already

# What is not on the public internet, by IANA's registries of special-purpose addresses
# (https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-). Spelled out, since what
# `ipaddress` calls global differs between versions of Python.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # private
        "100.64.0.0/10",  # shared by a carrier's customers; Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host service, among the public addresses
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # protocol assignments; Teredo, which carries any IPv4 address
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4, which carries any IPv4 address
    )
)  # fmt: skip
_IPV6_UNICAST = ipaddress.ip_network("2000::/3")  # All that is public is in here,
# or is an IPv4 address in IPv6's clothes: as sockets write it, and as NAT64 translates it.
_MAPPED = tuple(map(ipaddress.ip_network, ("::ffff:0:0/96", "64:ff9b::/96")))


def fetch(url: str, allow_private_urls: bool, limits: FetchLimits) -> bytes:
    """Fetches a file.

    Args:
      url: `http://…` or `https://…`.
      allow_private_urls: also connects to addresses that are not on the public internet.
      limits: bytes, seconds and redirects.

    Returns:
      The file's bytes.

    Raises:
      ImageError: the host is unknown or refused, the server does not give the file, or a limit
        is exceeded.
    """
    deadline = time.monotonic() + limits.seconds
    for _ in range(limits.num_redirects + 1):
        host = ""
        try:
            parts = urllib.parse.urlsplit(url)
            host = (parts.hostname or "").encode("idna").decode()
            connection = _Connection(host, parts, allow_private_urls, deadline)
            with contextlib.closing(connection), connection.request_file() as response:
                if response.status not in _REDIRECTS:
                    return _read_body(response, limits)
                url = _find_target(url, response)
        except TimeoutError as error:
            raise ImageError(
                f"the server did not deliver within {limits.seconds:g} seconds; try again, or "
                "save the picture and give its path"
            ) from error
        except (OSError, http.client.HTTPException, zlib.error) as error:
            if isinstance(error, http.client.InvalidURL):
                raise _misspelt() from error
            raise ImageError(_explain(host, error)) from error
        except ValueError as error:  # of urllib.parse, IDNA and the socket module
            raise _misspelt() from error
    raise ImageError(
        f"expected at most {limits.num_redirects} redirects, found more; give the picture's own URL"
    )


def _misspelt() -> ImageError:
    return ImageError(
        "expected a URL such as https://example.org/digit.png, found one that no server can have; "
        "check its spelling"
    )


class _Connection(http.client.HTTPConnection):
    """A connection to one of a host's addresses, for one request, until a deadline."""

    sock: Any

    def __init__(
        self, host: str, parts: urllib.parse.SplitResult, allow_private_urls: bool, deadline: float
    ) -> None:
        """Takes the parts of a URL; `host` is its host in ASCII.

        Raises:
          ValueError: no server can have such a URL.
        """
        self.default_port = 443 if parts.scheme == "https" else 80
        super().__init__(host, parts.port or self.default_port)
        if not host:
            raise ValueError("no host")
        self._parts = parts
        self._allow_private_urls = allow_private_urls
        self._deadline = deadline

    def request_file(self) -> http.client.HTTPResponse:
        """Sends the request and returns the answer with its headers read."""
        path = urllib.parse.urlunsplit(("", "", self._parts.path or "/", self._parts.query, ""))
        headers = dict(_HEADERS)
        if self._parts.username is not None:
            names = (self._parts.username, self._parts.password or "")
            secret = ":".join(map(urllib.parse.unquote, names)).encode()
            headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        self.request("GET", urllib.parse.quote(path, safe=_SAFE_IN_URL), headers=headers)
        return self.getresponse()

    def connect(self) -> None:
        """Connects to the first address that answers; `http.client` calls this."""
        found = _look_up(self.host, self.port, self._deadline)
        if not self._allow_private_urls:
            for *_, address in found:
                _check_public(self.host, str(address[0]))
        self.sock = _connect_any(found, self._deadline)
        if self._parts.scheme == "https":
            self.sock = _tls_context().wrap_socket(self.sock, server_hostname=self.host)
            self.sock.deadline = self._deadline


class _Timed:
    """A socket whose every read ends with the deadline, however little arrives each time."""

    deadline: float

    def recv_into(self: Any, *args: Any) -> int:
        self.settimeout(_seconds_left(self.deadline))
        return super().recv_into(*args)  # type: ignore[misc]


class _TimedSocket(_Timed, socket.socket):
    pass


class _TimedTlsSocket(_Timed, ssl.SSLSocket):
    pass


def _seconds_left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


@functools.cache
def _tls_context() -> ssl.SSLContext:
    import certifi  # The certificates that `requests` ships with; some systems have none.

    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = _TimedTlsSocket
    return context


def _look_up(host: str, port: int, deadline: float) -> list[tuple]:
    """Returns `getaddrinfo`'s answer, asked in a thread because it knows no time limit."""
    outcome: list[Any] = []

    def look_up() -> None:
        try:
            outcome.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # Raised below, in the caller's thread.
            outcome.append(error)

    # A daemon does not keep the process from ending; the system's resolver gives up by itself.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_seconds_left(deadline))
    if not outcome:
        raise TimeoutError
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _check_public(host: str, address: str) -> None:
    """Raises `ImageError` where an address is not on the public internet."""
    ip = ipaddress.ip_address(address)
    for network in _MAPPED:
        if ip in network:
            ip = ipaddress.ip_address(int(ip) & 0xFFFF_FFFF)
    is_public = ip.version == 4 or ip in _IPV6_UNICAST
    if not is_public or any(ip in network for network in _NOT_PUBLIC):
        raise ImageError(
            f"{host} has the address {address}, which is not on the public internet; "
            "--allow_private_urls permits it"
        )


def _connect_any(found: list[tuple], deadline: float) -> Any:
    """Tries addresses in turn, each for its share of the time left."""
    error: OSError = OSError("no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        sock = _TimedSocket(family, kind, protocol)
        sock.deadline = deadline
        try:
            sock.settimeout(_seconds_left(deadline) / (len(found) - number))
            sock.connect(address)
            sock.settimeout(_seconds_left(deadline))
            return sock
        except OSError as failure:
            sock.close()
            error = failure
    raise error


def _find_target(url: str, response: http.client.HTTPResponse) -> str:
    location = response.getheader("Location")
    if location is None:
        raise ImageError(f"the server answered {response.status} without saying where to go")
    target = urllib.parse.urljoin(url, location.encode("latin-1").decode("utf-8", "replace"))
    scheme = urllib.parse.urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise ImageError(f"expected a redirect to http or https, found one to {scheme}:")
    return target


def _read_body(response: http.client.HTTPResponse, limits: FetchLimits) -> bytes:
    if response.status != 200:
        meaning = http.client.responses.get(response.status, "an unknown status")
        raise ImageError(
            f"the server answered {response.status} ({meaning}); check the URL in a browser"
        )
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise ImageError(
            "expected the file as it is, found it packed by the server (Content-Encoding: "
            f"{encoding[:20]!r}); save the picture and give its path"
        )
    unpacker = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    check_num_bytes(response.length or 0, limits)
    data, num_received = bytearray(), 0
    # `read1` returns what has arrived; `read` would wait for the rest.
    while piece := response.read1(_CHUNK):
        num_received += len(piece)
        check_num_bytes(num_received, limits)
        data += piece if unpacker is None else unpacker.decompress(piece, limits.num_bytes + 1)
        check_num_bytes(len(data), limits)
    if response.length or (unpacker is not None and not unpacker.eof):
        raise http.client.IncompleteRead(b"")
    return bytes(data)


def _explain(host: str, error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"the host {host} is not known; check the URL and the network"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection to {host}: {error.reason}"
    if isinstance(error, http.client.IncompleteRead):
        return f"{host} closed the connection before the end of the file; try again"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection to {host}: {error.strerror.lower()}"
    if isinstance(error, zlib.error):
        return f"{host} sent a damaged file (Content-Encoding: gzip); try again"
    return f"{host} did not answer as a web server does; check the URL and try again"
