"""Trains the members of an ensemble, each by a train_lenet.py in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from data_prep.command_line import (
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    EXIT_TERMINATED,
    UserError,
    log,
)
from data_prep.schema import Manifest
from model_definition import run_dir
from model_definition.architecture import load_architecture
from model_definition.checkpoints import is_exported
from train.config import TrainConfig, changed_flags
from train.precision import resolve_precision

_SCRIPT = Path(__file__).resolve().parent / "train_lenet.py"
_STARTER = _SCRIPT.with_name("member_process.py")
_POLL_SECONDS = 0.1
# By a signal, and may go on; the last is how a process ends that has hardly begun.
_STOPPED = (EXIT_STOPPED, EXIT_INTERRUPTED, EXIT_TERMINATED, -signal.SIGTERM)
_THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)


def is_trained(config: TrainConfig, manifest: Manifest, logdir: Path) -> bool:
    """Tells whether a run folder holds a run that was trained to its end, with the same flags.

    Args:
      config: what the run should be.
      manifest: of its dataset.
      logdir: the run folder.

    Raises:
      UserError: the folder holds a damaged run, or the configuration names no model.
    """
    if not run_dir.exists(logdir):
        return False
    run = run_dir.load_run(logdir)
    architecture = load_architecture(
        config.model,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
        values=dict(config.model_set),
    )
    config = replace(config, precision=resolve_precision(config.precision, architecture))
    is_same = (
        run.dataset_digest == manifest.digest
        and run.architecture_text == architecture.text
        and not any(changed_flags(run.config, config.to_json()).values())
    )
    return is_same and is_exported(run)


def train_members(commands: Mapping[str, Sequence[str]], *, parallel: int) -> int:
    """Trains members, so many at a time, until all are trained or a signal stops them.

    SIGTERM or Ctrl-C is passed on to those that run, which save and stop; a second one makes them
    quit at once. Where one fails, the others are stopped in the same way; where this process is
    killed, all are.

    Args:
      commands: the arguments of train_lenet.py for each member, by its name, in order.
      parallel: how many train at a time; they share the processor's threads.

    Returns:
      The exit code: 0 where all are trained, 42 where a signal stopped them after saving, 130 where
      a second one came.

    Raises:
      UserError: a member's training failed; it has said why on stderr.
    """
    members = _Members(_limit_threads(parallel))
    waiting = list(commands.items())
    with members.listening():
        while members.running or (waiting and not members.num_signals):
            while waiting and len(members.running) < parallel and not members.num_signals:
                members.start(*waiting.pop(0))
            time.sleep(_POLL_SECONDS)
            members.collect()
    if members.failed:
        raise UserError(
            f"{members.failed}; the line above says why: mend it, and run the same command again "
            "to go on"
        )
    if members.num_signals:
        return EXIT_INTERRUPTED if members.num_signals > 1 else EXIT_STOPPED
    return 0


class _Members:
    """The processes that train now.

    Attributes:
      running: by the member's name.
      num_signals: how often they were asked to stop.
      failed: which one failed and how; empty where none did.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.num_signals = 0
        self.failed = ""
        self._environment = environment
        self._relays: dict[str, threading.Thread] = {}

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Starts a member, whose log lines appear under its name."""
        log(f"{name}: train_lenet.py {shlex.join(arguments)}")
        process = subprocess.Popen(
            [sys.executable, str(_STARTER), str(_SCRIPT), *arguments],
            stdin=subprocess.PIPE,  # Its end tells that this process is gone.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self._environment,
            # A terminal's Ctrl-C reaches this process alone, which passes it on once.
            start_new_session=True,
        )
        relay = threading.Thread(target=_relay, args=(name, process), daemon=True)
        relay.start()
        self.running[name], self._relays[name] = process, relay
        if self.num_signals:  # One came just now, before it could be passed on.
            process.terminate()

    def collect(self) -> None:
        """Takes note of those that have ended."""
        for name, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[name]
            self._relays.pop(name).join()
            if code not in (0, *_STOPPED):
                ended = (
                    f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                )
                self.failed = self.failed or f"{name} was not trained ({ended})"
            if code != 0 and not self.num_signals:  # Or somebody stopped this one alone.
                if self.running:
                    log(f"{name} has ended early, so the others save and stop")
                self.stop()

    def stop(self) -> None:
        """Asks all to save and stop, and when it is called again to quit."""
        self.num_signals += 1
        for process in self.running.values():
            process.terminate()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals while the block runs, and leaves no process behind it."""

        def receive(number: int, frame: FrameType | None) -> None:
            self.stop()
            if self.num_signals == 1:
                log(f"{signal.Signals(number).name}: the members save; once more quits at once")

        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, receive) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
            for process in self.running.values():
                process.kill()


def _relay(name: str, process: subprocess.Popen[str]) -> None:
    """Passes a member's log on, each line under its name."""
    assert process.stdin is not None and process.stderr is not None, "they are pipes"
    with process.stdin, process.stderr:  # Open until the member ends.
        for line in process.stderr:
            if line.strip():
                log(f"{name}: {line.rstrip()}")


def _limit_threads(parallel: int) -> dict[str, str]:
    """Returns the environment of a member: several at a time share the processor's threads."""
    environment = dict(os.environ)
    if parallel > 1:
        # macOS does not tell on which processors a process may run.
        has_affinity = hasattr(os, "sched_getaffinity")
        num_cpus = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        share = max(1, num_cpus // parallel)
        for name in _THREAD_VARIABLES:
            environment.setdefault(name, str(share))
    return environment
