"""Decides which trials are not worth their remaining steps."""

from __future__ import annotations

import statistics

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

WHOLE_RUN = 1_000  # a validation's place in its run is told in thousandths
_FEWEST_TRIALS = 5  # finished ones to compare with, as of Optuna's MedianPruner


class MedianPruner(optuna.pruners.BasePruner):
    """Stops a trial whose best validation so far is worse than the median of the finished trials'.

    They are compared by what each had reached after the same share of its run. Optuna's own
    `MedianPruner` compares the very same steps, which trials of other batch sizes and epochs do not
    have. By share and not by epochs, since the learning rate of a longer run is still high where a
    shorter one's has fallen. Unlike Hyperband's, the median needs no more than a few trials.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tells whether to stop a trial, after its latest validation."""
        share = trial.last_step
        if share is None or share >= WHOLE_RUN:  # It has ended anyway.
            return False
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        others = [best for other in finished if (best := _best_by(other, share)) is not None]
        best = _best_by(trial, share)
        if best is None or len(others) < _FEWEST_TRIALS:
            return False
        return best < statistics.median(others)


def _best_by(trial: FrozenTrial, share: int) -> float | None:
    values = [value for step, value in trial.intermediate_values.items() if step <= share]
    return max(values, default=None)
