"""Runs of recipes for the benchmarks: trained and scored by the scripts, as their users do it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.comparing import ROOT, current_commit, describe_machine
from data_prep.command_line import UserError, log
from model_definition.run_dir import HISTORY_NAME, RUN_NAME, TRAINING_TIME_NAME


def complete_runs(
    runs: dict[str, Any],
    recipe: str,
    *training_flags: str,
    seeds: int,
    data_dir: Path,
    logdir: Path,
    save: Callable[[], None],
) -> None:
    """Adds the runs of a recipe that are missing.

    Args:
      runs: those that are there, by seed; what `train_and_evaluate` returns of the others is added.
      recipe: the recipe's name.
      *training_flags: flags that take the place of the recipe's.
      seeds: how many there shall be, from 0 on.
      data_dir: the dataset folder.
      logdir: where the run folders go.
      save: called after each run.

    Raises:
      UserError: a script failed or was stopped.
    """
    for seed in range(seeds):
        if str(seed) not in runs:
            runs[str(seed)] = train_and_evaluate(
                recipe,
                *training_flags,
                seed=seed,
                data_dir=data_dir,
                logdir=run_folder(logdir, recipe, seed),
            )
            save()


def run_folder(logdir: Path, recipe: str, seed: int | str) -> Path:
    """Returns the run folder of a recipe's seed."""
    return logdir / f"{recipe}-{seed}"


def train_and_evaluate(
    recipe: str, *training_flags: str, seed: int, data_dir: Path, logdir: Path
) -> dict[str, Any]:
    """Trains by a recipe, or goes on with what there is of the run, and scores it on test.

    Args:
      recipe: the recipe's name.
      *training_flags: flags that take the place of the recipe's.
      seed: the run's seed.
      data_dir: the dataset folder.
      logdir: the run folder.

    Returns:
      What is kept of the run: its accuracies, from 0 to 1 (that on validation is None where it did
      not validate), its step, the seconds that its steps took, flags, versions and commit.

    Raises:
      UserError: a script failed or was stopped.
    """
    log(f"{recipe}, seed {seed}")
    run_script(
        "train/train_lenet.py",
        *(f"--recipe={recipe}", f"--seed={seed}", f"--data_dir={data_dir}", f"--logdir={logdir}"),
        *training_flags,
    )
    test = json.loads(run_script("eval/evaluate.py", f"--logdir={logdir}", "--json"))
    run = load_results(logdir / RUN_NAME)
    history = load_results(logdir / HISTORY_NAME)  # Without validation there is none.
    times = load_results(logdir / TRAINING_TIME_NAME)
    accuracies = {score["step"]: score["accuracy"] for score in history}
    seconds = {entry["step"]: entry["seconds"] for entry in times}
    return {
        "test_accuracy": test["accuracy"],
        "validation_accuracy": accuracies.get(test["step"]),
        "step": test["step"],
        "seconds": seconds[test["step"]],
        "config": run["config"],
        "versions": run["versions"],
        "machine": describe_machine(),
        "commit": current_commit(),
    }


def run_script(script: str, *arguments: str) -> str:
    """Runs a script of the project and returns its stdout; stderr goes where ours goes.

    Raises:
      UserError: it did not end well.
    """
    command = [sys.executable, str(ROOT / script), *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        raise UserError(
            f"{script} {' '.join(arguments)} ended with exit code {finished.returncode}"
        )
    return finished.stdout


def load_results(path: Path) -> Any:
    """Reads a file of JSON; where there is none, there are no results yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def format_accuracy(runs: list[dict[str, Any]]) -> str:
    """Returns the accuracy on test in per cent as mean ± standard deviation (number of runs)."""
    accuracies = [100 * run["test_accuracy"] for run in runs]
    if not accuracies:
        return ""
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{statistics.mean(accuracies):.2f}{spread} ({len(accuracies)})"
