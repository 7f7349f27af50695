"""Everything that is measured of the compared runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison.answers import Answers, ComparedSplit, answer_split, read_images
from eval.comparison.entries import Entry
from eval.comparison.latency import measure_latencies
from eval.comparison.records import LearningCurves, load_learning_curves, load_training_seconds
from model_definition.architecture import parse_run_architecture

_LATENCY_IMAGES = 100


@dataclass(frozen=True)
class Measured:
    """One entry, measured.

    Attributes:
      entry: what was measured.
      answers: to every image of the split.
      curves: how it learnt.
      num_parameters: how many numbers training could change.
      multiply_adds: for one image.
      training_seconds: that its steps took; None where nothing tells.
      latency_seconds: for one image, by the exported model; None where there is none.
      model_bytes: of the exported model; None where there is none.
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
    curves = [load_learning_curves(entry.run) for entry in entries]
    seconds = [load_training_seconds(entry.run) for entry in entries]
    architectures = [parse_run_architecture(entry.run) for entry in entries]
    exported = {e.name: e.run for e in entries if e.run.export_path.is_file()}
    images = read_images(split, np.arange(min(_LATENCY_IMAGES, split.num_examples)))
    latencies = measure_latencies(exported, images)
    measured = []
    for number, entry in enumerate(entries):
        is_exported = entry.name in exported
        measured.append(
            Measured(
                entry=entry,
                answers=answer_split(entry, split),
                curves=curves[number],
                num_parameters=architectures[number].num_parameters,
                multiply_adds=architectures[number].multiply_adds,
                training_seconds=seconds[number],
                latency_seconds=latencies.get(entry.name),
                model_bytes=entry.run.export_path.stat().st_size if is_exported else None,
            )
        )
        on_done(1)
    return tuple(measured)
