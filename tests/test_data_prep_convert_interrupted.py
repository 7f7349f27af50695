"""Conversions that are killed, stopped or left without room: nothing half is ever seen."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data_prep.conversion import convert
from data_prep.damage import find_damage
from data_prep.dataset_folder import ConversionOptions
from data_prep.schema import load_manifest
from tests.conftest import RunScript, StartScript

PROJECT = Path(__file__).resolve().parents[1]
CONVERT = "data_prep/convert.py"
SLOW = (
    "--dataset=synthetic",
    "--synthetic_train=4000",
    "--synthetic_test=20",
)  # long enough to step in


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_old(data_dir: Path) -> dict[str, bytes]:
    """Writes a small dataset, for others to replace; returns its files."""
    options = ConversionOptions(dataset="synthetic", synthetic_train=12, synthetic_test=3)
    convert(options, data_dir=data_dir)
    return contents(data_dir)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that the slow conversion writes."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    options = ConversionOptions(dataset="synthetic", synthetic_train=4000, synthetic_test=20)
    convert(options, data_dir=folder)
    return contents(folder)


# Converts again and again, each time in a child that is killed one step later: before it opens,
# makes, renames or removes its next file. After each kill it looks at what stands under the final
# name, and lets another child convert to the end.
KILLED_AT_EVERY_STEP = """
import os, shutil, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from data_prep import conversion, dataset_folder, idx

work, source, overwrite = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "overwrite"
out = work / "out"
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None

def run(seed, kill_at=None, overwrite=False):
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    steps = 0
    def count(event, arguments):
        nonlocal steps
        if event in EVENTS and (event != "open" or str(work) in str(arguments[0])):
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if kill_at is not None:
        sys.addaudithook(count)
    options = dataset_folder.ConversionOptions(dataset="idx", num_shards=2, seed=seed)
    conversion.convert(options, data_dir=out, from_dir=source, overwrite=overwrite)
    os._exit(0)

def reset():
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    if overwrite:
        assert run(0) == 0

work.mkdir()
assert run(1) == 0
new = contents(out)
reset()
old = contents(out)
step = seen = 0
while True:
    reset()
    status = run(1, kill_at=step, overwrite=overwrite)
    now = contents(out)
    assert now in (old, new) or now is None, (step, sorted(now))
    if overwrite and now is None:  # between the two renames: set aside, and still whole
        assert contents(work / ".out.replaced") == old, step
        seen += 1
    assert run(1, overwrite=overwrite) == 0, step
    assert contents(out) == new, step
    assert os.listdir(work) == ["out"], (step, os.listdir(work))
    if status == 0:
        break
    step += 1
