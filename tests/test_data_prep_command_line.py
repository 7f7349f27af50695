"""How a script ends: its exit code, its one line, and never a traceback for a user's mistake."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_prep import command_line
from data_prep.command_line import UserError, parse_shape

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = """
import os, signal, sys, time
from absl import flags
from data_prep import command_line
from data_prep.command_line import UserError

def define_flags():
    flags.DEFINE_integer("number", 1, "A number.", 0)
    flags.DEFINE_string("folder", "runs", "A folder.")
    flags.DEFINE_string("teacher", "", "None by default.")

def main(argv):
    print("started", flush=True)
    {body}

command_line.run(main, define_flags, positional={positional})
"""


def start(
    folder: Path, body: str, *args: str, positional: tuple[int, int] = (0, 0), **popen: Any
) -> subprocess.Popen[str]:
    """Starts a script whose `main` is `body`."""
    script = folder / "script.py"
    script.write_text(SCRIPT.format(body=body, positional=positional))
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        **popen,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Returns the exit code, what was printed after `started`, and stderr."""
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout.removeprefix("started\n"), stderr


@pytest.mark.parametrize(
    ("body", "code", "stdout", "stderr"),
    [
        ("print('done')", 0, "done\n", ""),
        ("return 42", 42, "", ""),
        ("raise UserError('a.csv: expected x, found y; do z')", 1, "", "a.csv: expected x"),
        ("command_line.log('working'); print(1)", 0, "1\n", "working\n"),
        ("open('/')", 1, "", "script.py: /: is a directory; a file is expected where a folder is"),
        ("open('/etc/passwd/x')", 1, "", "/etc/passwd/x: not a directory; a folder is expected"),
        ("os.mkdir('/etc/passwd')", 1, "", "/etc/passwd: file exists; a folder is expected where"),
        ("open('x' * 300)", 1, "", "file name too long; choose a shorter path"),
        ("raise OSError(28, 'x')", 1, "", "script.py: no space left on device; free some space"),
    ],
)
def test_what_main_does_becomes_an_exit_code_and_a_line(
    tmp_path: Path, body: str, code: int, stdout: str, stderr: str
) -> None:
    found = finish(start(tmp_path, body))
    assert found[:2] == (code, stdout)
    assert stderr in found[2]
    assert len(found[2].splitlines()) == bool(stderr)


@pytest.mark.parametrize("number", command_line._USERS_OS_ERRORS)
def test_errors_of_the_disk_are_one_line(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(argv: list[str]) -> None:
        raise OSError(number, os.strerror(number), "data/mnist")

    monkeypatch.setattr(sys, "argv", ["convert.py"])
    assert command_line._run_guarded(main, []) == 1
    expected = f"convert.py: data/mnist: {os.strerror(number).lower()}; "
    assert capsys.readouterr().err.startswith(expected)


def test_other_errors_of_the_system_are_not_hidden() -> None:
    def main(argv: list[str]) -> None:
        raise OSError(errno.EBADF, "a bug")

    with pytest.raises(OSError, match="a bug"):
        command_line._run_guarded(main, [])


def test_a_bug_shows_its_traceback(tmp_path: Path) -> None:
    code, _, stderr = finish(start(tmp_path, "1 / 0"))
    assert code == 1
    assert "Traceback" in stderr
    assert "ZeroDivisionError" in stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--numbr=3"], "Unknown command line flag 'numbr'. Did you mean: number ?"),
        (["--number=x"], "--number=x: invalid literal"),
        (["--number=-1"], "--number=-1: -1 is not a non-negative integer"),
        (["--folder="], "script.py: --folder: expected a value, found an empty one; leave the"),
    ],
)
def test_a_wrong_flag(tmp_path: Path, args: list[str], text: str) -> None:
    code, stdout, stderr = finish(start(tmp_path, "print(1)", *args))
    assert (code, stdout) == (1, "")
    assert text in stderr
    assert "Traceback" not in stderr


def test_an_empty_value_that_is_the_default(tmp_path: Path) -> None:
    assert finish(start(tmp_path, "print(1)", "--teacher=")) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("positional", "args", "text"),
    [
        ((0, 0), ["a", "b"], "expected no positional argument(s), found: a b; options start"),
        ((1, 1), [], "expected 1 positional argument(s), found: none; options start with two"),
        ((1, 2), ["a", "b", "c"], "expected 1-2 positional argument(s), found: a b c; "),
        ((1, 2), ["a", "b"], ""),
    ],
)
def test_positional_arguments(
    tmp_path: Path, positional: tuple[int, int], args: list[str], text: str
) -> None:
    code, stdout, stderr = finish(start(tmp_path, "print(argv)", *args, positional=positional))
    assert (code, stdout) == ((1, "") if text else (0, "['a', 'b']\n"))
    assert text in stderr
    assert len(stderr.splitlines()) == bool(text)


