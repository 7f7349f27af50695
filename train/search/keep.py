"""Keeps the checkpoints of the best trials alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from model_definition.checkpoints import CHECKPOINT_NAME
from model_definition.run_dir import BEST_NAME, EXPORT_NAME, LITERT_NAME
from train.search.trials import Outcome, folder_of, rank

# What training exports. Anything else was made by update.py or export.py.
_OF_TRAINING = {LITERT_NAME, f"{LITERT_NAME}.sha256"}


class Keeper:
    """Removes the checkpoints and exports of trials that are not among the best.

    What describes a run stays: run.json, model.txt, history.json and the event files. A trial that
    was updated or exported since is kept whole.
    """

    def __init__(self, logdir: Path, keep: int, say: Callable[[str], None]) -> None:
        """Begins to keep.

        Args:
          logdir: the search's folder.
          keep: how many of the finished trials are kept whole.
          say: prints a line.
        """
        self._logdir = logdir
        self._keep = keep
        self._say = say
        self._spared: set[int] = set()  # of which it was said already

    def remove_others(self, outcomes: Sequence[Outcome], *, ended: int | None = None) -> None:
        """Removes what is not kept, and says so where it had been kept until now.

        Args:
          outcomes: the trials that have ended; those whose folders are on another machine are
            passed over.
          ended: the place of the one that has just ended, of which nothing had been kept.
        """
        best = {outcome.place for outcome in rank(outcomes)[: self._keep]}
        removed, spared = [], []
        for outcome in outcomes:
            folder = folder_of(self._logdir, outcome.place)
            weights = _list_weights(folder)
            if outcome.place in best or not weights:
                continue
            if _is_used(folder):
                spared.append(outcome.place)
                continue
            for path in weights:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)  # Another process may do the same.
                else:
                    path.unlink(missing_ok=True)
            removed.append(outcome.place)
        if told := [str(place) for place in removed if place != ended]:
            self._say(
                f"removed the checkpoints of trial {', '.join(told)}, no longer among the best "
                f"{self._keep} (--keep)"
            )
        if new := [str(place) for place in spared if place not in self._spared]:
            self._say(
                f"kept trial {', '.join(new)}, not among the best {self._keep} (--keep), for its "
                f"{EXPORT_NAME} folder holds what update.py or export.py made"
            )
            self._spared.update(spared)


def _list_weights(folder: Path) -> list[Path]:
    """Lists the checkpoints and exports of a trial."""
    others = (folder / name for name in ("checkpoint", BEST_NAME, EXPORT_NAME))
    return [*folder.glob(f"{CHECKPOINT_NAME}-*"), *(path for path in others if path.exists())]


def _is_used(folder: Path) -> bool:
    """Tells whether somebody made something of a trial's weights."""
    return any(path.name not in _OF_TRAINING for path in (folder / EXPORT_NAME).glob("*"))
