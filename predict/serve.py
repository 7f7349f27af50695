"""Serves a page to draw digits on, and an API that reads them: `serve.py --logdir=runs/lenet`.

The page reads what is drawn, dropped, pasted, photographed or given by URL. The API is TensorFlow
Serving's (POST /v1/models/NAME:predict, GET /v1/models/NAME, …/metadata, NAME being the run's or
ensemble's folder's, or those of a list of runs joined by +), with POST /v1/read for whole pictures,
POST /v1/feedback for corrections, /healthz, /metrics for Prometheus, and /docs. Only this machine
can reach it unless --host says otherwise; nothing asks for a password then, so do that in a network
that you trust.

Ctrl-C or SIGTERM stops it after the requests that are under way; the exit code is then 0.
"""

from __future__ import annotations

import errno
import signal
import socket
import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from model_definition.ensemble import MAX_SHIFTS


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string(
        "logdir",
        "runs/lenet",
        "Run folder; an ensemble's folder, or runs joined by commas, which are averaged as one "
        "model; or a folder of such folders, each of which becomes a model.",
    )
    flags.DEFINE_integer(
        "test_time_shifts",
        0,
        "Averages over every shift of a digit by up to so many pixels both ways.",
        0,
        MAX_SHIFTS,
    )
    flags.DEFINE_integer("port", 8501, "TCP port; 0 takes a free one.", 0, 65535)
    flags.DEFINE_string(
        "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines reach it."
    )
    flags.DEFINE_multi_string(
        "allow_host", [], "A name that clients call this server by, besides its addresses."
    )
    flags.DEFINE_string(
        "feedback_dir",
        None,
        "Folder for corrections, one in it for each model. [LOGDIR/feedback; for a list of runs "
        "beside the first]",
    )
    flags.DEFINE_integer("feedback_mb", 64, "The most MB of corrections that a run keeps.", 1)


def main(argv: list[str]) -> None:
    """Serves until it is told to stop."""
    values = flags.FLAGS
    listener = listen(values.host, values.port)

    from predict.server import running
    from predict.server.runs import find_runs
    from predict.server.service import ServerConfig

    runs = find_runs(values.logdir, values.test_time_shifts)
    # A list has no folder of its own: its corrections go beside its first run.
    logdir = Path(values.logdir)
    folder = logdir if logdir.is_dir() else Path(values.logdir.partition(",")[0]).parent
    config = ServerConfig(
        runs=runs,
        feedback_dir=Path(values.feedback_dir or folder / "feedback"),
        feedback_bytes=values.feedback_mb * 1_000_000,
        host_names=tuple(values.allow_host),
    )

    def announce() -> None:
        log(f"serving {', '.join(config.runs)}; Ctrl-C stops")
        print(address_of(listener), flush=True)

    running.serve(config, listener, announce)


def listen(host: str, port: int) -> socket.socket:
    """Opens the port, before anything that takes time.

    Args:
      host: the name or address of an interface of this machine.
      port: TCP port, or 0.

    Returns:
      The listening socket.

    Raises:
      UserError: the port is in use or reserved, or the address is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host={host}: not a known name or address; try 127.0.0.1") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is in use; stop what uses it, or choose another --port"
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(
                f"port {port} is reserved for the system; choose a --port above 1023"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"--host={host}: no address of this machine; try 127.0.0.1") from error
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Returns the URL under which the page is found."""
    host, port = listener.getsockname()[:2]
    if listener.family == socket.AF_INET6:
        host = f"[{host}]"
    return f"http://{host}:{port}/"


if __name__ == "__main__":
    command_line.run(main, define_flags)
