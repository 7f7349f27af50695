"""Folds, as flags name them. No NumPy: scripts read their flags before they import it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Fold:
    """One of the parts into which cross-validation cuts the images.

    Attributes:
      number: which, 1 to `num_folds`.
      num_folds: how many there are, at least 2.
    """

    number: int
    num_folds: int

    def cut(self, n: int) -> tuple[int, int]:
        """Returns where the fold begins and ends in a sequence of n; sizes differ by 1 at most."""
        return n * (self.number - 1) // self.num_folds, n * self.number // self.num_folds


def parse_fold(text: str) -> Fold | None:
    """Reads a fold such as 2/5, the second of five; None where it is something else."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match:
        return None
    fold = Fold(int(match[1]), int(match[2]))
    return fold if 1 <= fold.number <= fold.num_folds and fold.num_folds > 1 else None