WAIT = """
    try:
        print("waiting", flush=True)
        time.sleep(30)
    finally:
        print("cleaned up")
"""


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (signal.SIGINT, 130, "script.py: stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, "script.py: stopped by SIGTERM\n"),
    ],
)
def test_signals_end_a_script_in_order(tmp_path: Path, number: int, code: int, text: str) -> None:
    # A shell that starts a command in the background lets it ignore Ctrl-C.
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    process = start(tmp_path, WAIT, preexec_fn=ignore)
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == ["started\n", "waiting\n"]
    process.send_signal(number)
    assert finish(process) == (code, "cleaned up\n", text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_deferred_signals_arrive_after_the_block(tmp_path: Path, number: int, code: int) -> None:
    body = f"""
    with command_line.signals_deferred():
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
        print("imported", flush=True)
    print("not reached")
"""
    returncode, stdout, stderr = finish(start(tmp_path, body))
    assert (returncode, stdout) == (code, "imported\n")
    assert stderr.startswith("script.py: stopped by ") and len(stderr.splitlines()) == 1


SWALLOWED = """
    try:
        os.kill(os.getpid(), {number})
        time.sleep(10)
    except (KeyboardInterrupt, command_line.Terminated):
        pass
    print("goes on", flush=True)
    {after}
"""


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
@pytest.mark.parametrize(
    "after", ["command_line.raise_if_stopped()", "raise SystemError('amid compiled code')"]
)
def test_a_swallowed_signal_is_not_lost(
    tmp_path: Path, after: str, number: int, code: int, name: str
) -> None:
    body = SWALLOWED.format(number=int(number), after=after)
    text = f"script.py: stopped by {name}\n"
    assert finish(start(tmp_path, body)) == (code, "goes on\n", text)


def test_nothing_is_published_after_a_swallowed_signal(tmp_path: Path) -> None:
    swallowed = SWALLOWED.format(number=int(signal.SIGINT), after="publish(folder)")
    body = f"""
    from pathlib import Path
    from data_prep.staging import publish, staging_folder
    folder = Path({str(tmp_path)!r}) / "data"
    with staging_folder(folder):
        {swallowed.strip().replace(chr(10), chr(10) + "    ")}
"""
    text = "script.py: stopped by Ctrl-C\n"
    assert finish(start(tmp_path, body)) == (130, "goes on\n", text)
    assert not (tmp_path / "data").exists()


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    process = start(tmp_path, "[print('x' * 80) for _ in range(10_000)]")
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "started\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(120) == 0


def test_help_shows_the_flags(tmp_path: Path) -> None:
    process = start(tmp_path, "pass", "--help")
    stdout, _ = process.communicate(timeout=120)
    assert "--number: A number." in stdout
    assert "started" not in stdout


def test_off_a_terminal_progress_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with command_line.progress("converting", total=3, unit="image") as advance:
        advance(2)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_progress_is_a_bar(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with command_line.progress("converting", total=3, unit="image") as advance:
        advance(2)
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert "converting" in stderr


@pytest.mark.parametrize(
    ("text", "shape"),
    [("28,20,1", (28, 20, 1)), ("28x20x3", (28, 20, 3)), (" 1, 1024 ,3", (1, 1024, 3))],
)
def test_a_shape_is_read(text: str, shape: tuple[int, int, int]) -> None:
    assert parse_shape(text, "image_shape") == shape


@pytest.mark.parametrize(
    "text", ["28", "28,28", "28,28,2", "0,28,1", "28,1025,1", "28,-28,1", "a,b,c", "1,1,1,1", ","]
)
def test_a_wrong_shape_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_shape(text, "image_shape")
    assert str(caught.value) == (
        "--image_shape: expected HEIGHT,WIDTH,CHANNELS with sides of 1 to 1024 pixels and 1 or 3 "
        f"channels, such as 28,28,1; found {text!r}"
    )


def test_tensorflow_is_imported_without_noise(tmp_path: Path) -> None:
    body = "command_line.import_tensorflow(); import tensorflow as tf; print(tf.__name__)"
    assert finish(start(tmp_path, body)) == (0, "tensorflow\n", "")
