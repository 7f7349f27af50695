"""One trial: draws its flags, trains a run with them, reports each validation, may be pruned."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from train.config import TrainConfig
from train.hooks import StopOnSignalHook, TrainingFailed
from train.loop import train
from train.plan import make_plan
from train.run_lock import FolderInUse
from train.search.pruner import WHOLE_RUN
from train.search.settings import Settings
from train.search.space import Dimension
from train.search.study import is_one_too_many
from train.search.trials import folder_of, place_of
from train.validation import Score

LOG_NAME = "train.log"  # of a trial: what training would have said on the terminal
_TIE = 1e-6  # of accuracy; less than one image of a million makes


class Interrupted(Exception):
    """The trial did not end: it is to go on later."""


class Dropped(Exception):
    """The trial is one too many."""


@dataclass(frozen=True)
class TrialJob:
    """What every trial of a process needs.

    Attributes:
      settings: what is searched.
      data_dir: the dataset folder.
      manifest: its manifest.
      logdir: the search's folder.
      most: how many trials there shall be; None for any number.
      signals: what hears SIGTERM and Ctrl-C.
      on_score: called with the place of a trial, and its share of its run, at each validation.
    """

    settings: Settings
    data_dir: Path
    manifest: Manifest
    logdir: Path
    most: int | None
    signals: StopOnSignalHook
    on_score: Callable[[int, float, Score], None]

    def run(self, trial: Trial) -> float:
        """Runs a trial.

        Args:
          trial: a trial of the study that has just been begun.

        Returns:
          What is maximised.

        Raises:
          Interrupted: a signal stopped it, or another process trains in its folder.
          Dropped: it is one too many.
          TrainingFailed: it cannot be trained.
          UserError: something else is wrong, such as a full disk.
          optuna.TrialPruned: it is not worth its remaining steps.
        """
        study, frozen = trial.study, trial._get_latest_trial()
        if is_one_too_many(study, frozen, self.most):
            trial.set_user_attr("dropped", True)
            raise Dropped
        place = place_of(study, frozen)
        trial.set_user_attr("place", place)
        config = self.settings.config(draw(trial, self.settings))
        folder = folder_of(self.logdir, place)
        folder.mkdir(exist_ok=True)
        start, before = time.monotonic(), trial.user_attrs.get("seconds", 0.0)
        try:
            with (
                (folder / LOG_NAME).open("a", encoding="utf-8", buffering=1) as log_file,
                contextlib.redirect_stderr(log_file),
            ):
                return self._train(trial, config, folder)
        except TrainingFailed as error:
            trial.set_user_attr("failure", str(error))
            raise
        except UserError:
            trial.set_user_attr("stopped", True)  # It goes on when this is mended.
            raise
        finally:
            trial.set_user_attr("seconds", round(before + time.monotonic() - start, 1))

    def _train(self, trial: Trial, config: TrainConfig, folder: Path) -> float:
        total_steps = make_plan(config, self.data_dir, self.manifest).total_steps
        trial.set_user_attr("total_steps", total_steps)
        place = trial.user_attrs["place"]
        reported = set(trial._cached_frozen_trial.intermediate_values)

        def on_score(score: Score) -> None:
            share = WHOLE_RUN * score.step // total_steps
            if share not in reported:
                reported.add(share)
                trial.report(objective(score), share)
            self.on_score(place, share / WHOLE_RUN, score)
            known = trial.user_attrs.get("score")
            if known is None or score.better_than(Score(**known)):
                trial.set_user_attr("score", vars(score))
            if trial.should_prune():
                raise optuna.TrialPruned

        trial.set_user_attr("begun", trial.number)
        try:
            result = train(
                config,
                data_dir=self.data_dir,
                logdir=folder,
                on_score=on_score,
                signals=self.signals,
                exports=False,  # Only the best are, at the end.
            )
        except FolderInUse as error:
            trial.set_user_attr("stopped", True)
            raise Interrupted from error
        if result.stopped_by_signal:
            trial.set_user_attr("stopped", True)
            raise Interrupted
        assert result.best is not None, "a search begins only where there is validation"
        trial.set_user_attr("score", vars(result.best))
        return objective(result.best)


def objective(score: Score) -> float:
    """Returns what is maximised: accuracy, and among equal ones the lower cross-entropy.

    That is the order in which a run's own best checkpoint is chosen, as one number.
    """
    return score.accuracy + _TIE * math.exp(-score.loss)


def draw(trial: Trial, settings: Settings) -> Mapping[str, Any]:
    """Draws the values of a trial.

    Args:
      trial: the trial.
      settings: what is searched.

    Returns:
      The values of the dimensions that count in this trial, by name.
    """
    drawn: dict[str, Any] = {}
    for one in settings.dimensions:
        if settings.is_active(one, drawn):
            drawn[one.name] = one.settle(_suggest(trial, one))
    return drawn


def _suggest(trial: Trial, dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return trial.suggest_categorical(dimension.name, dimension.values)
    low, high = dimension.values
    is_log = dimension.kind in ("log", "log_int")
    if dimension.kind in ("int", "log_int"):
        return trial.suggest_int(dimension.name, low, high, step=dimension.step, log=is_log)
    return trial.suggest_float(dimension.name, low, high, log=is_log)
