"""A search: trial after trial until the budget is used up, beside other processes if there are."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, field

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from data_prep.schema import Manifest
from model_definition.checkpoints import list_checkpoints
from model_definition.run_dir import EXPORT_NAME, LITERT_NAME
from train.hooks import StopOnSignalHook, TrainingFailed
from train.loop import train
from train.plan import make_plan
from train.run_lock import FolderInUse
from train.search.hparams import write_experiment, write_session
from train.search.keep import Keeper
from train.search.options import SearchOptions
from train.search.progress import Progress, typical_seconds
from train.search.settings import Settings
from train.search.study import (
    HEARTBEAT_SECONDS,
    fail_killed_trials,
    open_study,
    queue_interrupted_trials,
)
from train.search.trial import LOG_NAME, Dropped, Interrupted, TrialJob
from train.search.trials import (
    Outcome,
    folder_of,
    is_dropped,
    is_interrupted,
    list_outcomes,
    place_of,
    rank,
)

_LOOK_SECONDS = 1.0  # between two looks at what other processes do


@dataclass(frozen=True)
class SearchResult:
    """What came of a search.

    Attributes:
      study: Optuna's study.
      outcomes: the trials that have ended, those of earlier calls included.
      num_validated: the images that trials were judged on, the fewest where they differ.
      stopped_by_signal: whether SIGTERM or Ctrl-C ended it; it can be taken up again.
    """

    study: Study
    outcomes: list[Outcome]
    num_validated: int
    stopped_by_signal: bool


def search(settings: Settings, options: SearchOptions, manifest: Manifest) -> SearchResult:
    """Searches, or goes on searching, until there are enough trials or the time is over.

    Args:
      settings: what to search.
      options: how.
      manifest: of the dataset.

    Returns:
      What came of it.

    Raises:
      UserError: the folder holds something else, or a trial met with
        something that has nothing to do with its flags, such as a full disk.
    """
    num_validated = _count_validated(settings, options, manifest)
    study = open_study(
        settings,
        logdir=options.logdir,
        storage=options.storage,
        seed=options.seed,
        manifest=manifest,
    )
    write_experiment(options.logdir, settings.dimensions)
    progress = Progress(options.trials)
    signals = StopOnSignalHook(progress.say)
    with contextlib.closing(progress), signals.listening():
        keeper = Keeper(options.logdir, options.keep, progress.say)
        has_trained = _Search(settings, options, manifest, study, progress, signals, keeper).go_on()
        outcomes = list_outcomes(study, settings)
        if has_trained:  # A call that only reports removes nothing.
            keeper.remove_others(outcomes)
        _export_best(settings, options, outcomes, progress, signals)
    return SearchResult(study, outcomes, num_validated, signals.stopped)


def _count_validated(settings: Settings, options: SearchOptions, manifest: Manifest) -> int:
    """Returns on how many images trials are judged."""
    counts = []
    for config in settings.split_configs():
        with contextlib.redirect_stderr(io.StringIO()):  # What it says of this one is no matter.
            plan = make_plan(config, options.data_dir, manifest)
        assert plan.validation is not None, "refused by `load_settings`"
        counts.append(plan.validation.num_examples)
    return min(counts)


@dataclass
class _Search:
    """The trials of one process."""

    settings: Settings
    options: SearchOptions
    manifest: Manifest
    study: Study
    progress: Progress
    signals: StopOnSignalHook
    keeper: Keeper
    _begun: float = field(default_factory=lambda: time.monotonic())
    _ended: int = 0  # trials of this process
    _waits: bool = False  # for other processes

    def go_on(self) -> bool:
        """Runs trials until there is nothing left to do, or a signal comes.

        Returns:
          Whether there were any.
        """
        job = TrialJob(
            self.settings,
            self.options.data_dir,
            self.manifest,
            self.options.logdir,
            self.options.trials,
            self.signals,
            self.progress.show_score,
        )
        while not self.signals.stopped:
            fail_killed_trials(self.study)
            queue_interrupted_trials(self.study)
            outcomes = list_outcomes(self.study, self.settings)
            self.progress.show_trials(outcomes)
            states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
            open_trials = states.count(TrialState.RUNNING) + states.count(TrialState.WAITING)
            if self._may_begin(outcomes, TrialState.WAITING in states, open_trials):
                self._run_one(job)
            elif open_trials and self.options.trials is not None:
                self._wait(open_trials)
            else:
                break
        queue_interrupted_trials(self.study)  # So that others can go on with it at once.
        return self._ended > 0

    def _may_begin(self, outcomes: list[Outcome], is_queued: bool, open_trials: int) -> bool:
        if self.options.trials is not None:
            return is_queued or len(outcomes) + open_trials < self.options.trials
        return not self._ended or typical_seconds(outcomes) <= self._seconds_left(outcomes)

    def _seconds_left(self, outcomes: list[Outcome]) -> float:
        if self.options.minutes is not None:
            return max(0.0, self._begun + 60 * self.options.minutes - time.monotonic())
        assert self.options.trials is not None, "one of the two is given"
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        workers = 1 + len(running)  # Its own trial has ended.
        return max(0, self.options.trials - len(outcomes)) * typical_seconds(outcomes) / workers

    def _run_one(self, job: TrialJob) -> None:
        self._waits = False
        try:
            self.study.optimize(
                job.run,
                n_trials=1,
                catch=(TrainingFailed, Interrupted, Dropped),
                callbacks=[self._end_trial],
            )
        except ValueError as error:
            # Asleep for longer than the grace, its trial was given to another process.
            if not str(error).startswith("Cannot tell"):
                raise
            self.progress.say("another process has gone on with the trial of this one")

    def _end_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._ended += 1
        if is_dropped(trial):
            return
        place = place_of(study, trial)
        if is_interrupted(trial):
            if not self.signals.stopped:
                self.progress.say(f"trial {place}: another process trains in its folder; waiting")
                time.sleep(HEARTBEAT_SECONDS)
            return
        outcomes = list_outcomes(study, self.settings)
        outcome = next(one for one in outcomes if one.place == place)
        write_session(self.options.logdir, outcome)
        self.progress.show_end(outcome, outcomes, self._seconds_left(outcomes))
        self.keeper.remove_others(outcomes, ended=place)

    def _wait(self, open_trials: int) -> None:
        if not self._waits:
            self.progress.say(f"waiting for {open_trials} trial(s) of other processes to end")
            self._waits = True
        time.sleep(_LOOK_SECONDS)


def _export_best(
    settings: Settings,
    options: SearchOptions,
    outcomes: list[Outcome],
    progress: Progress,
    signals: StopOnSignalHook,
) -> None:
    """Calibrates and exports the runs that are kept, which their trials did not."""
    for outcome in rank(outcomes)[: options.keep]:
        folder = folder_of(options.logdir, outcome.place)
        is_here = bool(list_checkpoints(folder))  # and not on another machine
        if signals.stopped or not is_here or (folder / EXPORT_NAME / LITERT_NAME).exists():
            continue
        progress.say(f"exporting trial {outcome.place}")
        with (
            contextlib.suppress(FolderInUse),  # Another process does it.
            (folder / LOG_NAME).open("a", encoding="utf-8") as log_file,
            contextlib.redirect_stderr(log_file),
        ):
            config = settings.config(outcome.drawn)
            train(config, data_dir=options.data_dir, logdir=folder, signals=signals)
