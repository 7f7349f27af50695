"""Keeps the checkpoints of the best trials alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from model_definition.checkpoints import CHECKPOINT_NAME
from model_definition.run_dir import BEST_NAME, EXPORT_NAME
from train.search.trials import Outcome, folder_of, rank


def remove_checkpoints(logdir: Path, outcomes: Sequence[Outcome], keep: int) -> None:
    """Removes the checkpoints and exports of all trials that have ended, but of the best.

    What describes a run stays: run.json, model.txt, history.json and the event files.

    Args:
      logdir: the search's folder; trials whose folders are on another machine are passed over.
      outcomes: the trials that have ended.
      keep: how many of the finished ones are kept whole.
    """
    kept = {outcome.place for outcome in rank(outcomes)[:keep]}
    for outcome in outcomes:
        folder = folder_of(logdir, outcome.place)
        if outcome.place in kept or not folder.is_dir():
            continue
        for path in [*folder.glob(f"{CHECKPOINT_NAME}-*"), folder / "checkpoint"]:
            path.unlink(missing_ok=True)
        for name in (BEST_NAME, EXPORT_NAME):
            shutil.rmtree(folder / name, ignore_errors=True)
