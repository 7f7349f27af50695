"""What every request passes on its way in and out, whichever endpoint it is for.

In: is it meant for this server, and does a page of our own ask? Is its body small enough? Out: the
headers that keep a browser from doing more than it should, and the figures for Prometheus.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from predict.server.errors import ApiError, BusyError, StoppingError, encode_error, translate
from predict.server.limits import ServerLimits
from predict.server.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_READING_METHODS = ("GET", "HEAD")
# The page needs scripts, styles, images and answers of this server, and pictures of its own making.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


class Guard:
    """An ASGI application around another."""

    def __init__(
        self,
        app: App,
        *,
        host_names: Collection[str],
        endpoints: Callable[[str], str],
        limits: ServerLimits,
        metrics: Metrics,
    ) -> None:
        """Takes what it guards.

        Args:
          app: receives requests whose body is in memory, whole.
          host_names: by which clients may call this server, besides its addresses.
          endpoints: the name for Prometheus that a path goes under.
          limits: of bodies.
          metrics: told of each request.
        """
        self._app = app
        self._host_names = {"localhost", *(name.lower() for name in host_names)}
        self._endpoints = endpoints
        self._limits = limits
        self._metrics = metrics
        self._held_bytes = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        start = time.perf_counter()
        endpoint = self._endpoints(scope["path"])
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
            await send(message)

        held = _Held(self)
        self._metrics.in_progress.inc()
        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            if scope["method"] not in _READING_METHODS:
                _check_origin(headers)
            body = await self._read_body(scope["method"], headers, receive, held)
            if body is not None:  # Else the client has gone.
                await self._app(scope, _replay(body), send_guarded)
        except asyncio.CancelledError:  # uvicorn does not wait any longer.
            if not status:
                await _send_error(StoppingError(), send_guarded)
        except Exception as error:
            if not status:
                what = f"{scope['method']} {scope['path']}"
                await _send_error(translate(error, what), send_guarded)
        finally:
            held.release()
            self._metrics.in_progress.dec()
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        """Refuses a name that is not ours.

        A page from elsewhere can make its own name lead here (DNS rebinding), and would then count
        as our page. An address cannot be made to lead anywhere else.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        name = _host_name(host)
        if name not in self._host_names and not _is_address(name):
            raise ApiError(
                421,
                f"expected this server's name or address as Host, found {name[:100]!r}; "
                "--allow_host permits a name",
            )

    async def _read_body(
        self, method: str, headers: dict[bytes, bytes], receive: Receive, held: _Held
    ) -> bytes | None:
        """Reads a request's body within the limits; None where the client hung up."""
        is_picture = headers.get(b"content-type", b"").startswith(b"image/")
        limit = self._limits.picture_bytes if is_picture else self._limits.json_bytes
        if method in _READING_METHODS:
            limit = 0
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise ApiError(415, "expected a body as it is, found one with a Content-Encoding")
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > limit:
            raise _too_large(limit)
        pieces = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            held.add(len(piece))
            if held.num_bytes > limit:
                raise _too_large(limit)
            pieces.append(piece)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def hold(self, num_bytes: int) -> None:
        """Counts bytes that requests hold in memory.

        Raises:
          BusyError: they would be too many.
        """
        if num_bytes > 0 and self._held_bytes + num_bytes > self._limits.held_bytes:
            raise BusyError(f"requests hold {self._held_bytes:,} bytes")
        self._held_bytes += num_bytes


class _Held:
    """The bytes that one request holds."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.num_bytes = 0

    def add(self, num_bytes: int) -> None:
        self._guard.hold(num_bytes)
        self.num_bytes += num_bytes

    def release(self) -> None:
        self._guard.hold(-self.num_bytes)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"expected a body of at most {limit:,} bytes, found a larger one")


@functools.lru_cache(maxsize=1024)
def _host_name(host: str) -> str:
    """Returns a Host header without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".").lower()


@functools.lru_cache(maxsize=1024)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(headers: dict[bytes, bytes]) -> None:
    """Refuses what a page of another server sends; programs send neither of these headers."""
    site = headers.get(b"sec-fetch-site", b"none")
    origin = headers.get(b"origin")
    is_own = origin is None or (
        urllib.parse.urlsplit(origin.decode("latin-1")).netloc.lower()
        == headers.get(b"host", b"").decode("latin-1").lower()
    )
    if not is_own or site not in (b"same-origin", b"none"):
        raise ApiError(403, "expected a request of this server's own page, found another page's")


def _replay(body: bytes) -> Receive:
    """Returns a `receive` that gives a whole body, then waits for nothing."""
    messages: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

    async def receive() -> Message:
        return messages.pop() if len(messages) > 1 else messages[0]

    return receive


async def _send_error(error: ApiError, send: Send) -> None:
    body, headers = encode_error(error)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
