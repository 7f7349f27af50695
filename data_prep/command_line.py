"""How every script meets its user: flags in, one clear line out when something is wrong."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from absl import app, flags, logging

EXIT_USER_ERROR = 1  # absl's own code for a flag that it cannot read
EXIT_STOPPED = 42  # stopped by a signal after saving, as TensorFlow's preemption handler exits
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM


class UserError(Exception):
    """Something that the user can mend; its text is one line that says what and how."""


class Terminated(BaseException):
    """SIGTERM, raised where it arrives so that `finally` blocks clean up behind it."""


def run(
    main: Callable[[list[str]], int | None],
    define_flags: Callable[[], None],
    *,
    positional: tuple[int, int] = (0, 0),
) -> NoReturn:
    """Runs a script: parses its flags, calls `main`, and turns what happens into an exit code.

    Args:
      main: receives the positional arguments and returns the exit code, None meaning 0.
      define_flags: defines the script's flags. Only a script that runs calls it, so that two
        scripts which define the same flag can be imported by one process.
      positional: the smallest and the largest number of positional arguments that are accepted.

    Raises:
      SystemExit: always; the code is what `main` returned, 1 for a `UserError`, or 128 + the
        signal's number for Ctrl-C and SIGTERM.
    """
    if sys.stderr is None:
        _open_stderr()
    if sys.stdout is None:  # What it prints would be lost, or land in the next file that it opens.
        sys.exit(_fail("stdout is closed; redirect it, to /dev/null where nobody is to read it"))
    define_flags()
    # Ctrl-C must reach us even where a shell started the script in the background.
    for number in _STOPS:
        signal.signal(number, _stop)

    def run_main(argv: list[str]) -> int | None:
        arguments = argv[1:]
        if not positional[0] <= len(arguments) <= positional[1]:
            wrong = " ".join(arguments) or "none"
            wanted = "no" if positional == (0, 0) else "-".join(map(str, sorted(set(positional))))
            return _fail(
                f"expected {wanted} positional argument(s), found: {wrong}; "
                "options start with two dashes, and --help lists them"
            )
        return _run_guarded(main, arguments)

    try:
        app.run(run_main, flags_parser=_parse_flags)
    except BrokenPipeError:  # of --help, which is printed before `main` is reached
        sys.exit(_end_without_reader())
    raise AssertionError("app.run always exits")


def _open_stderr() -> None:
    """Lets a closed stderr lead nowhere: Python would print to stdout what is meant for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != 2:
        os.dup2(nowhere, 2)
        os.close(nowhere)
    sys.stderr = os.fdopen(2, "w")


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags; a mistake in them is one line, as every other mistake is."""
    try:
        arguments = flags.FLAGS(argv)
    except flags.Error as error:
        text = " ".join(str(error).removeprefix("flag ").split())
        sys.exit(_fail(f"{text}; --help lists the flags"))
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if flag.present and flag.value == "" != flag.default:  # As of a shell's unset variable.
            sys.exit(_fail(f"--{name}: expected a value, found an empty one; leave the flag out"))
    return arguments


def _run_guarded(main: Callable[[list[str]], int | None], arguments: list[str]) -> int | None:
    """Calls `main`; what a user can cause becomes one line on stderr and an exit code."""
    try:
        code = main(arguments)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt, Terminated) as error:
        if _ARRIVED:  # Amid compiled code its exception may have become another one.
            stop = "Ctrl-C" if _ARRIVED[0] == signal.SIGINT else "SIGTERM"
            _fail(f"stopped by {stop}")
            return 128 + _ARRIVED[0]
        if isinstance(error, BrokenPipeError):
            return _end_without_reader()
        if isinstance(error, UserError):
            return _fail(str(error))
        if isinstance(error, OSError) and error.errno in _USERS_OS_ERRORS:
            where = f"{error.filename}: " if error.filename else ""
            reason = os.strerror(error.errno).lower()
            return _fail(f"{where}{reason}; {_USERS_OS_ERRORS[error.errno]}")
        raise


def _end_without_reader() -> int:
    """Ends well though the reader of our stdout (`| head`) has gone."""
    # Python would complain again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


_USERS_OS_ERRORS = {
    errno.ENOSPC: "free some space or choose a folder on another disk",
    errno.EDQUOT: "free some space or choose a folder on another disk",
    errno.EACCES: "choose a place that you may read and write, or change its permissions",
    errno.EPERM: "choose a place that you may read and write, or change its permissions",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EFBIG: "choose a place where files may grow larger, or raise the limit (ulimit -f)",
    errno.ENOENT: "it may have been moved or removed; check the path, or make its folder",
    errno.ENOTDIR: "a folder is expected where a file is; choose another path",
    errno.EEXIST: "a folder is expected where a file is; choose another path",
    errno.EISDIR: "a file is expected where a folder is; choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def _fail(message: str) -> int:
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


_STOPS: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}
_ARRIVED: list[int] = []


def _stop(signum: int, frame: FrameType | None) -> None:
    _ARRIVED.append(signum)
    raise _STOPS[signum]


def raise_if_stopped() -> None:
    """Raises Ctrl-C or SIGTERM again if it has arrived and a library swallowed its exception.

    TensorFlow does, now and then, while it builds a graph. To be called before something is done
    that cannot be undone.

    Raises:
      KeyboardInterrupt: Ctrl-C has arrived.
      Terminated: SIGTERM has arrived.
    """
    if _ARRIVED:
        raise _STOPS[_ARRIVED[0]]


def import_tensorflow() -> None:
    """Imports TensorFlow and TF-Slim without their start-up noise, and only them.

    TensorFlow's C++ part prints a few lines before any log level applies to it, so stderr is kept
    aside during the import, and shown only if the import fails. Keras and others that TensorFlow
    would import along stay out, which halves the time; they can be imported afterwards as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without AVX-512 VNNI TensorFlow leaves oneDNN's kernels off, though with AVX2 they are faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept, signals_deferred(), _imported_alone():
        os.dup2(kept.fileno(), 2)
        try:
            warnings.filterwarnings("ignore", module="tensorflow|tf_slim|keras")
            import tensorflow as tf
            import tf_slim  # noqa: F401

            tf.get_logger().setLevel("ERROR")
            logging.set_verbosity(logging.ERROR)
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


