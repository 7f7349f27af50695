"""Runs whose answers are made up, for the tests of comparing that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.schema import Manifest, Shard, Split
from eval.comparison.answers import Answers, ComparedSplit
from eval.comparison.comparing import Comparison
from eval.comparison.disagreement import find_disagreement
from eval.comparison.entries import Entry
from eval.comparison.grouping import group_runs
from eval.comparison.measuring import Measured
from eval.comparison.records import LearningCurves
from eval.comparison.significance import compare_pairs
from eval.evaluation import Evaluation
from eval.metrics import StreamingMetrics
from model_definition.ensemble import Ensemble, Member
from model_definition.run_dir import Run

CLASS_NAMES = ("ant", "bee", "cow")


def make_run(folder: str, *, config: Mapping[str, Any] | None = None, **changes: Any) -> Run:
    """Describes a run that is on no disk; `config` replaces flags, None is an imported run's."""
    facts: dict[str, Any] = {
        "logdir": Path(folder),
        "model": "tiny",
        "architecture_text": "flatten\noutput\n",
        "data_dir": "data/tiny",
        "dataset_name": "tiny",
        "dataset_digest": "d" * 64,
        "image_shape": (5, 4, 1),
        "image_preparation": "resize",
        "class_names": CLASS_NAMES,
        "config": {} if config is None else {"batch_size": 8, "seed": 0, "epochs": 3.0, **config},
        "versions": {},
    }
    return Run(**{**facts, **changes})


def make_measured(
    name: str,
    predictions: Sequence[int],
    *,
    labels: Sequence[int] | None = None,
    confidence: float = 0.9,
    run: Run | None = None,
    members: Sequence[Run] = (),
    checkpoint: str = "best/model.ckpt-20",
    class_names: tuple[str, ...] = CLASS_NAMES,
    **changes: Any,
) -> Measured:
    """Makes a run that reads images as it is told; without labels all are of class 0.

    With members it is their average instead.
    """
    truth = np.zeros(len(predictions), np.int64) if labels is None else np.array(labels)
    read = np.array(predictions)
    metrics = StreamingMetrics(len(class_names), num_mistakes=4)
    rest = (1 - confidence) / (len(class_names) - 1)
    probabilities = np.full((len(read), len(class_names)), rest, np.float32)
    probabilities[np.arange(len(read)), read] = confidence
    metrics.update(np.zeros((len(read), 5, 4, 1), np.float32), truth, probabilities)
    runs = tuple(members) or (run or make_run(f"runs/{name}"),)
    accuracy = float((read == truth).mean())
    evaluation = Evaluation(
        dataset="tiny",
        split="test",
        members=tuple(Member(one, one.logdir / checkpoint) for one in runs),
        member_accuracies=(accuracy,) * len(runs),
        test_time_shifts=0,
        class_names=class_names,
        accuracy=accuracy,
        loss=0.25,
        mean_squared_error=0.0625,
        metrics=metrics,
    )
    facts: dict[str, Any] = {
        "curves": LearningCurves(),
        "num_parameters": 63,
        "multiply_adds": 60,
        "training_seconds": 12.5,
        "latency_seconds": 0.0005,
        "model_bytes": 2_000_000,
    }
    answers = Answers(evaluation, truth, read, probabilities.max(axis=1))
    entry = Entry(name, Ensemble(runs, None if members else runs[0].logdir))
    return Measured(entry=entry, answers=answers, **{**facts, **changes})


def make_comparison(*measured: Measured, split: str = "test") -> Comparison:
    """Compares made-up runs, as if they had answered a split of so many images."""
    n = len(measured[0].answers.labels)
    manifest = Manifest(
        name="tiny",
        image_shape=(5, 4, 1),
        image_format="raw",
        image_preparation="resize",
        class_names=measured[0].answers.evaluation.class_names,
        splits={split: Split(n, (), (Shard("s", n, 1, ""),))},
        conversion={},
        sources=(),
        record_checksums={"name": "", "sha256": ""},
    )
    models = group_runs(measured)
    compared = ComparedSplit(Path("data/tiny"), manifest, (split,))
    return Comparison("zoo", compared, models, compare_pairs(models), find_disagreement(models))
