"""Calls a reader in a process of its own, for the HDF5 library crashes or hangs on some files."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from data_prep.command_line import UserError

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PATIENCE = 60.0  # seconds; the largest model that is read takes a few


def read_apart(path: Path, read: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Calls a function in a process of its own.

    Args:
      path: the file that it reads, for errors.
      read: a function of a module; what it takes and gives is pickled on the way.
      *arguments: of the function.
      **options: of the function.

    Returns:
      What the function returns.

    Raises:
      UserError: the function's own; or the process crashed, or has not ended after a minute.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer, args=(sender, path, read, arguments, options), daemon=True
    )
    process.start()
    sender.close()  # The other process has the only one then, so that its end is noticed.
    try:
        if not receiver.poll(_PATIENCE):
            raise _failure(path, "reading it does not end")
        error, answer = receiver.recv()
    except EOFError:
        raise _failure(path, "reading it crashes the library that reads it") from None
    finally:
        process.kill()
        process.join()
        process.close()
        receiver.close()
    if error is not None:
        raise UserError(error)
    return answer


def _failure(path: Path, what: str) -> UserError:
    return UserError(f"{path}: damaged, for {what}; save the model again")


def _answer(
    sender: Connection,
    path: Path,
    read: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's to answer.
    try:
        sender.send((None, read(*arguments, **options)))
    except UserError as error:
        sender.send((str(error), None))
    except RecursionError:  # of the answer, on its way through pickle
        sender.send((str(_failure(path, "it is nested too deeply")), None))