print(step, seen)
"""


@pytest.mark.parametrize("overwrite", ["overwrite", "new"])
def test_a_kill_at_every_step_leaves_nothing_half(
    tmp_path: Path, write_idx: Callable[..., None], overwrite: str
) -> None:
    images = np.arange(13 * 6, dtype=np.uint8).reshape(13, 2, 3)
    write_idx(tmp_path / "source", "train", images, np.arange(13) % 3)
    arguments = map(str, (PROJECT, tmp_path / "work", tmp_path / "source", overwrite))
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    steps, between_renames = map(int, done.stdout.split())
    assert steps > 20
    assert between_renames == (overwrite == "overwrite")


@pytest.mark.parametrize("files", [0, 1, 3])
def test_a_killed_script_is_made_good_by_the_next_run(
    start_script: StartScript,
    run_script: RunScript,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    files: int,
) -> None:
    staging = tmp_path / ".out.converting"
    process = start_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out")
    wait_for(lambda: staging.exists() and len(list(staging.iterdir())) >= files)
    process.kill()
    process.wait()
    assert {path.name for path in tmp_path.iterdir()} == {".out.converting", ".out.lock"}
    done = run_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out")
    assert (done.returncode, done.stderr) == (
        0,
        f"removing what an interrupted run left: {staging}\n",
    )
    assert contents(tmp_path / "out") == undisturbed
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "convert.py: stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, "convert.py: stopped by SIGTERM\n"),
    ],
)
def test_a_stopped_script_leaves_the_old_dataset(
    start_script: StartScript, tmp_path: Path, number: int, code: int, line: str
) -> None:
    old = write_old(tmp_path / "out")
    process = start_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out", "--overwrite")
    wait_for((tmp_path / ".out.converting").exists)
    process.send_signal(number)
    assert process.communicate(timeout=120) == ("", line)
    assert process.returncode == code
    assert contents(tmp_path / "out") == old
    assert os.listdir(tmp_path) == ["out"]


def test_of_two_converters_one_finishes_and_the_other_says_so(
    start_script: StartScript,
    run_script: RunScript,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
) -> None:
    first = start_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out")
    wait_for((tmp_path / ".out.converting").exists)
    first.send_signal(signal.SIGSTOP)
    for extra in ((), ("--overwrite",)):
        second = run_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out", *extra)
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == (
            f"convert.py: {tmp_path}/out: another process is writing this folder now; "
            "wait until it has finished\n"
        )
    first.send_signal(signal.SIGCONT)
    _, stderr = first.communicate(timeout=120)
    assert (first.returncode, stderr) == (0, "")
    assert contents(tmp_path / "out") == undisturbed
    assert os.listdir(tmp_path) == ["out"]


def test_of_many_converters_each_finishes_or_says_so(
    start_script: StartScript, tmp_path: Path
) -> None:
    args = (CONVERT, "--dataset=synthetic", "--synthetic_train=300", "--synthetic_test=9")
    processes = [start_script(*args, f"--data_dir={tmp_path}/out") for _ in range(4)]
    codes = []
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        codes.append(process.returncode)
        refused = "another process is writing this folder now" in stderr
        assert (process.returncode, stderr.count("\n")) == ((1, 1) if refused else (0, 0)), stderr
    assert 0 in codes
    assert find_damage(tmp_path / "out", load_manifest(tmp_path / "out")) == []
    assert os.listdir(tmp_path) == ["out"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where it may be made: as root, on Linux."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_old_dataset(run_script: RunScript, small_disk: Path) -> None:
    data_dir = small_disk / "out"
    old = write_old(data_dir)
    done = run_script(CONVERT, *SLOW, f"--data_dir={data_dir}", "--overwrite")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"convert.py: {data_dir}: no space left on device; free some space or choose a folder on "
        "another disk\n"
    )
    assert contents(data_dir) == old
    assert os.listdir(small_disk) == ["out"]


def test_the_top_of_a_disk_is_refused(run_script: RunScript, small_disk: Path) -> None:
    done = run_script(CONVERT, *SLOW, f"--data_dir={small_disk}")
    assert done.returncode == 1
    assert f"{small_disk}: expected a folder that can be replaced as a whole" in done.stderr
    assert os.listdir(small_disk) == []


def test_a_limit_on_files_leaves_the_old_dataset(start_script: StartScript, tmp_path: Path) -> None:
    """What a full disk does, without a disk: no file may grow beyond 100 kB."""
    old = write_old(tmp_path / "out")
    process = start_script(
        CONVERT,
        *SLOW,
        f"--data_dir={tmp_path}/out",
        "--overwrite",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == (
        f"convert.py: {tmp_path}/out: file too large; choose a place where files may grow larger, "
        "or raise the limit (ulimit -f)\n"
    )
    assert contents(tmp_path / "out") == old
    assert os.listdir(tmp_path) == ["out"]


def test_a_dataset_set_aside_by_a_kill_comes_back(run_script: RunScript, tmp_path: Path) -> None:
    """Even if the next run is refused."""
    old = write_old(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    done = run_script(CONVERT, *SLOW, f"--data_dir={tmp_path}/out")
    assert done.returncode == 1
    restored, refused = done.stderr.splitlines()
    assert restored == f"{tmp_path}/out: restored; an interrupted run had set it aside"
    assert "holds a dataset made with synthetic_train=12, and synthetic_train=4000" in refused
    assert contents(tmp_path / "out") == old
    assert os.listdir(tmp_path) == ["out"]
