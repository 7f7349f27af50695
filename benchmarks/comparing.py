"""What benchmarks share: timed processes, figures of repeated runs, their table and their file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from model_definition.run_dir import write_atomically

ROOT = Path(__file__).resolve().parents[1]
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def format_line(name: str, figures: Sequence[float], unit: str, ratio: float | None = None) -> str:
    """Returns a line with the median, the smallest and the largest figure, and perhaps a ratio.

    Args:
      name: what was measured.
      figures: at least one.
      unit: theirs.
      ratio: how many times better we are.
    """
    digits = 2 if max(figures) < 100 else 0
    low, middle, high = (
        f"{value:,.{digits}f}" for value in (min(figures), statistics.median(figures), max(figures))
    )
    line = f"{name:<38} {middle:>11} {unit:<8} ({low} to {high})"
    return line if ratio is None else f"{line:<84} ours: {ratio:.2f} x"


def run_apart(command: Sequence[str]) -> str:
    """Runs Python in a process of its own; returns what it printed.

    Raises:
      UserError: it failed; ends with the last line that it wrote.
    """
    done = subprocess.run(
        [sys.executable, *command], env=_environment(), capture_output=True, text=True, check=False
    )
    _require_success(command, done.returncode, done.stderr)
    return done.stdout


def measure_process(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Runs Python in a process of its own; returns its seconds and its peak memory in MB.

    Args:
      command: what to give Python.
      folder: where to run it.

    Raises:
      UserError: it failed; ends with the last line that it wrote.
    """
    process = time_process(command, folder, _environment())
    _require_success(command, process.status, process.errors)
    return process.seconds, process.peak_megabytes


@dataclass(frozen=True)
class TimedProcess:
    """A process that has ended, as the operating system counts it.

    Attributes:
      status: its exit code.
      errors: what it wrote to stderr.
      seconds: from its start to its end.
      cpu_seconds: of processor time.
      peak_megabytes: its peak memory.
    """

    status: int
    errors: str
    seconds: float
    cpu_seconds: float
    peak_megabytes: float


def time_process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> TimedProcess:
    """Runs Python in a process of its own and waits for its end; what it prints is dropped.

    Args:
      command: what to give Python.
      folder: where to run it.
      environment: its own.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        errors.seek(0)
        return TimedProcess(
            status=process.returncode,
            errors=errors.read().decode(),
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            # Linux counts in KiB, macOS in bytes.
            peak_megabytes=usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024),
        )


def read_scalar(folder: Path, name: str) -> float:
    """Returns the median of a scalar that a training wrote for TensorBoard.

    Its first value is left out, since the first steps take longer.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return statistics.median(event.value for event in events.Scalars(name)[1:])


def _environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def _require_success(command: Sequence[str], status: int, errors: str) -> None:
    if status:
        reason = errors.strip().splitlines() or [f"exit code {status}"]
        raise UserError(f"{' '.join(command)} failed: {reason[-1]}")


def load_figures(path: Path) -> dict[str, Any]:
    """Returns the figures of a results' file, if this commit gave them on this machine; or none."""
    if not path.is_file():
        return {}
    facts = json.loads(path.read_text(encoding="utf-8"))
    is_same = (facts["commit"], facts["machine"]) == (current_commit(), describe_machine())
    return facts["figures"] if is_same else {}


def write_results(path: Path, figures: Mapping[str, Any], packages: Sequence[str]) -> None:
    """Writes figures with what they depend on: the commit, the versions and the machine.

    Args:
      path: a JSON file; its folder is made.
      figures: what was measured.
      packages: whose versions to name, where they are installed.
    """
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts = {
        "figures": figures,
        "versions": versions,
        "machine": describe_machine(),
        "commit": current_commit(),
    }
    write_json(path, facts)


def write_json(path: Path, facts: Any) -> None:
    """Writes a results' file, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(facts, indent=1, sort_keys=True) + "\n")


def current_commit() -> str:
    """Returns the commit that is checked out; nothing where there is no git."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def describe_machine() -> str:
    """Returns the number of processors, their name and those of their instructions that matter.

    Where Linux does not tell, the architecture stands for the name.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = facts.get("flags", "").split()
    found = "".join(f", {name}" for name in _INSTRUCTIONS if name in flags)
    return f"{os.cpu_count()} x {facts.get('model name', platform.machine())}{found}"
