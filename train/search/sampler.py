"""Draws the values of a trial."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from train.search.settings import Settings
from train.search.space import Dimension
from train.search.trials import place_of

_SEEDS = 2**32
_SEEDS_APART = 1_000_003  # so that the trials of neighbouring seeds draw other numbers


class PlacedSampler(optuna.samplers.BaseSampler):
    """TPE whose draws depend on the seed, the trial's place and the trials before it alone.

    One generator for a whole search, as Optuna has it, begins anew with each process: a search that
    is taken up again would draw its first trials once more. Here it goes on as it would have gone
    on uninterrupted. The first trial takes the defaults, where they are in range, so that whatever
    is found was compared with them.

    TPE: Bergstra and others 2011,
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.pdf; here
    multivariate, and with groups, since not every trial has every value.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        """Keeps what is searched.

        Args:
          settings: the space and the given flags.
          seed: any whole number.
        """
        self._settings, self._seed = settings, seed
        self._dimensions = {one.name: one for one in settings.dimensions}
        self._number = -1  # of the trial that `_tpe` is for
        self._tpe: optuna.samplers.TPESampler | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Returns what is drawn jointly; nothing of the first trial."""
        if place_of(study, trial) == 0:
            return {}
        return self._sampler(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draws those values."""
        if not search_space:
            return {}
        return self._sampler(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draws a value that is not drawn jointly, or takes its default."""
        if place_of(study, trial) == 0:
            default = self._default(self._dimensions[param_name], trial.params)
            if default is not None:
                return default
        return self._sampler(study, trial).sample_independent(
            study, trial, param_name, param_distribution
        )

    def _default(self, dimension: Dimension, drawn: Mapping[str, Any]) -> Any:
        return self._settings.default(dimension, drawn)

    def _sampler(self, study: Study, trial: FrozenTrial) -> optuna.samplers.TPESampler:
        if self._tpe is None or self._number != trial.number:
            seed = (self._seed * _SEEDS_APART + place_of(study, trial)) % _SEEDS
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._tpe = optuna.samplers.TPESampler(seed=seed, group=True)
            self._number = trial.number
        return self._tpe
