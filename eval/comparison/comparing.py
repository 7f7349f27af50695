"""A comparison: what is measured of the runs, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.comparison.answers import ComparedSplit
from eval.comparison.disagreement import Disagreement, find_disagreement
from eval.comparison.entries import Entry
from eval.comparison.grouping import Model, group_runs, require_different_seeds
from eval.comparison.measuring import measure
from eval.comparison.significance import Difference, compare_pairs


@dataclass(frozen=True)
class Comparison:
    """Everything that the results tell.

    Attributes:
      name: the comparison's.
      split: the images.
      models: the most accurate first.
      differences: of every pair of models.
      disagreement: on which images they differ, and which defeat all of them.
    """

    name: str
    split: ComparedSplit
    models: tuple[Model, ...]
    differences: tuple[Difference, ...]
    disagreement: Disagreement

    @property
    def num_runs(self) -> int:
        """How many runs there are, of all models; an ensemble counts as one."""
        return sum(len(model.runs) for model in self.models)


def compare_entries(
    entries: Sequence[Entry],
    split: ComparedSplit,
    *,
    name: str,
    on_done: Callable[[int], object],
) -> Comparison:
    """Measures entries on a split and compares them.

    Args:
      entries: what to compare; the result does not depend on their order.
      split: the images.
      name: the comparison's.
      on_done: called with 1 for each entry whose answers are there.

    Returns:
      The comparison.

    Raises:
      UserError: a run or the dataset is damaged, or a run is a copy of another one.
    """
    require_different_seeds(entries)
    models = group_runs(measure(entries, split, on_done=on_done))
    return Comparison(name, split, models, compare_pairs(models), find_disagreement(models))
