"""The table of a comparison: one row a model, and under a model of several runs one row a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.comparison.grouping import Model, Spread
from eval.comparison.measuring import Measured
from eval.metrics import wilson_interval

UNKNOWN = "\N{EN DASH}"


@dataclass(frozen=True)
class Column:
    """One number of every run.

    Attributes:
      key: its name in results.csv and results.json.
      title: its name for people.
      value: takes it from a run; None where the run does not tell.
      digits: how it is written for people, as a format.
      unit: stands behind it.
      factor: turns it into that unit.
      varies: whether the runs of a model differ in it, so that it has a standard deviation; else
        it is a whole number.
    """

    key: str
    title: str
    value: Callable[[Measured], float | None]
    digits: str
    unit: str = ""
    factor: float = 1.0
    varies: bool = True

    def write(self, spread: Spread | None) -> str:
        """Writes mean and standard deviation for people."""
        if spread is None:
            return UNKNOWN
        text = f"{self.factor * spread.mean:{self.digits}}"
        if spread.sd is not None and self.varies:
            text += f" ± {self.factor * spread.sd:{self.digits}}"
        return text + self.unit


COLUMNS = (
    Column("accuracy", "accuracy", lambda run: run.answers.evaluation.accuracy, ".2f", "%", 100),
    Column("loss", "cross-entropy", lambda run: run.answers.evaluation.loss, ".4f"),
    Column(
        "mean_squared_error",
        "mean squared error",
        lambda run: run.answers.evaluation.mean_squared_error,
        ".6f",
    ),
    Column(
        "expected_calibration_error",
        "calibration error",
        lambda run: run.answers.evaluation.metrics.expected_calibration_error,
        ".4f",
    ),
    Column("parameters", "parameters", lambda run: run.num_parameters, ",.0f", varies=False),
    Column("multiply_adds", "multiply-adds", lambda run: run.multiply_adds, ",.0f", varies=False),
    Column("training_seconds", "training time", lambda run: run.training_seconds, ",.1f", " s"),
    Column("latency_seconds", "latency", lambda run: run.latency_seconds, ",.3f", " ms", 1_000),
    Column("model_bytes", "size", lambda run: run.model_bytes, ",.2f", " MB", 1e-6, varies=False),
)
INTERVAL_TITLE = "95 % interval"


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
      name: of the model, or of one of its runs.
      model: of the model.
      runs: how many runs it is the mean of.
      is_run: whether it is one run of a model of several.
      seed: of a single run; None where it has none, and for an ensemble or a model of several runs.
      accuracy_95: Wilson's interval of the accuracy, or of the runs' mean accuracy, 0 to 1.
      spreads: mean and standard deviation of every column; None where a run lacks it.
    """

    name: str
    model: str
    runs: int
    is_run: bool
    seed: int | None
    accuracy_95: tuple[float, float]
    spreads: tuple[Spread | None, ...]

    def texts(self) -> list[str]:
        """Returns the cells as people read them, from the accuracy on, its interval behind it."""
        accuracy, *others = (
            column.write(spread) for column, spread in zip(COLUMNS, self.spreads, strict=True)
        )
        low, high = self.accuracy_95
        return [accuracy, f"{100 * low:.2f} to {high:.2%}", *others]


def titles() -> list[str]:
    """Returns the titles of the cells that `Row.texts` gives."""
    first, *others = (column.title for column in COLUMNS)
    return [first, INTERVAL_TITLE, *others]


def make_rows(models: Sequence[Model]) -> list[Row]:
    """Makes the rows of the table.

    Args:
      models: in the order of the rows.

    Returns:
      A row for each model; after that of a model of several runs, one for each of them.
    """
    rows = []
    for model in models:
        rows.append(_make_row(model.name, model, is_run=False))
        if len(model.runs) > 1:
            for run in model.runs:
                alone = Model(model.name, (run,))
                rows.append(_make_row(run.entry.name, alone, is_run=True))
    return rows


def _make_row(name: str, model: Model, *, is_run: bool) -> Row:
    num_examples = len(model.labels)
    num_right = int(model.num_right.sum()) / len(model.runs)
    seeds = [run.entry.seed for run in model.runs]
    return Row(
        name=name,
        model=model.name,
        runs=len(model.runs),
        is_run=is_run,
        seed=seeds[0] if len(seeds) == 1 else None,
        accuracy_95=wilson_interval(num_right, num_examples),
        spreads=tuple(model.spread(column.value) for column in COLUMNS),
    )


def format_rows(rows: Sequence[Row]) -> str:
    """Returns the table as aligned lines of text; runs of a model are indented below it."""
    lines = [["model", "runs", *titles()]]
    for row in rows:
        name, runs = (f"  {row.name}", "") if row.is_run else (row.name, str(row.runs))
        lines.append([name, runs, *row.texts()])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        ).rstrip()
        for line in lines
    )


def write_csv(rows: Sequence[Row]) -> str:
    """Returns the table as CSV with plain numbers; what is not known is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = ["kind", "name", "model", "runs", "seed", "accuracy_95_low", "accuracy_95_high"]
    for column in COLUMNS:
        header += [column.key] + [f"{column.key}_sd"] * column.varies
    writer.writerow(header)
    for row in rows:
        kind = "run" if row.is_run else "model"
        cells = [kind, row.name, row.model, row.runs, row.seed, *row.accuracy_95]
        for column, spread in zip(COLUMNS, row.spreads, strict=True):
            if column.varies:
                cells += [None, None] if spread is None else [spread.mean, spread.sd]
            else:
                cells.append(None if spread is None else round(spread.mean))
        writer.writerow(cells)
    return file.getvalue()
