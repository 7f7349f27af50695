"""How long a run has trained, over all the processes that it took."""

from __future__ import annotations

import json
import time
from pathlib import Path

import tensorflow.compat.v1 as tf1

from data_prep.command_line import UserError
from model_definition.run_dir import TRAINING_TIME_NAME, write_atomically


class TrainingClock(tf1.train.SessionRunHook):
    """Adds up the seconds that the steps took, and keeps the sum beside every checkpoint.

    Validations, checkpoints and start-up do not count. A run that goes on from a checkpoint goes on
    from its sum, so steps that a kill lost, and that are made again, count once.
    """

    def __init__(self, logdir: Path, *, start_step: int) -> None:
        """Reads what the run has trained so far.

        Args:
          logdir: the run folder.
          start_step: the step at which the run goes on.

        Raises:
          UserError: the file is damaged.
        """
        self._path = logdir / TRAINING_TIME_NAME
        self._seconds_at: dict[int, float] = {}
        if start_step and self._path.is_file():
            try:
                entries = json.loads(self._path.read_text(encoding="utf-8"))
                self._seconds_at = {int(e["step"]): float(e["seconds"]) for e in entries}
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(
                    f"{self._path}: not a list of training times ({error}); remove it, and the run "
                    "goes on without knowing how long it has trained"
                ) from error
        self._seconds_at = {s: t for s, t in self._seconds_at.items() if s <= start_step}
        # None where the run began before this was kept: then no sum would be true.
        self._seconds = self._seconds_at.get(start_step) if start_step else 0.0
        self._step_began = 0.0

    def before_run(self, run_context: tf1.train.SessionRunContext) -> None:
        """Notes when the step begins."""
        self._step_began = time.monotonic()

    def after_run(
        self, run_context: tf1.train.SessionRunContext, run_values: tf1.train.SessionRunValues
    ) -> None:
        """Adds the step; first among the hooks, so that what the others do is left out."""
        if self._seconds is not None:
            self._seconds += time.monotonic() - self._step_began

    def record(self, step: int) -> None:
        """Writes the sum down for a checkpoint that is about to be saved.

        Args:
          step: the checkpoint's.
        """
        if self._seconds is None:
            return
        self._seconds_at[step] = round(self._seconds, 3)
        entries = [{"step": step, "seconds": t} for step, t in self._seconds_at.items()]
        write_atomically(self._path, json.dumps(entries, indent=1) + "\n")
