"""The processes of an ensemble, with a script in the place of train_lenet.py that only waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from data_prep.command_line import UserError
from tests.train_fixtures import ROOT
from train import members
from train.members import train_members

# Writes when it began and ended; each argument is what to do: a number of seconds to wait, or an
# exit code after a colon. SIGTERM ends the wait: it saves for a moment, and the code is 42.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path

folder, name, seconds, code = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1) if not asked else os._exit(130))
signal.signal(signal.SIGINT, lambda *_: os._exit(99))  # A terminal's must not come here.
threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "all")
(folder / f"{name}.began").write_text(f"{time.monotonic()} {threads}")
print(f"{name} has begun", file=sys.stderr, flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end and not asked:
    time.sleep(0.01)
if asked:
    print(f"{name} saves", file=sys.stderr, flush=True)
    time.sleep(0.3)
    (folder / f"{name}.saved").touch()
    sys.exit(42)
(folder / f"{name}.ended").write_text(str(time.monotonic()))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains members of (seconds, exit code), by name; each is started as it would be."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    monkeypatch.setattr(members, "_SCRIPT", script)
    for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def run(parallel: int = 1, **wanted: tuple[float, int]) -> int:
        commands = {
            name: [str(tmp_path), name, str(seconds), str(code)]
            for name, (seconds, code) in wanted.items()
        }
        return train_members(commands, parallel=parallel)

    return run


def signal_when(paths: list[Path], *numbers: int) -> threading.Thread:
    """Sends this process signals once all files are there."""

    def wait() -> None:
        while not all(path.exists() for path in paths):
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def times(folder: Path, name: str) -> tuple[float, float]:
    began, ended = (folder / f"{name}.{what}" for what in ("began", "ended"))
    return float(began.read_text().split()[0]), float(ended.read_text())


def names_in(folder: Path, what: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{what}")}


def test_one_after_the_other_with_all_threads(train, tmp_path, capfd):
    assert train(a=(0.1, 0), b=(0.1, 0)) == 0
    assert times(tmp_path, "a")[1] < times(tmp_path, "b")[0]
    assert (tmp_path / "a.began").read_text().endswith(" all")
    output = capfd.readouterr()
    assert output.out == ""
    lines = output.err.splitlines()
    assert lines[0].startswith("a: train_lenet.py ") and lines[1] == "a: a has begun"
    assert lines[3] == "b: b has begun"


def test_log_has_the_command_as_a_shell_takes_it(train, tmp_path, capfd):
    assert train(**{"a b": (0.0, 0)}) == 0
    assert f"a b: train_lenet.py {tmp_path} 'a b' 0.0 0" in capfd.readouterr().err


def test_several_at_a_time_share_the_threads(train, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert train(parallel=2, a=(0.8, 0), b=(0.8, 0), c=(0.0, 0)) == 0
    (a, a_end), (b, b_end), (c, _) = (times(tmp_path, name) for name in "abc")
    assert max(a, b) < min(a_end, b_end) < c
    assert (tmp_path / "a.began").read_text().endswith(" 3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_after_saving(train, tmp_path, capfd, number):
    thread = signal_when([tmp_path / "a.began", tmp_path / "b.began"], number)
    code = train(parallel=2, a=(60, 0), b=(60, 0), c=(60, 0))
    thread.join()
    assert code == 42
    assert names_in(tmp_path, "saved") == {"a", "b"}
    assert names_in(tmp_path, "began") == {"a", "b"}
    name = signal.Signals(number).name
    assert f"{name}: the members save; once more quits at once" in capfd.readouterr().err


def test_a_second_signal_quits_at_once(train, tmp_path):
    thread = signal_when([tmp_path / "a.began"], signal.SIGTERM, signal.SIGTERM)
    assert train(a=(60, 0)) == 130
    thread.join()
    assert names_in(tmp_path, "saved") == set()


@pytest.mark.parametrize(
    ("code", "how"), [(3, "exit code 3"), (-signal.SIGKILL, "killed by SIGKILL")]
)
def test_one_that_fails_stops_the_others(train, tmp_path, code, how):
    message = rf"^b was not trained \({how}\); the line above says why: mend it, and run the same"
    with pytest.raises(UserError, match=message):
        train(parallel=2, a=(60, 0), b=(0.5, code), c=(60, 0))
    assert names_in(tmp_path, "saved") == {"a"}
    assert "c" not in names_in(tmp_path, "began")


def test_one_that_somebody_stops_stops_all(train, tmp_path):
    assert train(parallel=2, a=(60, 0), b=(0.5, 42), c=(60, 0)) == 42
    assert names_in(tmp_path, "saved") == {"a"}


# Trains a member, with the script above in the place of train_lenet.py.
DRIVER = """
import sys
from pathlib import Path
from train import members

folder = sys.argv[1]
members._SCRIPT = Path(folder, "script.py")
members.train_members({"a": [folder, "a", "60", "0"]}, parallel=1)
"""


def test_members_save_and_stop_when_their_parent_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    for what in ("began", "saved"):
        while not (tmp_path / f"a.{what}").exists():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)
        parent.kill()
        parent.wait()
