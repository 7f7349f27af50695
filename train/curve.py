"""A learning curve: what runs on different numbers of training images reach.

Its folder holds the run folders, such as `600-images-seed-1`, and

    curve.json  what every run has in common, and the points so far
    curve.csv   the points, one run a row
    curve.png   the chart

All three are rewritten whole with every point, so a curve that was stopped goes on.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from data_prep.schema import MANIFEST_NAME
from input_pipeline.folds import parse_fold
from model_definition import run_dir
from model_definition.run_dir import write_atomically
from train.config import TrainConfig, changed_flags

FORMAT_VERSION = 1
CURVE_NAME = "curve.json"
CSV_NAME = "curve.csv"
CHART_NAME = "curve.png"
FOLDS = "folds"  # what is measured on where every image of the few is validated on once


@dataclass(frozen=True)
class PointKey:
    """Which run of a curve.

    Attributes:
      images: the number of training images, those of the fold included.
      seed: decides which images these are, and the run.
      fold: the fold that is left out and measured on, such as 2/5; None for none.
    """

    images: int
    seed: int
    fold: str | None = None

    @property
    def folder(self) -> str:
        """The name of the run's folder."""
        fold = f"-fold-{self.fold.replace('/', '-of-')}" if self.fold else ""
        return f"{self.images}-images-seed-{self.seed}{fold}"


@dataclass(frozen=True)
class Point:
    """What one run reached.

    Attributes:
      images: as of its key.
      seed: as of its key.
      fold: as of its key.
      accuracy: share of right answers, 0 to 1.
      loss: mean cross-entropy, in nats.
      mean_squared_error: of the probabilities.
      measured_images: on how many images these were measured.
      step: of the checkpoint that was measured.
    """

    images: int
    seed: int
    fold: str | None
    accuracy: float
    loss: float
    mean_squared_error: float
    measured_images: int
    step: int

    @property
    def key(self) -> PointKey:
        """Which run it is."""
        return PointKey(self.images, self.seed, self.fold)


@dataclass(frozen=True)
class Curve:
    """What all runs of a curve have in common.

    Attributes:
      dataset_name: the dataset's name.
      dataset_digest: `Manifest.digest` of it.
      architecture_text: the model.
      measured_on: a split such as `test`, or `FOLDS`.
      config: the training flags, by name; a run has its own train_limit, seed and, with folds,
        validate_on.
    """

    dataset_name: str
    dataset_digest: str
    architecture_text: str
    measured_on: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """The runs of one number of images.

    Attributes:
      images: how many were trained on.
      runs: how many runs there are.
      mean: of their accuracies.
      deviation: the sample standard deviation; None of one run.
      lowest: the lowest accuracy.
      highest: the highest.
    """

    images: int
    runs: int
    mean: float
    deviation: float | None
    lowest: float
    highest: float


def run_config(config: TrainConfig, key: PointKey) -> TrainConfig:
    """Returns what a run of the curve is asked to do.

    Args:
      config: what all runs have in common.
      key: which run.
    """
    validate_on = key.fold or config.validate_on
    return replace(config, train_limit=key.images, seed=key.seed, validate_on=validate_on)


def load_points(logdir: Path, curve: Curve) -> list[Point]:
    """Reads the points that a folder holds already.

    Args:
      logdir: the curve's folder; it need not be there.
      curve: what is asked for.

    Returns:
      The points, in the order in which they were measured.

    Raises:
      UserError: the folder holds something else, another curve, or a damaged one.
    """
    for name, what in ((MANIFEST_NAME, "dataset"), (run_dir.RUN_NAME, "run")):
        if (logdir / name).exists():
            raise UserError(f"{logdir}: a {what} folder; name another folder with --logdir")
    path = logdir / CURVE_NAME
    if not path.is_file():
        return []
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {facts['format_version']!r}")
        found = Curve(**facts["curve"])
        points = [Point(**point) for point in facts["points"]]
        for number, point in enumerate(points, start=1):
            _check_point(number, point)
        _require_same_curve(logdir, found, curve)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise UserError(
            f"{path}: not a learning curve ({reason}); restore it, or name another --logdir"
        ) from error
    return points


