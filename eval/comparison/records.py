"""What a run folder tells of the training: its curves, and how long it took."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.command_line import UserError
from model_definition.checkpoints import checkpoint_step, list_checkpoints
from model_definition.run_dir import HISTORY_NAME, TRAINING_TIME_NAME, Run


@dataclass(frozen=True)
class LearningCurves:
    """How a run got better; each a list of (training images seen, value).

    Attributes:
      training_loss: cross-entropy of single batches, in nats.
      validation_loss: cross-entropy of the validation split, in nats.
      validation_accuracy: of the validation split, 0 to 1.
    """

    training_loss: tuple[tuple[int, float], ...] = ()
    validation_loss: tuple[tuple[int, float], ...] = ()
    validation_accuracy: tuple[tuple[int, float], ...] = ()


def load_learning_curves(run: Run) -> LearningCurves:
    """Reads a run's curves: the validations, and what it wrote for TensorBoard.

    Args:
      run: the run.

    Returns:
      The curves. They are empty where the run does not tell its batch size, as one that was
      imported, and each where nothing is there.

    Raises:
      UserError: the list of validations is damaged.
    """
    images_a_step = run.config.get("batch_size")
    if not isinstance(images_a_step, int):
        return LearningCurves()
    history = _load_list(run, HISTORY_NAME, ("step", "accuracy", "loss"))
    training: list[tuple[int, float]] = []
    if any((run.logdir / "train").glob("events.out.tfevents.*")):
        events = EventAccumulator(str(run.logdir / "train"), {"scalars": 0, "images": 1}).Reload()
        if "loss" in events.Tags()["scalars"]:
            training = [(e.step * images_a_step, float(e.value)) for e in events.Scalars("loss")]
    return LearningCurves(
        tuple(training),
        tuple((entry["step"] * images_a_step, entry["loss"]) for entry in history),
        tuple((entry["step"] * images_a_step, entry["accuracy"]) for entry in history),
    )


def load_training_seconds(run: Run) -> float | None:
    """Reads how many seconds a run's steps took, over all the processes that it was trained in.

    Args:
      run: the run.

    Returns:
      The seconds up to its last checkpoint; None where nothing tells.

    Raises:
      UserError: the file is damaged.
    """
    entries = _load_list(run, TRAINING_TIME_NAME, ("step", "seconds"))
    checkpoints = list_checkpoints(run.logdir)
    if checkpoints:
        last = checkpoint_step(checkpoints[0])
        entries = [entry for entry in entries if entry["step"] == last]
    return float(entries[-1]["seconds"]) if entries else None


def _load_list(run: Run, name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Reads a file of the run folder that lists numbers by step; empty where it is not there."""
    path = run.logdir / name
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            {key: float(entry[key]) for key in keys} | {"step": int(entry["step"])}
            for entry in entries
        ]
    except (ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: cannot be read ({reason}); restore it, or remove it to do without"
        ) from error
