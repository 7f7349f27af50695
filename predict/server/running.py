"""Runs the server until a signal stops it."""

from __future__ import annotations

import functools
import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn

from predict.server.app import make_app
from predict.server.protocol import GuardedProtocol
from predict.server.service import ServerConfig, Service

# How long the thread with the network waits for the one that speaks HTTP to make room, while
# both have work: with Python's own 5 ms, a quarter fewer requests are answered.
_SWITCH_SECONDS = 0.0005


class _Uvicorn(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def serve(config: ServerConfig, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM, then finishes the requests that are under way.

    Args:
      config: what is served.
      listener: a listening socket.
      announce: called once requests are taken.

    Raises:
      UserError: the first run's network is missing or damaged.
    """
    limits = config.limits
    sys.setswitchinterval(_SWITCH_SECONDS)
    # What is no HTTP is answered as such; a line for each would let anyone fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    service = Service(config)
    try:
        uvicorn_config = uvicorn.Config(
            make_app(service),
            loop="uvloop",
            # uvicorn calls it as it would call the class.
            http=functools.partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle_seconds),
            timeout_graceful_shutdown=int(limits.stop_seconds),
        )
        # uvicorn finishes its requests when it gets these, then hands them on: that ends well.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda signum, frame: None)
        _Uvicorn(uvicorn_config, announce).run([listener])
    finally:
        service.close()
