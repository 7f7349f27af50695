"""Compares an export with its checkpoint, in a process of its own.

`python -m predict.exports.check FORMAT FILE BESIDE IMAGES OUTPUT` opens a file with its format's
runtime and nothing else, and writes the probabilities of the images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.command_line import UserError
from predict.exports.formats import Format, Tolerance
from predict.exports.table import find_format

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Comparison:
    """How an export's probabilities differ from the checkpoint's.

    Attributes:
      num_images: how many images were compared.
      largest_difference: of a probability.
      changed_answers: images for which another class is the likeliest.
      share_beyond: share of the images, 0 to 1, in which a probability differs by more than the
        tolerance.
    """

    num_images: int
    largest_difference: float
    changed_answers: int
    share_beyond: float


def predict_apart(
    format: Format, path: Path, beside: Path | None, images: np.ndarray
) -> np.ndarray:
    """Opens an export in a process of its own and classifies images there.

    Args:
      format: of the export.
      path: its file or folder.
      beside: the file of `format.checked_with`; None where it needs none.
      images: uint8 [n, height, width, channels].

    Returns:
      float32 [n, num_classes].

    Raises:
      UserError: it cannot be opened or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder, "images.npy"), Path(folder, "probabilities.npy")
        np.save(given, images)
        opened = [str(path.resolve()), str(beside.resolve()) if beside else ""]
        done = subprocess.run(
            [sys.executable, "-m", __name__, format.name, *opened, str(given), str(answer)],
            cwd=_ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            reason = done.stderr.strip().rpartition("\n")[2][:300] or f"exit {done.returncode}"
            raise UserError(f"{format.name}: the file cannot be opened and run ({reason})")
        return np.load(answer)


def compare(expected: np.ndarray, found: np.ndarray, tolerance: Tolerance) -> Comparison:
    """Compares probabilities.

    Args:
      expected: float32 [n, num_classes], the checkpoint's.
      found: the export's, in the same order; not-a-number differs by infinity.
      tolerance: what counts as beyond.

    Returns:
      The comparison.

    Raises:
      UserError: they have another shape.
    """
    if found.shape != expected.shape:
        raise UserError(
            f"expected probabilities of shape {list(expected.shape)}, found {list(found.shape)}"
        )
    differences = np.abs(found.astype(np.float64) - expected).max(axis=1)
    differences = np.where(np.isfinite(differences), differences, np.inf)
    return Comparison(
        num_images=len(expected),
        largest_difference=float(differences.max()),
        changed_answers=int(np.sum(found.argmax(axis=1) != expected.argmax(axis=1))),
        share_beyond=float(np.mean(differences > tolerance.difference)),
    )


def _predict_here(name: str, path: str, beside: str, images: str, output: str) -> None:
    load = find_format(name).load
    assert load is not None, "a format without a runtime is not checked here"
    predict = load(Path(path), Path(beside) if beside else None)
    np.save(output, predict(np.load(images)))


if __name__ == "__main__":
    _predict_here(*sys.argv[1:])
