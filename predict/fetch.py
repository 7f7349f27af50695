"""Fetches a file over http or https, trusting neither the server nor the way to it.

A host is judged by the address that is connected to: `requests-hardened` looks the name up once,
checks the address and connects to that very address, on each redirect anew. The sum of all waits
is limited, and so are the bytes and the redirects.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from predict.image_source import FetchLimits, ImageError, check_num_bytes

_HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; predict.py)",  # Some servers refuse a bare library.
    "Accept": "image/png,image/jpeg,*/*;q=0.5",
    "Accept-Encoding": "identity",  # Nothing to unpack, so nothing can blow up.
    "Connection": "close",
}
_REDIRECTS = (301, 302, 303, 307, 308)
# Azure's host service answers its virtual machines here, among the public addresses.
_METADATA_ADDRESS = ipaddress.ip_address("168.63.129.16")
_CHUNK = 1 << 16  # bytes

# It logs each address that it refuses; the error that we raise says so already.
logging.getLogger("requests_hardened").setLevel(logging.CRITICAL)
logging.getLogger("urllib3").setLevel(logging.CRITICAL)


class _PublicHostAdapter(IPFilterAdapter):
    """Connects to public addresses only."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[Any, Any]:
        """Adds to the library's checks those that its list of networks lacks."""
        host = urllib.parse.urlsplit(request.url or "").hostname
        try:
            target, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        except InvalidIPAddress as error:
            raise _refuse(host, error.args[0]) from error
        address = ipaddress.ip_address(target["host"].strip("[]"))
        is_site_local = address.version == 6 and address.is_site_local
        if (
            not address.is_global
            or address.is_reserved
            or is_site_local
            or address == _METADATA_ADDRESS
        ):
            raise _refuse(host, address)
        return target, pool


def _refuse(host: Any, address: Any) -> ImageError:
    return ImageError(
        f"{host} has the address {address}, which is not on the public internet; "
        "--allow_private_urls permits it"
    )


def fetch(url: str, allow_private_urls: bool, limits: FetchLimits) -> bytes:
    """Fetches a file.

    The work is done in a thread of its own, because some waits know no limit: a name look-up, or
    headers that arrive a byte a second.

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
    outcome: list[bytes | BaseException] = []

    def work() -> None:
        try:
            outcome.append(_follow(url, allow_private_urls, limits))
        except BaseException as error:  # Raised below, in the caller's thread.
            outcome.append(error)

    # A daemon: one that waits on is left behind, and does not keep the process from ending.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limits.seconds)
    result = outcome[0] if outcome else _too_slow(limits)
    if isinstance(result, BaseException):
        raise result
    return result


def _too_slow(limits: FetchLimits) -> ImageError:
    return ImageError(
        f"the server did not deliver within {limits.seconds:g} seconds; try again, or save the "
        "picture and give its path"
    )


def _follow(url: str, allow_private_urls: bool, limits: FetchLimits) -> bytes:
    """Follows redirects to the file, and reads it."""
    deadline = time.monotonic() + limits.seconds
    for _ in range(limits.num_redirects + 1):
        host = None
        try:
            host = urllib.parse.urlsplit(url).hostname
            with _open(url, allow_private_urls, deadline) as response:
                if response.status_code not in _REDIRECTS:
                    return _read_body(response, deadline, limits)
                url = _find_target(url, response)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise _too_slow(limits) from error
        except ValueError as error:  # Several types, most of them requests' own
            raise ImageError(
                "expected a URL such as https://example.org/digit.png, found one that no server "
                "can have; check its spelling"
            ) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise ImageError(_explain(host, error)) from error
    raise ImageError(
        f"expected at most {limits.num_redirects} redirects, found more; give the picture's own URL"
    )


@contextlib.contextmanager
def _open(url: str, allow_private_urls: bool, deadline: float) -> Iterator[requests.Response]:
    # An adapter and no session: no cookies, proxies or passwords of the user go along, and no
    # body of a redirect is read.
    is_https = url.lower().startswith("https:")
    adapter = HTTPAdapter() if allow_private_urls else _PublicHostAdapter(is_https)
    request = requests.Request("GET", url, headers=_HEADERS).prepare()
    seconds = max(0.001, deadline - time.monotonic())
    with (
        contextlib.closing(adapter),
        adapter.send(request, stream=True, timeout=seconds) as response,
    ):
        yield response


def _find_target(url: str, response: requests.Response) -> str:
    location = response.headers.get("Location")
    if location is None:
        raise ImageError(f"the server answered {response.status_code} without saying where to go")
    target = urllib.parse.urljoin(url, location.encode("latin-1").decode("utf-8", "replace"))
    scheme = urllib.parse.urlsplit(target).scheme
    if scheme not in ("http", "https"):
        raise ImageError(f"expected a redirect to http or https, found one to {scheme}:")
    return target


def _read_body(response: requests.Response, deadline: float, limits: FetchLimits) -> bytes:
    if response.status_code != 200:
        meaning = http.client.responses.get(response.status_code, "an unknown status")
        raise ImageError(
            f"the server answered {response.status_code} ({meaning}); check the URL in a browser"
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise ImageError(
            "expected the file as it is, found it packed by the server (Content-Encoding: "
            f"{encoding[:20]!r}); save the picture and give its path"
        )
    expected = response.headers.get("Content-Length", "")
    if expected.isdecimal():
        check_num_bytes(int(expected), limits)
    data = bytearray()
    # `read1` returns what has arrived; `read` would wait for the rest, byte by byte.
    while piece := response.raw.read1(_CHUNK, decode_content=False):
        data += piece
        check_num_bytes(len(data), limits)
        if time.monotonic() > deadline:
            raise _too_slow(limits)
    return bytes(data)


def _explain(host: str | None, error: BaseException) -> str:
    """Names the first cause of a failed connection."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return f"the host {host} is not known; check the URL and the network"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {host} is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"no secure connection to {host}: {cause.reason}"
        if isinstance(cause, http.client.IncompleteRead):
            return f"{host} closed the connection before the end of the file; try again"
        if isinstance(cause, ConnectionError) and cause.strerror:
            return f"no connection to {host}: {cause.strerror.lower()}"
        cause = cause.__cause__ or cause.__context__
    return f"{host} did not answer as a web server does; check the URL and try again"
