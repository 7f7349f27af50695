"""What happens around the steps, each as a hook of the training session."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeAlias

import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import EXIT_INTERRUPTED, UserError, log
from model_definition.checkpoints import CHECKPOINT_NAME, list_checkpoints
from train.clock import TrainingClock
from train.summaries import StepSummaries, scalar_summary
from train.validation import History, Score, Validator

_Context: TypeAlias = tf1.train.SessionRunContext
_Values: TypeAlias = tf1.train.SessionRunValues
_Args: TypeAlias = tf1.train.SessionRunArgs


class TrainingFailed(UserError):
    """These flags cannot be trained with; others may be."""


class StopOnSignalHook(tf1.train.SessionRunHook):
    """Ends training after the step in which SIGTERM or Ctrl-C came; a second one quits at once."""

    def __init__(self, say: Callable[[str], None] = log) -> None:
        """Nothing is asked for yet.

        Args:
          say: tells the user that the signal was received.
        """
        self.stopped = False
        self._say = say

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals while the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, self._receive) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            # TensorFlow's threads are still at work, so only this leaves without waiting.
            os._exit(EXIT_INTERRUPTED)
        self.stopped = True
        self._say(
            f"\n{signal.Signals(number).name}: saving after this step; once more quits at once"
        )

    def after_run(self, run_context: _Context, run_values: _Values) -> None:
        """Asks the session to stop."""
        if self.stopped:
            run_context.request_stop()


class NanHook(tf1.train.SessionRunHook):
    """Stops when the loss is no longer a finite number."""

    def __init__(self, step: tf.Tensor, loss: tf.Tensor, rate: tf.Tensor, logdir: Path) -> None:
        """Keeps what to look at.

        Args:
          step: int64 [], after the step.
          loss: float32 [], of the step.
          rate: float32 [], its learning rate.
          logdir: the run folder, to name its last checkpoint.
        """
        self._fetches = [step, loss, rate]
        self._logdir = logdir

    def before_run(self, run_context: _Context) -> _Args:
        """Asks for step, loss and learning rate."""
        return _Args(self._fetches)

    def after_run(self, run_context: _Context, run_values: _Values) -> None:
        """Raises `TrainingFailed` where the loss is not finite."""
        step, loss, rate = run_values.results
        if not math.isfinite(loss):
            raise diverged(f"the loss is {loss}", int(step), float(rate), self._logdir)


def diverged(what: str, step: int, rate: float, logdir: Path) -> TrainingFailed:
    """Returns the error of a run whose numbers have left the finite ones.

    Args:
      what: which number did.
      step: in which step.
      rate: the learning rate in that step.
      logdir: the run folder.
    """
    checkpoints = list_checkpoints(logdir)
    last = f"the last good checkpoint is {checkpoints[0]}" if checkpoints else "none was saved yet"
    return TrainingFailed(
        f"step {step}: {what} at learning rate {rate:.3g}; {last}; train again into another "
        "--logdir with a lower --learning_rate, or with --clip_norm=1"
    )


class CheckpointHook(tf1.train.SessionRunHook):
    """Saves at each validation and at the end, validates what it saved, and keeps the best."""

    def __init__(
        self,
        *,
        step: tf.Tensor,
        rate: tf.Tensor,
        saver: tf1.train.Saver,
        logdir: Path,
        clock: TrainingClock,
        every_steps: int,
        total_steps: int,
        patience: int,
        history: History,
        validator: Validator | None,
        on_score: Callable[[Score], None],
        on_save: Callable[[], None],
    ) -> None:
        """Keeps what to save and when.

        Args:
          step: int64 [], after the step.
          rate: float32 [], the learning rate.
          saver: of all that a resumed run needs.
          logdir: the run folder.
          clock: keeps the training time of what is saved.
          every_steps: how often to save and validate.
          total_steps: the last step.
          patience: validations without improvement before stopping; 0 for never.
          history: the validations so far.
          validator: scores checkpoints; None without a validation split.
          on_score: called with every new score.
          on_save: called with every checkpoint that is not scored.
        """
        self._step, self._rate = step, rate
        self._saver = saver
        self._logdir, self._clock = logdir, clock
        self._every_steps, self._total_steps = every_steps, total_steps
        self._patience = patience
        self._history, self._validator = history, validator
        self._on_score, self._on_save = on_score, on_save
        self.saved_step = -1
        self._current_step = -1
        finite = [
            tf.reduce_all(tf.math.is_finite(variable)) for variable in tf1.trainable_variables()
        ]
        self._all_finite = tf.reduce_all(tf.stack(finite))

    def before_run(self, run_context: _Context) -> _Args:
        """Asks for the step and its learning rate."""
        return _Args([self._step, self._rate])

    def after_run(self, run_context: _Context, run_values: _Values) -> None:
        """Saves and validates where it is time to."""
        self._current_step, rate = int(run_values.results[0]), float(run_values.results[1])
        at_end = self._current_step >= self._total_steps
        if self._current_step % self._every_steps == 0 or at_end:
            self.save(run_context.session, rate)
            self.validate(self._current_step)
            if self._validator is None:
                self._on_save()
        if at_end or self._history.patience_ended(self._patience):
            run_context.request_stop()

    def save(self, session: tf1.Session, rate: float) -> None:
        """Saves a checkpoint of the current step, unless its weights are not finite.

        Args:
          session: with the weights.
          rate: the step's learning rate, for the error.

        Raises:
          TrainingFailed: the weights are not finite; what was saved before stays good.
        """
        if not session.run(self._all_finite):
            raise diverged("a weight is not finite", self._current_step, rate, self._logdir)
        self._clock.record(self._current_step)  # First: a checkpoint never lacks its time.
        prefix = str(self._logdir / CHECKPOINT_NAME)
        self._saver.save(session, prefix, self._current_step, write_meta_graph=False)
        self.saved_step = self._current_step

    def validate(self, step: int) -> None:
        """Scores the checkpoint of a step and keeps it if it is the best so far."""
        if self._validator is None or self._history.has(step):
            return
        score = self._validator.score(self._logdir / f"{CHECKPOINT_NAME}-{step}")
        if score.better_than(self._history.best):
            self._validator.save_best(self._logdir, score)
        self._history.add(score)
        self._on_score(score)

    def end(self, session: tf1.Session) -> None:
        """Saves what a signal left unsaved."""
        if self._current_step > self.saved_step:
            self.save(session, math.nan)


class SummaryHook(tf1.train.SessionRunHook):
    """Writes summaries of the steps, and how fast they were, for TensorBoard."""

    def __init__(
        self,
        *,
        writer: tf1.summary.FileWriter,
        summaries: StepSummaries,
        step: tf.Tensor,
        wait: tf.Tensor,
        start_step: int,
        batch_size: int,
        scalars_every: int,
        pictures_every: int,
    ) -> None:
        """Keeps what to write and when.

        Args:
          writer: of the training run.
          summaries: what to write.
          step: int64 [], after the step.
          wait: float64 [], seconds that the step waited for its batch.
          start_step: the step at which training goes on.
          batch_size: images a step.
          scalars_every: steps between two writings of scalars.
          pictures_every: steps between two writings of pictures.
        """
        self._writer, self._summaries = writer, summaries
        self._fetches = {"step": step, "wait": wait}
        self._current_step = start_step
        self._batch_size = batch_size
        self._every = {"scalars": scalars_every, "pictures": pictures_every}
        self._since_step, self._since, self._waited = start_step, time.monotonic(), 0.0

    def before_run(self, run_context: _Context) -> _Args:
        """Asks for the summaries where it is time to; elsewhere they are not computed."""
        due = {
            name: getattr(self._summaries, name)
            for name, every in self._every.items()
            if (self._current_step + 1) % every == 0
        }
        return _Args({**self._fetches, **due})

    def after_run(self, run_context: _Context, run_values: _Values) -> None:
        """Writes what was asked for."""
        results = run_values.results
        self._current_step = int(results["step"])
        self._waited += float(results["wait"])
        for name in self._every:
            if name in results:
                self._writer.add_summary(results[name], self._current_step)
        if "scalars" in results:
            seconds = time.monotonic() - self._since
            images = (self._current_step - self._since_step) * self._batch_size
            speed = scalar_summary(
                images_per_second=images / seconds, input_wait_share=self._waited / seconds
            )
            self._writer.add_summary(speed, self._current_step)
            self._since_step, self._since, self._waited = self._current_step, time.monotonic(), 0.0

    def end(self, session: tf1.Session) -> None:
        """Writes out what is buffered."""
        self._writer.flush()


class ProgressHook(tf1.train.SessionRunHook):
    """Shows on a terminal how far training is; elsewhere a line with each validation."""

    def __init__(
        self,
        *,
        step: tf.Tensor,
        loss: tf.Tensor,
        accuracy: tf.Tensor,
        start_step: int,
        total_steps: int,
        batch_size: int,
        steps_an_epoch: float,
    ) -> None:
        """Keeps what to show.

        Args:
          step: int64 [], after the step.
          loss: float32 [], of the batch.
          accuracy: float32 [], of the batch.
          start_step: the step at which training goes on.
          total_steps: the last step.
          batch_size: images a step.
          steps_an_epoch: how many steps one pass over the training images makes.
        """
        self._fetches = [step, loss, accuracy]
        self._start_step, self._total_steps = start_step, total_steps
        self._batch_size, self._steps_an_epoch = batch_size, steps_an_epoch
        self._terminal = sys.stderr.isatty()
        self._means = [0.0, 0.0]
        self._line = ""
        self._validation = ""
        self._shown = 0.0
        self._start = 0.0

    def before_run(self, run_context: _Context) -> _Args:
        """Asks for step, loss and accuracy."""
        if not self._start:
            self._start = time.monotonic()
        return _Args(self._fetches)

    def after_run(self, run_context: _Context, run_values: _Values) -> None:
        """Shows the line, at most five times a second."""
        step, *values = (float(value) for value in run_values.results)
        seconds = time.monotonic() - self._start
        done = step - self._start_step
        newest = max(0.05, 1 / done)  # All of the first twenty steps count alike.
        self._means = [
            mean + newest * (value - mean) for mean, value in zip(self._means, values, strict=True)
        ]
        left = seconds / done * (self._total_steps - step)
        self._line = (
            f"epoch {step / self._steps_an_epoch:.2f}  "
            f"step {step:,.0f}/{self._total_steps:,}  loss {self._means[0]:.4f}  "
            f"accuracy {self._means[1]:.2%}  {done * self._batch_size / seconds:,.0f} images/s  "
            f"{left:,.0f} s left{self._validation}"
        )
        if self._terminal and time.monotonic() - self._shown > 0.2:
            self._shown = time.monotonic()
            print(f"\r\033[K{self._line}", end="", file=sys.stderr, flush=True)

    def show_score(self, score: Score) -> None:
        """Adds a validation to the line, and leaves that line standing."""
        self._line = self._line.partition("  validation")[0] or f"step {score.step:,}"
        self._validation = f"  validation {score.accuracy:.2%}"
        self._line += self._validation
        self.show_line()

    def show_line(self) -> None:
        """Leaves the line standing as it is now."""
        self.clear()
        log(self._line)

    def clear(self) -> None:
        """Clears the line on a terminal."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