def _check_point(number: int, point: Point) -> None:
    """Raises a ValueError where a value cannot be what a run reached."""
    for names, is_right, expected in (
        (("images", "measured_images"), _is_whole(1), "a whole number from 1 on"),
        (("seed", "step"), _is_whole(0), "a whole number from 0 on"),
        (("accuracy",), _is_number(1.0), "a number from 0 to 1"),
        (("loss", "mean_squared_error"), _is_number(math.inf), "a number from 0 on"),
        (("fold",), _is_fold, "a fold such as 1/5, or null"),
    ):
        for name in names:
            value = getattr(point, name)
            if not is_right(value):
                raise ValueError(
                    f"point {number}: {name} is {json.dumps(value)}, expected {expected}"
                )


def _is_whole(low: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and value >= low


def _is_number(high: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and 0 <= value <= high


def _is_fold(value: Any) -> bool:
    return value is None or (isinstance(value, str) and parse_fold(value) is not None)


def _require_same_curve(logdir: Path, found: Curve, asked: Curve) -> None:
    """Refuses to go on with runs that would not be comparable."""
    changed = changed_flags(found.config, dict(asked.config))
    differences = changed["refused"] + changed["extended"]
    for what, before, now in (
        ("dataset", found.dataset_digest[:12], asked.dataset_digest[:12]),
        ("measured on", found.measured_on, asked.measured_on),
    ):
        if before != now:
            differences.append(f"{what}: {before} in the curve, {now} now")
    if found.architecture_text != asked.architecture_text:
        differences.append("the model's text is another")
    if differences:
        raise UserError(
            f"{logdir}: holds another curve ({'; '.join(differences)}); give the same flags to go "
            "on with it, or name another --logdir"
        )


def write_curve(logdir: Path, curve: Curve, points: Sequence[Point]) -> None:
    """Writes `curve.json` and `curve.csv`, each whole or not at all.

    Args:
      logdir: the curve's folder.
      curve: what all runs have in common.
      points: what the runs reached.
    """
    facts = {
        "format_version": FORMAT_VERSION,
        "curve": asdict(curve),
        "points": [asdict(point) for point in points],
    }
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([*(field.name for field in fields(Point)), "measured_on", "folder"])
    for point in sorted(points, key=lambda p: (p.images, p.seed, p.fold or "")):
        values = ["" if value is None else value for value in asdict(point).values()]
        writer.writerow([*values, curve.measured_on, point.key.folder])
    write_atomically(logdir / CSV_NAME, table.getvalue())
    write_atomically(logdir / CURVE_NAME, json.dumps(facts, indent=1) + "\n")


def summarize(points: Sequence[Point]) -> list[Summary]:
    """Groups points by their number of images.

    Args:
      points: of one curve, in any order. The folds of one seed count as one run, whose accuracy
        is that over all of their images.

    Returns:
      A summary for each number of images, the fewest first.
    """
    runs: dict[int, dict[int, list[Point]]] = {}
    for point in points:
        runs.setdefault(point.images, {}).setdefault(point.seed, []).append(point)
    summaries = []
    for images in sorted(runs):
        accuracies = [
            sum(point.accuracy * point.measured_images for point in folds)
            / sum(point.measured_images for point in folds)
            for folds in runs[images].values()
        ]
        summaries.append(
            Summary(
                images=images,
                runs=len(accuracies),
                mean=statistics.mean(accuracies),
                deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                lowest=min(accuracies),
                highest=max(accuracies),
            )
        )
    return summaries


def format_table(summaries: Sequence[Summary]) -> str:
    """Returns the summaries as lines of text, under a heading."""
    lines = [
        f"{'images':>8}{'runs':>6}{'accuracy':>10}{'deviation':>11}{'lowest':>9}{'highest':>9}"
    ]
    for entry in summaries:
        deviation = "" if entry.deviation is None else f"{entry.deviation:.2%}"
        lines.append(
            f"{entry.images:>8,}{entry.runs:>6}{entry.mean:>10.2%}{deviation:>11}"
            f"{entry.lowest:>9.2%}{entry.highest:>9.2%}"
        )
    return "\n".join(lines)
