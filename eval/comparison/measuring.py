"""Everything that is measured of the compared runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from eval.comparison.answers import Answers, ComparedSplit, answer_split, read_images
from eval.comparison.entries import Entry
from eval.comparison.latency import measure_latencies
from eval.comparison.records import LearningCurves, load_learning_curves, load_training_seconds
from model_definition.architecture import parse_run_architecture

_LATENCY_IMAGES = 100

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Measured:
    """One entry, measured; what an ensemble costs is the sum of what its members cost.

    Attributes:
      entry: what was measured.
      answers: to every image of the split.
      curves: how it learnt; an ensemble has none of its own.
      num_parameters: how many numbers training could change.
      multiply_adds: for one image, its shifted copies included.
      training_seconds: that its steps took; None where nothing tells, be it of one member.
      latency_seconds: for one image, by the exported model, once for each shifted copy; of an
        ensemble the sum of its members' own latencies, as if one ran after the other. None where a
        model is missing.
      model_bytes: of the exported model; None where one is missing.
    """

    entry: Entry
    answers: Answers
    curves: LearningCurves
    num_parameters: int
    multiply_adds: int
    training_seconds: float | None
    latency_seconds: float | None
    model_bytes: int | None


def measure(
    entries: Sequence[Entry], split: ComparedSplit, *, on_done: Callable[[int], object]
) -> tuple[Measured, ...]:
    """Measures entries on a split.

    Args:
      entries: what to measure.
      split: the images.
      on_done: called with 1 for each entry whose answers are there.

    Returns:
      One for each entry, in their order.

    Raises:
      UserError: a run or the dataset is damaged.
    """
    # What is quick comes first, so that a damaged file is found before the long work.
    curves = [
        load_learning_curves(entry.ensemble.first) if entry.ensemble.is_single else LearningCurves()
        for entry in entries
    ]
    # A run that is also a member of an ensemble is timed once.
    runs = {run.logdir.resolve(): run for entry in entries for run in entry.ensemble.runs}
    seconds = {folder: load_training_seconds(run) for folder, run in runs.items()}
    architectures = {folder: parse_run_architecture(run) for folder, run in runs.items()}
    exported = {folder: run for folder, run in runs.items() if run.export_path.is_file()}
    sizes = {folder: run.export_path.stat().st_size for folder, run in exported.items()}
    images = read_images(split, np.arange(min(_LATENCY_IMAGES, split.num_examples)))
    latencies = measure_latencies(exported, images)
    latencies = {folder: split.num_copies * time for folder, time in latencies.items()}
    measured = []
    for number, entry in enumerate(entries):
        folders = [run.logdir.resolve() for run in entry.ensemble.runs]
        measured.append(
            Measured(
                entry=entry,
                answers=answer_split(entry, split),
                curves=curves[number],
                num_parameters=sum(architectures[folder].num_parameters for folder in folders),
                multiply_adds=split.num_copies
                * sum(architectures[folder].multiply_adds for folder in folders),
                training_seconds=_add_up([seconds[folder] for folder in folders]),
                latency_seconds=_add_up([latencies.get(folder) for folder in folders]),
                model_bytes=_add_up([sizes.get(folder) for folder in folders]),
            )
        )
        on_done(1)
    return tuple(measured)


def _add_up(numbers: Sequence[_Number | None]) -> _Number | None:
    """Returns the sum; None where one is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], start=known[0]) if len(known) == len(numbers) else None