# The old Keras within TensorFlow, which nothing uses, imports these for conveniences of its own.
_TRIED_BY_TENSORFLOW = ("h5py", "scipy")


@contextmanager
def _imported_alone() -> Iterator[None]:
    """Lets TensorFlow's import neither import Keras nor what it only tries, nor collect garbage."""
    variable = "TF_USE_LEGACY_KERAS"  # The new Keras, with matplotlib, is then imported on demand.
    asked = os.environ.get(variable)
    os.environ[variable] = "1"
    absent = [name for name in _TRIED_BY_TENSORFLOW if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # "There is no such package."
    collects = gc.isenabled()
    gc.disable()  # Hundreds of thousands of objects come to stay; each round would visit them all.
    try:
        yield
    finally:
        gc.freeze()  # The next rounds need not visit them either: they count as old at once.
        gc.unfreeze()
        if collects:
            gc.enable()
        for name in absent:
            del sys.modules[name]
        if asked is None:
            del os.environ[variable]
        else:
            os.environ[variable] = asked


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait until the block has ended, which should be a matter of seconds.

    An exception that a signal raises while a compiled library sets itself up or calls back crashes
    the process (ONNX's converter does), or gets lost.

    Yields:
      Nothing.
    """
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Sends to nowhere what LiteRT's C++ code says to stderr when it starts; no setting does.

    Yields:
      Nothing.
    """
    with _STDERR_LOCK:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


# Whoever changes where stderr leads must have changed it back before another one does.
_STDERR_LOCK = threading.Lock()


def log(message: str) -> None:
    """Prints one line of progress to stderr, where logs belong."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(description: str, *, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Shows a bar on stderr while the block runs, on a terminal; elsewhere nothing.

    Args:
      description: what is being done, shown before the bar.
      total: how many items there will be.
      unit: what one item is called.

    Yields:
      A function to call with the number of items done since its last call.
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from tqdm import tqdm  # Imported here: without a terminal nothing needs it.

    with tqdm(desc=description, total=total, unit=unit, leave=False) as bar:
        yield bar.update


def parse_shape(text: str, flag: str) -> tuple[int, int, int]:
    """Reads `28,28,1` as (height, width, channels).

    Args:
      text: the flag's value.
      flag: the flag's name, for the error.

    Returns:
      Height and width in pixels, 1 to 1,024, and channels, 1 or 3.

    Raises:
      UserError: the text is anything else.
    """
    parts = text.replace("x", ",").split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() for part in parts):
        height, width, channels = map(int, parts)
        if 1 <= height <= 1024 and 1 <= width <= 1024 and channels in (1, 3):
            return height, width, channels
    raise UserError(
        f"--{flag}: expected HEIGHT,WIDTH,CHANNELS with sides of 1 to 1024 pixels and 1 or 3 "
        f"channels, such as 28,28,1; found {text!r}"
    )
