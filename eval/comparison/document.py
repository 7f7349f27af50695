"""A comparison as plain values, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from eval.comparison.comparing import Comparison
from eval.comparison.grouping import Model, Spread
from eval.comparison.measuring import Measured
from eval.comparison.output import KIND
from eval.comparison.significance import LEVEL, Difference
from eval.comparison.table import COLUMNS, Column, Row, make_rows
from eval.comparison.wording import describe_difference, describe_methods, describe_tests

FORMAT_VERSION = 1


def make_document(comparison: Comparison) -> dict[str, Any]:
    """Returns everything as results.json holds it; numbers that are not known are null."""
    split = comparison.split
    rows = [row for row in make_rows(comparison.models) if not row.is_run]
    return {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "name": comparison.name,
        "dataset": split.manifest.name,
        "dataset_digest": split.manifest.digest,
        "split": "+".join(split.splits),
        "num_examples": split.num_examples,
        "test_time_shifts": split.test_time_shifts,
        "class_names": list(split.manifest.class_names),
        "models": [
            _describe_model(model, row) for model, row in zip(comparison.models, rows, strict=True)
        ],
        "tests": describe_tests(comparison),
        "level": LEVEL,
        "correction": "holm",
        "differences": [_describe_difference(each) for each in comparison.differences],
        "disputed": _describe_images(comparison.disagreement.disputed),
        "missed_by_all": _describe_images(comparison.disagreement.missed_by_all),
        "notes": describe_methods(comparison),
    }


def _describe_model(model: Model, row: Row) -> dict[str, Any]:
    return {
        "name": model.name,
        "accuracy_95": list(row.accuracy_95),
        **{
            column.key: _describe_spread(column, spread)
            for column, spread in zip(COLUMNS, row.spreads, strict=True)
        },
        "runs": [_describe_run(run) for run in model.runs],
    }


def _describe_spread(column: Column, spread: Spread | None) -> dict[str, Any] | int | None:
    if spread is None:
        return None
    return asdict(spread) if column.varies else round(spread.mean)


def _describe_run(run: Measured) -> dict[str, Any]:
    evaluation = run.answers.evaluation
    return {
        "name": run.entry.name,
        "logdir": run.entry.ensemble.logdir,
        "seed": run.entry.seed,
        "versions": [member.version for member in run.entry.ensemble.runs],
        "checkpoint": evaluation.checkpoint,
        "accuracy_95": list(evaluation.accuracy_interval),
        **{column.key: column.value(run) for column in COLUMNS},
        "confusion_matrix": evaluation.metrics.confusion.tolist(),
    }


def _describe_difference(difference: Difference) -> dict[str, Any]:
    return {
        "better": difference.better.name,
        "worse": difference.worse.name,
        "accuracy_difference": difference.points,
        "better_alone": difference.better_alone,
        "worse_alone": difference.worse_alone,
        "p_value": difference.p_value,
        "corrected_p_value": difference.corrected_p_value,
        "is_significant": difference.is_significant,
        "text": describe_difference(difference),
    }


def _describe_images(indices: np.ndarray) -> dict[str, Any]:
    """Returns how many images there are, and their places in the split, counted from 0."""
    return {"count": len(indices), "indices": indices.tolist()}
