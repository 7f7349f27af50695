"""Runs the recipes behind the claims of accuracy, and prints what they reach.

Each recipe was chosen on the validation split. Here it is trained on all 60,000 training images,
with nothing changed but the data, and the last weights are scored on the test split, once a seed;
every seed counts. What is there already is not trained again, so a run that was stopped goes on.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, write_json
from benchmarks.recipe_runs import complete_runs, format_accuracy, load_results
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
    """

    what: str
    accuracy: float
    seeds: int
    seconds: float | None = None


CLAIMS = {
    "speed99_lenet": Claim("LeNet, time to 99 %", 99.0, 5, 15.0),
    "speed99": Claim("`fast`, time to 99 %", 99.0, 5, 5.0),
    "resnet_mini": Claim("time to 99.5 %", 99.5, 5, 150.0),
    "tiny": Claim("under 10,000 parameters", 99.50, 3),
}


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder.")
    flags.DEFINE_string("logdir", "runs/accuracy", "Where the run folders go.")
    flags.DEFINE_list("recipes", list(CLAIMS), "Which to run.")
    flags.DEFINE_integer("seeds", 5, "At most so many runs of each; 0 only prints.", 0)
    results = str(ROOT / "benchmarks/results/accuracy.json")
    flags.DEFINE_string("results", results, "The results' file.")


def main(argv: list[str]) -> None:
    """Trains what is missing and prints the table."""
    values = flags.FLAGS
    for recipe in values.recipes:
        if recipe not in CLAIMS:
            raise UserError(f"--recipes={recipe}: expected some of {', '.join(CLAIMS)}")
    path = Path(values.results)
    results = load_results(path)
    for recipe in values.recipes:
        complete_runs(
            results.setdefault(recipe, {}),
            recipe,
            *_ALL_IMAGES,
            seeds=min(values.seeds, CLAIMS[recipe].seeds),
            data_dir=Path(values.data_dir),
            logdir=Path(values.logdir),
            save=lambda: write_json(path, results),
        )
    print(format_table({recipe: results[recipe] for recipe in values.recipes}))


def format_table(results: dict[str, dict[str, Any]]) -> str:
    """Returns the results as a table in Markdown.

    Args:
      results: the runs of each recipe, by seed, as the results' file holds them.

    Returns:
      The table's lines: what is claimed, accuracy on the test split in per cent as mean ± standard
      deviation (n runs), and the training's median seconds.
    """
    lines = ["| recipe | what | to reach | reached (%) | training (s) |", "|---|---|--:|--:|--:|"]
    for recipe, by_seed in results.items():
        claim, runs = CLAIMS[recipe], list(by_seed.values())
        limit = "" if claim.seconds is None else f" in {claim.seconds:,.0f} s"
        seconds = f"{statistics.median(run['seconds'] for run in runs):,.0f}" if runs else ""
        lines.append(
            f"| `{recipe}` | {claim.what} | {claim.accuracy:.2f} %{limit} "
            f"| {format_accuracy(runs)} | {seconds} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
