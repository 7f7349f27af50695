"""The one error that a client gets, in TensorFlow Serving's form: `{"error": "..."}`."""

from __future__ import annotations

import logging

import orjson

from data_prep.command_line import UserError

RETRY_SECONDS = 1  # what a client is asked to wait where the server is busy


class ApiError(Exception):
    """A request that is answered with an error; its text says what was expected and found."""

    def __init__(self, status: int, message: str) -> None:
        """Takes the HTTP status and the text."""
        super().__init__(message)
        self.status = status


class BusyError(ApiError):
    """Too much is under way; the same request may succeed in a moment."""

    def __init__(self, what: str) -> None:
        """Takes what there is too much of."""
        super().__init__(503, f"busy: {what}; try again in {RETRY_SECONDS} s")


class StoppingError(ApiError):
    """The server stops and has no time for the request any more."""

    def __init__(self) -> None:
        """Says so."""
        super().__init__(503, "the server is stopping")


def translate(error: Exception, what: str) -> ApiError:
    """Returns what a client is told of an error; one that nobody expected goes to the log.

    Args:
      error: any error.
      what: the request that met it.
    """
    if isinstance(error, ApiError):
        return error
    logger = logging.getLogger("uvicorn.error")
    if isinstance(error, UserError):  # Its text names files of this machine.
        logger.error("%s: %s", what, error)
        return ApiError(500, "the model cannot be used; the server's log says why")
    logger.error("%s", what, exc_info=error)
    return ApiError(500, "an error of the server; its log says more")


def encode_error(error: ApiError) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Returns the body and the headers of an error's response."""
    body = orjson.dumps({"error": str(error)})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if isinstance(error, BusyError):
        headers.append((b"retry-after", b"%d" % RETRY_SECONDS))
    return body, headers
