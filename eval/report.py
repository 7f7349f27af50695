"""An evaluation as text for people, and as summaries for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from tensorboard.plugins.pr_curve import summary as pr_curve_summary

from eval.evaluation import Evaluation
from eval.figures import draw_confusion_matrix, draw_mistakes
from eval.metrics import NUM_THRESHOLDS
from input_pipeline.shifts import count_copies
from model_definition.event_writer import open_event_writer

_WIDEST_MATRIX = 20  # classes; beyond this the picture in TensorBoard is easier to read


def format_text(evaluation: Evaluation) -> str:
    """Returns the evaluation as lines of text."""
    metrics = evaluation.metrics
    low, high = evaluation.accuracy_interval
    lines = [
        f"{evaluation.dataset}, {evaluation.split} split, {metrics.num_examples:,} images, "
        f"{_describe_model(evaluation)}",
        f"  accuracy            {evaluation.accuracy:.2%}  (95 % interval {low:.2%} to {high:.2%})",
        f"  top-2 accuracy      {metrics.top_2_accuracy:.2%}",
        f"  cross-entropy       {evaluation.loss:.4f}",
        f"  mean squared error  {evaluation.mean_squared_error:.6f}",
        f"  calibration error   {metrics.expected_calibration_error:.4f}",
        "",
    ]
    if len(evaluation.members) > 1:
        lines += ["  each alone  checkpoint"]
        for member, accuracy in zip(evaluation.members, evaluation.member_accuracies, strict=True):
            lines.append(f"  {accuracy:>10.2%}  {member.checkpoint}")
        lines.append("")
    width = max(5, *(len(name) for name in evaluation.class_names))
    lines.append(f"  {'class':<{width}}  precision  recall      F1   images")
    for name, row in zip(evaluation.class_names, metrics.per_class(), strict=True):
        cells = [
            "-" if row[key] is None else f"{row[key]:.4f}" for key in ("precision", "recall", "f1")
        ]
        lines.append(
            f"  {name:<{width}}  {cells[0]:>9}  {cells[1]:>6}  {cells[2]:>6}  {row['support']:>7,}"
        )
    if len(evaluation.class_names) <= _WIDEST_MATRIX:
        lines += ["", "  confusion matrix (rows: label, columns: prediction)"]
        cell = max(width, len(str(metrics.confusion.max()))) + 1
        lines.append("  " + " " * width + "".join(f"{n:>{cell}}" for n in evaluation.class_names))
        for name, counts in zip(evaluation.class_names, metrics.confusion.tolist(), strict=True):
            cells = [f"{count or '.':>{cell}}" for count in counts]
            lines.append(f"  {name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def _describe_model(evaluation: Evaluation) -> str:
    """Returns the checkpoint, or how many were averaged, and over how many copies."""
    shifts = evaluation.test_time_shifts
    copies = f", {count_copies(shifts)} shifts each" if shifts else ""
    if len(evaluation.members) > 1:
        return f"average of {len(evaluation.members)} runs{copies}"
    return f"checkpoint {evaluation.checkpoint}{copies}"


def write_summaries(folder: Path, evaluation: Evaluation) -> None:
    """Writes the evaluation for TensorBoard.

    Args:
      folder: for the event file, such as the run folder's `test`.
      evaluation: what to write, at its checkpoint's step.
    """
    metrics, step = evaluation.metrics, evaluation.step
    scalars = {
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "mean_squared_error": evaluation.mean_squared_error,
        "top_2_accuracy": metrics.top_2_accuracy,
        "expected_calibration_error": metrics.expected_calibration_error,
    }
    mistakes = metrics.mistakes
    pictures = {
        "confusion_matrix": draw_confusion_matrix(metrics.confusion, evaluation.class_names),
        "worst_mistakes": draw_mistakes(
            _to_pixels([mistake.image for mistake in mistakes]),
            np.array([mistake.label for mistake in mistakes], np.int64),
            np.array([mistake.prediction for mistake in mistakes], np.int64),
            np.array([mistake.confidence for mistake in mistakes], np.float32),
            evaluation.class_names,
        ),
    }
    values = [tf1.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    for name, picture in pictures.items():
        png = tf.io.encode_png(picture).numpy()
        image = tf1.Summary.Image(
            height=picture.shape[0], width=picture.shape[1], encoded_image_string=png
        )
        values.append(tf1.Summary.Value(tag=name, image=image))
    # A file's name holds only the second: without a suffix, --watch could write one over another.
    suffix = f".{step:09d}"
    writer = open_event_writer(folder, suffix=suffix)
    writer.add_summary(tf1.Summary(value=values), step)
    for label, name in enumerate(evaluation.class_names):
        curve = pr_curve_summary.raw_data_pb(
            f"pr_curve/{name}",
            num_thresholds=NUM_THRESHOLDS,
            **metrics.precision_recall(label),
        )
        writer.add_summary(curve.SerializeToString(), step)
    writer.close()


def _to_pixels(images: list[np.ndarray]) -> np.ndarray:
    """Turns what the network saw back into pixels, uint8 [n, height, width, channels]."""
    stacked = np.stack(images) if images else np.zeros((0, 1, 1, 1))
    return np.rint(stacked * 255).astype(np.uint8)
