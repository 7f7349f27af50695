"""A connection that cannot be held by a client that sends slowly, endlessly, or never reads.

uvicorn limits how long a connection may idle between two requests, and nothing else. Here each
request must be there, whole, within a time; its headers are bounded; and so are the connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from predict.server.errors import ApiError, BusyError, encode_error
from predict.server.limits import ServerLimits

_PHRASES = {408: b"Request Timeout", 431: b"Request Header Fields Too Large", 400: b"Bad Request"}


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with deadlines."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ServerLimits,
    ) -> None:
        """Takes what uvicorn gives each connection, and the limits."""
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._is_in_headers = True
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses a connection too many; the others get their first deadline."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._answer(BusyError(f"{self._limits.connections} connections are open"))
            self._end()
        else:
            self._set_deadline(self._limits.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the deadline."""
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes in before the end of the headers."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._is_in_headers:
            if self._deadline is None:  # The first bytes of a further request.
                self._set_deadline(self._limits.receive_seconds)
            self._header_bytes += len(data)
        super().data_received(data)
        # What came behind the headers has been counted too, but then they have ended.
        if self._is_in_headers and self._header_bytes > self._limits.header_bytes:
            self._refuse(self._headers_too_large())

    def on_headers_complete(self) -> None:
        """Begins the body, unless the headers came at once and are too large."""
        # Each has a colon, a space and a line break; the first line two spaces and the version.
        lines = [len(name) + len(value) + 4 for name, value in self.headers]
        if len(self.url) + sum(lines) > self._limits.header_bytes:
            error = self._headers_too_large()
            self._refuse(error)
            raise error  # This ends the parsing; uvicorn then calls `send_400_response`.
        self._is_in_headers = False
        self._header_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Begins to wait for the next request."""
        self._is_in_headers = True
        self._clear_deadline()
        super().on_message_complete()
        if self.cycle.response_complete:  # Else uvicorn counts the idle time, from then on.
            self._set_deadline(self._limits.idle_seconds)

    def on_response_complete(self) -> None:
        """Gives what is left of a request that was answered early a short time to arrive.

        Its sender would not see the answer if the connection were closed under it.
        """
        super().on_response_complete()
        if not self._is_in_headers and not self.transport.is_closing():
            self._set_deadline(self._limits.linger_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """Ends an idle connection, whether or not its client has read the last answer."""
        if not self._is_in_headers:
            return  # Still sending: that has a deadline of its own.
        self._end()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP in the form of every other error."""
        if not self._is_refused:
            self._refuse(ApiError(400, msg))

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, self._on_deadline)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        seconds = self._limits.receive_seconds
        is_answered = self.cycle is not None and self.cycle.response_started
        if (is_answered and not self._is_in_headers) or self.transport.is_closing():
            self.transport.abort()
        elif self._is_in_headers and not self._header_bytes:
            self._end()
        else:
            self._refuse(ApiError(408, f"expected the whole request within {seconds:g} s"))

    def _headers_too_large(self) -> ApiError:
        most = self._limits.header_bytes
        return ApiError(431, f"expected headers of at most {most:,} bytes, found more")

    def _refuse(self, error: ApiError) -> None:
        """Answers without asking the application, and ends the connection.

        Closed with bytes unread, a connection is reset, and the client loses the answer with it. So
        what the client still sends is read and dropped, until it has seen the answer and hangs up,
        or a moment has passed.
        """
        self._is_refused = True
        self._answer(error)
        self._clear_deadline()
        self.transport.write_eof()
        self.loop.call_later(self._limits.linger_seconds, self.transport.abort)

    def _answer(self, error: ApiError) -> None:
        body, headers = encode_error(error)
        status = b"HTTP/1.1 %d %s\r\n" % (error.status, _PHRASES.get(error.status, b"Busy"))
        lines = [status, *(b"%s: %s\r\n" % header for header in headers)]
        self.transport.write(b"".join([*lines, b"connection: close\r\n\r\n", body]))

    def _end(self) -> None:
        """Closes; what the client has not read by the end of a moment is dropped."""
        self._clear_deadline()
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self._limits.linger_seconds, self.transport.abort)
