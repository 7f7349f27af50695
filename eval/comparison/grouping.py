"""Runs of one configuration that differ in their seed are one model, trained several times."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.command_line import UserError
from eval.comparison.entries import Entry
from eval.comparison.measuring import Measured
from model_definition.run_dir import FIRST_VERSION

# The seed, and what does not change a run's result. Of the model its text counts.
_NOT_CONFIGURATION = {"seed", "model", "model_set", "keep_checkpoints", "summary_every_steps"}


@dataclass(frozen=True)
class Spread:
    """A number of which each of a model's runs has one.

    Attributes:
      mean: the mean.
      sd: the standard deviation of a sample (n - 1); None for one run.
    """

    mean: float
    sd: float | None


@dataclass(frozen=True)
class Model:
    """One configuration, trained with one or several seeds.

    Attributes:
      name: of its run, or what the names of its runs begin with.
      runs: its runs, by rising seed.
    """

    name: str
    runs: tuple[Measured, ...]

    @property
    def labels(self) -> np.ndarray:
        """What the images are, int64 [n]."""
        return self.runs[0].answers.labels

    @property
    def num_right(self) -> np.ndarray:
        """How many of its runs read each image right, int64 [n]."""
        return np.sum([run.answers.is_right for run in self.runs], axis=0)

    @property
    def confusion(self) -> np.ndarray:
        """Rows are labels, columns predictions, int64 [classes, classes]; all runs added up."""
        return np.sum([run.answers.evaluation.metrics.confusion for run in self.runs], axis=0)

    def spread(self, value: Callable[[Measured], float | None]) -> Spread | None:
        """Returns mean and standard deviation over the runs; None where one lacks the value.

        Args:
          value: takes it from a run.
        """
        found = [value(run) for run in self.runs]
        known = [number for number in found if number is not None]
        if len(known) < len(found):
            return None
        return Spread(statistics.fmean(known), statistics.stdev(known) if known[1:] else None)


def require_different_seeds(entries: Sequence[Entry]) -> None:
    """Checks that no run is a copy of another one. One may be a member of an ensemble as well.

    Args:
      entries: all that are compared.

    Raises:
      UserError: two have the same configuration and even the same seed.
    """
    found: dict[tuple[str, int | None], Entry] = {}
    for entry in entries:
        other = found.setdefault((_configuration(entry), entry.seed), entry)
        if other is not entry:
            raise UserError(
                f"{other.ensemble.logdir} and {entry.ensemble.logdir}: the same configuration with "
                f"the same seed {entry.seed}, so one training would count twice; leave one of them "
                "out"
            )


def group_runs(measured: Sequence[Measured]) -> tuple[Model, ...]:
    """Groups runs whose configurations are equal but for the seed.

    Ensembles stand alone, and so do imported runs, since nothing tells how they were trained, and
    updated ones, since each has learnt other images.

    Args:
      measured: all runs.

    Returns:
      The models, the most accurate on average first, of equals the one with the lower
      cross-entropy.
    """
    groups: dict[str, list[Measured]] = {}
    for one in measured:
        groups.setdefault(_configuration(one.entry), []).append(one)
    for group in groups.values():
        group.sort(key=lambda one: (one.entry.seed or 0, one.entry.name))
    names = _name_groups(list(groups.values()))
    models = [Model(name, tuple(group)) for name, group in zip(names, groups.values(), strict=True)]
    return tuple(sorted(models, key=_by_accuracy))


def _by_accuracy(model: Model) -> tuple[float, float, str]:
    loss = statistics.fmean(run.answers.evaluation.loss for run in model.runs)
    return -model.num_right.sum() / len(model.runs), loss, model.name


def _configuration(entry: Entry) -> str:
    """Returns a text that two runs share if they differ in nothing but the seed."""
    run = entry.ensemble.first
    updated = run.version != FIRST_VERSION
    if run.is_imported or updated or not entry.ensemble.is_single:
        return f"alone: {entry.name}"
    lines = (" ".join(line.partition("#")[0].split()) for line in run.architecture_text.split("\n"))
    config = {k: v for k, v in run.config.items() if k not in _NOT_CONFIGURATION}
    facts = {"layers": [line for line in lines if line], "config": config}
    return json.dumps(facts, sort_keys=True)


def _name_groups(groups: Sequence[Sequence[Measured]]) -> list[str]:
    """Names groups by what the names of their runs begin with, where that is clear."""
    starts = [_common_start([one.entry.name for one in group]) for group in groups]
    counts = Counter(starts)
    names = []
    for start, group in zip(starts, groups, strict=True):
        first, others = group[0].entry.name, len(group) - 1
        if others and (not start or counts[start] > 1):
            start = f"{first} and {others} more"
        names.append(start if others else first)
    return names


def _common_start(names: Sequence[str]) -> str:
    """Returns what all names begin with, up to where a word ends: `mlp` of `mlp-0`, `mlp-1`."""
    # Sorted, the first and the last one differ soonest.
    first, last = min(names), max(names)
    same = [a == b for a, b in zip(first, last, strict=False)]
    start = first[: same.index(False)] if False in same else first
    if start in names:
        return start
    return start.rstrip("0123456789").rstrip("-_. /").removesuffix("seed").rstrip("-_. /")
