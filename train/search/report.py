"""Tells what a search found: a table, a CSV, a recipe, pictures."""

from __future__ import annotations

import csv
import io
import math
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from model_definition.run_dir import write_atomically
from train.search.options import SearchOptions
from train.search.pictures import make_evaluator, write_pictures
from train.search.progress import tell_time
from train.search.search import SearchResult
from train.search.settings import Settings
from train.search.space import Dimension
from train.search.trials import Outcome, folder_of, list_ended, rank

CSV_NAME = "trials.csv"
RECIPE_NAME = "best_recipe.txt"

_MOST_ROWS = 10
_FEWEST_FOR_IMPORTANCE = 5  # finished trials; fewer say nothing


@dataclass(frozen=True)
class Report:
    """What a search found.

    Attributes:
      logdir: the search's folder.
      dimensions: the names of what was searched, in the order of the space.
      outcomes: the trials that have ended, by place.
      best: the finished ones, the best first.
      importances: how much each dimension decides, their sum 1, the largest first; empty where too
        few trials were finished.
      noise: by how much two trials' accuracies may differ by chance.
      num_validated: how many images each was validated on.
      recipe: the path of the best one's recipe; None where no trial was finished.
      train_limit: on how many images that trains, if not on all.
      asked: how many trials there shall be; None where the time decides.
      stopped_by_signal: whether the search is to be taken up again.
    """

    logdir: Path
    dimensions: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    best: tuple[Outcome, ...]
    importances: Mapping[str, float]
    noise: float
    num_validated: int
    recipe: Path | None
    train_limit: int | None
    asked: int | None
    stopped_by_signal: bool

    def to_json(self) -> dict[str, Any]:
        """Returns everything, as `--json` prints it."""
        return {
            "logdir": str(self.logdir),
            "trials": [self._row(outcome) for outcome in self.outcomes],
            "best": self._row(self.best[0]) if self.best else None,
            "recipe": str(self.recipe) if self.recipe else None,
            "importances": dict(self.importances),
            "num_validated": self.num_validated,
            "noise": self.noise,
            "stopped_by_signal": self.stopped_by_signal,
        }

    def _row(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "trial": outcome.place,
            "logdir": str(folder_of(self.logdir, outcome.place)),
            "state": outcome.state,
            **{name: outcome.score.get(name) for name in ("accuracy", "loss", "step")},
            "total_steps": outcome.total_steps,
            "seconds": outcome.seconds,
            "failure": outcome.failure,
            "values": dict(outcome.drawn),
        }


def describe_search(result: SearchResult, settings: Settings, options: SearchOptions) -> Report:
    """Works out what a search found.

    Args:
      result: what came of it.
      settings: what was searched.
      options: how.
    """
    best = rank(result.outcomes)
    num_validated = result.num_validated
    accuracy = best[0].score["accuracy"] if best else 0.0
    return Report(
        logdir=options.logdir,
        dimensions=tuple(one.name for one in sorted(settings.dimensions, key=_line_of)),
        outcomes=tuple(result.outcomes),
        best=tuple(best),
        importances=_importances(
            _plain_study(result.study, options.logdir, with_pruned=True), len(best)
        ),
        noise=1.96 * math.sqrt(2 * accuracy * (1 - accuracy) / num_validated),
        num_validated=num_validated,
        recipe=options.logdir / RECIPE_NAME if best else None,
        train_limit=settings.flags(best[0].drawn).get("train_limit") if best else None,
        asked=options.trials,
        stopped_by_signal=result.stopped_by_signal,
    )


def _line_of(dimension: Dimension) -> int:
    return dimension.places[0].line


def _plain_study(study: Study, logdir: Path, *, with_pruned: bool) -> Study:
    """Copies the trials that have ended, so that their numbers are their places.

    Args:
      study: the study.
      logdir: the search's folder, after which the copy is named.
      with_pruned: whether those that were pruned count as finished, with what they had reached.
    """
    plain = optuna.create_study(study_name=logdir.absolute().name, direction="maximize")
    for trial in list_ended(study).values():
        if with_pruned and trial.state == TrialState.PRUNED:
            trial = optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=trial.value
            )
        plain.add_trial(trial)
    return plain


