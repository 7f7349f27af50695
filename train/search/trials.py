"""Reads the trials of a study.

Optuna numbers a trial that is tried again anew. What the user sees is a trial's place: how many
others were begun before it. It keeps its place, its values and its run folder however often it is
interrupted. What Optuna does not know of a trial is kept in its user attributes:

    place        see above
    again        whether it goes on with one that was interrupted
    kills        how often the process of the trial of this place was killed before
    begun        its number, once its training has begun
    stopped      whether a signal stopped it, so that nothing was lost
    dropped      whether it was one too many
    failure      why it cannot be trained
    score        its best validation: step, accuracy, loss
    total_steps  how many steps its run makes
    seconds      how long it has trained, in all
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from train.search.settings import Settings

MOST_KILLS = 3  # of one trial; then it is likely that it is what kills its process


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended.

    Attributes:
      place: how many trials were begun before it.
      state: `finished`, `pruned` or `failed`.
      drawn: its values by the name of the dimension.
      value: what is maximised; only of a finished one.
      score: the step, accuracy and loss of its best validation; empty if there was none.
      total_steps: how many steps its run makes, or would have made; 0 where it is not known.
      seconds: how long it trained.
      failure: why it failed, else empty.
    """

    place: int
    state: str
    drawn: Mapping[str, Any]
    value: float | None
    score: Mapping[str, Any]
    total_steps: int
    seconds: float
    failure: str


def folder_of(logdir: Path, place: int) -> Path:
    """Returns the run folder of a trial."""
    return logdir / f"trial-{place:04d}"


def place_of(study: Study, trial: FrozenTrial) -> int:
    """Returns how many trials were begun before one."""
    if "place" in trial.user_attrs:
        return trial.user_attrs["place"]
    earlier = (one for one in study.get_trials(deepcopy=False) if one.number < trial.number)
    return sum(not {"again", "dropped"} & set(one.user_attrs) for one in earlier)


def kills_of(trial: FrozenTrial) -> int:
    """Returns how often the process of a trial that was interrupted was killed."""
    return trial.user_attrs.get("kills", 0) + ("stopped" not in trial.user_attrs)


def is_interrupted(trial: FrozenTrial) -> bool:
    """Tells whether a trial ended for no reason of its own, so that it should go on."""
    settled = {"failure", "dropped"} & set(trial.user_attrs)
    return trial.state == TrialState.FAIL and not settled and kills_of(trial) < MOST_KILLS


def is_dropped(trial: FrozenTrial) -> bool:
    """Tells whether a trial was one too many."""
    return "dropped" in trial.user_attrs


def list_ended(study: Study) -> dict[int, FrozenTrial]:
    """Returns the trials that have ended, by place, in order."""
    ended: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and not is_dropped(trial) and not is_interrupted(trial):
            ended.setdefault(place_of(study, trial), trial)
    return {place: ended[place] for place in sorted(ended)}


def list_outcomes(study: Study, settings: Settings) -> list[Outcome]:
    """Returns what came of the trials that have ended, by place.

    Args:
      study: the study.
      settings: what is searched.
    """
    return [_outcome_of(place, trial, settings) for place, trial in list_ended(study).items()]


def rank(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Returns the finished trials, the best one first."""
    finished = [outcome for outcome in outcomes if outcome.value is not None]
    return sorted(finished, key=lambda outcome: (-(outcome.value or 0.0), outcome.place))


def _outcome_of(place: int, trial: FrozenTrial, settings: Settings) -> Outcome:
    states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}
    killed = f"its process was killed {MOST_KILLS} times" if trial.state == TrialState.FAIL else ""
    facts = trial.user_attrs
    return Outcome(
        place=place,
        state=states.get(trial.state, "failed"),
        drawn={
            one.name: one.settle(trial.params[one.name])
            for one in settings.dimensions
            if one.name in trial.params
        },
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        score=facts.get("score", {}),
        total_steps=facts.get("total_steps", 0),
        seconds=facts.get("seconds", 0.0),
        failure=facts.get("failure", killed),
    )
