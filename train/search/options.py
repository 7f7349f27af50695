"""How a search is done, besides what is searched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError


@dataclass(frozen=True)
class SearchOptions:
    """How a search is done, besides what is searched.

    Attributes:
      data_dir: the dataset folder.
      logdir: the search's folder.
      storage: an Optuna storage URL; None for SQLite in the folder.
      seed: of the draws.
      trials: how many trials there shall be in the study; None where the time decides.
      minutes: how long this process searches; None where the number of trials decides.
      keep: how many of the best trials keep their checkpoints.
    """

    data_dir: Path
    logdir: Path
    storage: str | None
    seed: int
    trials: int | None
    minutes: float | None
    keep: int

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name in ("trials", "minutes", "keep"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1_000_000:
                raise UserError(f"--{name}={value}: expected a number above 0 and below 1000000")