def _importances(study: Study, num_finished: int) -> dict[str, float]:
    """Computes the importances by PED-ANOVA.

    Watanabe and others 2023, https://arxiv.org/abs/2304.10255: which parameters lead to the best
    trials. Unlike fANOVA it takes those that not every trial has, and needs no forest of trees.
    Pruned trials count: what is bad was mostly pruned, and without it nothing would seem to matter.
    """
    if num_finished < _FEWEST_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few trials with some parameter
        found = optuna.importance.get_param_importances(study, evaluator=make_evaluator())
    return {name: round(value, 4) for name, value in found.items()}


def write_report(report: Report, result: SearchResult, settings: Settings, logdir: Path) -> None:
    """Writes `trials.csv`, the best trial's recipe, and the pictures.

    Args:
      report: what was found.
      result: what came of the search.
      settings: what was searched.
      logdir: the search's folder.
    """
    write_atomically(logdir / CSV_NAME, _to_csv(report))
    if report.best:
        write_atomically(logdir / RECIPE_NAME, _to_recipe(report, settings))
        write_pictures(
            _plain_study(result.study, logdir, with_pruned=False),
            _plain_study(result.study, logdir, with_pruned=True) if report.importances else None,
            logdir,
        )


def _to_csv(report: Report) -> str:
    facts = ["trial", "state", "accuracy", "loss", "step", "total_steps", "seconds"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *report.dimensions, "failure"])
    for row in report.to_json()["trials"]:
        values = [row["values"].get(name) for name in report.dimensions]
        writer.writerow([*(row[name] for name in facts), *values, row["failure"]])
    return text.getvalue()


def _to_recipe(report: Report, settings: Settings) -> str:
    best = report.best[0]
    lines = [
        f"# The best of {len(report.outcomes)} trials: {best.score['accuracy']:.2%} of "
        f"{report.num_validated:,} validation images.",
        f"# Trial {best.place} of a search of {settings.space_path.name}.",
    ]
    if report.train_limit is not None:
        lines.append("# To train on all images, remove the line of --train_limit.")
    for name, value in settings.flags(best.drawn).items():
        if name == "model" and Path(value).is_file():
            value = Path(value).absolute()
        values = value if isinstance(value, list) else [value]
        lines += [f"--{name}={one}" for one in values]
    return "".join(f"{line}\n" for line in lines)


def print_report(report: Report) -> None:
    """Prints the best trials, the importances, and what to do next.

    Args:
      report: what was found.
    """
    counts = {state: 0 for state in ("finished", "pruned", "failed")}
    for outcome in report.outcomes:
        counts[outcome.state] += 1
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    seconds = sum(outcome.seconds for outcome in report.outcomes)
    is_within = report.asked is not None and len(report.outcomes) <= report.asked
    of = f" of {report.asked}" if is_within else ""
    print(f"trials: {len(report.outcomes)}{of}, {told or 'none has ended'}; {tell_time(seconds)}")
    if report.best:
        print()
        print(_table(report))
        print(
            f"differences below {report.noise:.2%} are within the noise of "
            f"{report.num_validated:,} validation images"
        )
    if report.importances:
        print("\nimportance for reaching the best quarter")
        width = max(map(len, report.importances))
        for name, share in report.importances.items():
            print(f"  {name:<{width}}  {share:6.1%}  {'█' * round(40 * share)}".rstrip())
    if report.stopped_by_signal:
        print("\nstopped; run the same command again to go on")
    elif report.recipe:
        recipe, logdir = shlex.quote(str(report.recipe)), shlex.quote(str(report.logdir))
        print("\nnext:")
        print(f"  python train/train_lenet.py --recipe={recipe} --logdir=runs/best")
        if report.train_limit is not None:
            print(
                f"    # on {report.train_limit:,} images, as the trials; on all without the "
                "recipe's line of --train_limit"
            )
        print(f"  tensorboard --logdir {logdir}")


def _table(report: Report) -> str:
    head = ["trial", "validation", "loss", "time", *report.dimensions]
    rows = [head]
    for outcome in report.best[:_MOST_ROWS]:
        rows.append(
            [
                str(outcome.place),
                f"{outcome.score['accuracy']:.2%}",
                f"{outcome.score['loss']:.4f}",
                tell_time(outcome.seconds),
                *(str(outcome.drawn.get(name, "")) for name in report.dimensions),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(f"  {line}" for line in lines)
