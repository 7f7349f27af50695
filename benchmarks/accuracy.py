"""Runs the recipes behind the claims of accuracy, and prints what they reach.

Each recipe was chosen on the validation split. Here it is trained on all 60,000 training images,
with nothing changed but the data, and the last weights are scored on the test split, once a seed;
every seed counts. What is there already is not trained again, so a run that was stopped goes on.

An ensemble is all runs of some recipes together, their probabilities averaged. A recipe with a
teacher has here the runs of another recipe as its teachers, which are to be trained before.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, current_commit, write_json
from benchmarks.recipe_runs import (
    complete_runs,
    format_accuracy,
    load_results,
    run_folder,
    run_script,
)
from data_prep import command_line
from data_prep.command_line import UserError

_ALL_IMAGES = ("--train_splits=train+validation", "--validate_on=none")


@dataclass(frozen=True)
class Claim:
    """What a recipe is to reach.

    Attributes:
      what: of which network, and what.
      accuracy: on the test split, in per cent, as the mean of all seeds.
      seeds: how many runs.
      seconds: in how many seconds of training; None for no limit.
      teacher: the recipe whose runs it learns from; empty for none.
    """

    what: str
    accuracy: float
    seeds: int
    seconds: float | None = None
    teacher: str = ""

    @property
    def to_reach(self) -> str:
        """The accuracy and the time, as the tables say it."""
        limit = "" if self.seconds is None else f" in {self.seconds:,.0f} s"
        return f"{self.accuracy:.2f} %{limit}"


CLAIMS = {
    "speed99_lenet": Claim("LeNet, time to 99 %", 99.0, 5, 15.0),
    "speed99": Claim("`fast`, time to 99 %", 99.0, 5, 5.0),
    "speed995": Claim("time to 99.5 %", 99.5, 5, 150.0),
    "best_tiny": Claim("under 10,000 parameters", 99.50, 3),
    "best_lenet": Claim("LeNet's best", 99.60, 5),
    "distilled_lenet": Claim("LeNet taught by five", 99.60, 3, teacher="speed995"),
    "cnn9975": Claim("one small network's best", 99.70, 3, 30 * 60.0),
}


@dataclass(frozen=True)
class EnsembleClaim:
    """What the runs of some recipes are to reach together.

    Attributes:
      recipes: whose runs they are.
      accuracy: on the test split, in per cent.
      seconds: in how many seconds of training in all.
      test_time_shifts: answers are averages over shifts of an image by up to so many pixels.
    """

    recipes: tuple[str, ...]
    accuracy: float
    seconds: float
    test_time_shifts: int

    @property
    def to_reach(self) -> str:
        """The accuracy and the time, as the tables say it."""
        return f"{self.accuracy:.2f} % in {self.seconds:,.0f} s"


ENSEMBLES = {
    name: EnsembleClaim(recipes, 99.80, 3 * 3600.0, test_time_shifts=1)
    for name, recipes in {
        "best_lenet": ("best_lenet",),
        "speed995": ("speed995",),
        "mixed": ("speed995", "distilled_lenet", "cnn9975"),
    }.items()
}


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder.")
    flags.DEFINE_string("logdir", "runs/accuracy", "Where the run folders go.")
    flags.DEFINE_list("recipes", list(CLAIMS), "Which to run.")
    flags.DEFINE_list("ensembles", [], f"Which to score, of {', '.join(ENSEMBLES)}.")
    flags.DEFINE_integer("seeds", 5, "At most so many runs of each; 0 only prints.", 0)
    results = str(ROOT / "benchmarks/results/accuracy.json")
    flags.DEFINE_string("results", results, "The results' file.")


def main(argv: list[str]) -> None:
    """Trains what is missing and prints the table."""
    values = flags.FLAGS
    _require_known("recipes", values.recipes, CLAIMS)
    _require_known("ensembles", values.ensembles, ENSEMBLES)
    path, logdir = Path(values.results), Path(values.logdir)
    results = load_results(path) or {"runs": {}, "ensembles": {}}
    for recipe in values.recipes:
        seeds = min(values.seeds, CLAIMS[recipe].seeds)
        complete_runs(
            results["runs"].setdefault(recipe, {}),
            recipe,
            *_ALL_IMAGES,
            *(_name_teachers(recipe, results["runs"], logdir) if seeds else ()),
            seeds=seeds,
            data_dir=Path(values.data_dir),
            logdir=logdir,
            save=lambda: write_json(path, results),
        )
    for name in values.ensembles:
        members = _list_members(ENSEMBLES[name].recipes, results["runs"])
        if results["ensembles"].get(name, {}).get("members") != list(members):
            results["ensembles"][name] = _score_ensemble(name, members, logdir)
            write_json(path, results)
    print(
        format_table(
            {recipe: results["runs"][recipe] for recipe in values.recipes},
            {name: results["ensembles"][name] for name in values.ensembles},
        )
    )


def _require_known(flag: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"--{flag}={name}: expected some of {', '.join(known)}")


def _list_members(recipes: Sequence[str], results: dict[str, Any]) -> dict[str, Any]:
    """Returns all runs of some recipes by the names of their folders.

    Raises:
      UserError: there is none of one of them.
    """
    members = {}
    for recipe in recipes:
        if not results.get(recipe):
            raise UserError(f"no run of {recipe} is there; give it to --recipes as well, before")
        for seed, run in results[recipe].items():
            members[run_folder(Path(), recipe, seed).name] = run
    return members


def _name_teachers(recipe: str, results: dict[str, Any], logdir: Path) -> list[str]:
    """Returns the flag with the runs that a recipe learns from; none for most recipes."""
    if not (teacher := CLAIMS[recipe].teacher):
        return []
    return [f"--teacher={_join(_list_members([teacher], results), logdir)}"]


def _join(members: Collection[str], logdir: Path) -> str:
    return ",".join(str(logdir / member) for member in members)


def _score_ensemble(name: str, members: dict[str, Any], logdir: Path) -> dict[str, Any]:
    """Scores runs together on the test split; they are trained already."""
    shifts = ENSEMBLES[name].test_time_shifts
    test = json.loads(
        run_script(
            *("eval/evaluate.py", f"--logdir={_join(members, logdir)}", "--json"),
            f"--test_time_shifts={shifts}",
        )
    )
    return {
        "members": list(members),
        "test_time_shifts": shifts,
        "test_accuracy": test["accuracy"],
        "seconds": sum(run["seconds"] for run in members.values()),
        "commit": current_commit(),
    }


def format_table(results: dict[str, dict[str, Any]], ensembles: dict[str, dict[str, Any]]) -> str:
    """Returns the results as a table in Markdown.

    Args:
      results: the runs of each recipe, by seed, as the results' file holds them.
      ensembles: the score of each ensemble, in the same way.

    Returns:
      The table's lines: what is claimed, accuracy on the test split in per cent as mean ± standard
      deviation (n runs), and the training's median seconds; of an ensemble, those of all members.
    """
    lines = ["| recipe | what | to reach | reached (%) | training (s) |", "|---|---|--:|--:|--:|"]
    for recipe, by_seed in results.items():
        claim, runs = CLAIMS[recipe], list(by_seed.values())
        seconds = f"{statistics.median(run['seconds'] for run in runs):,.0f}" if runs else ""
        lines.append(
            f"| `{recipe}` | {claim.what} | {claim.to_reach} "
            f"| {format_accuracy(runs)} | {seconds} |"
        )
    for name, score in ensembles.items():
        lines.append(
            f"| `{name}` | {len(score['members'])} runs as one, with test-time shifts "
            f"| {ENSEMBLES[name].to_reach} "
            f"| {100 * score['test_accuracy']:.2f} | {score['seconds']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
