"""Runs the model that training exported, without TensorFlow.

The model's probabilities are calibrated where the run had images to calibrate them on, and beside
them it gives each image a score: how much it is like those that it was trained on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from data_prep.command_line import UserError
from model_definition.run_dir import FIRST_VERSION, Run

# Whoever changes where stderr leads must have changed it back before another one does.
_STDERR_LOCK = threading.Lock()


@dataclass(frozen=True)
class Judgement:
    """What a model says of images.

    Attributes:
      probabilities: float32 [n, num_classes], as `Classifier.predict` gives them.
      scores: float32 [n], how much each image is like those of the training; from
        `Classifier.rejection` on it counts as one of them. Not-a-number where the run cannot tell.
      is_digit: bool [n], whether it counts as one of them; true where the run cannot tell.
    """

    probabilities: np.ndarray
    scores: np.ndarray
    is_digit: np.ndarray


class Classifier:
    """The exported LiteRT model of a run: pixels in, probabilities and scores out.

    Attributes:
      rejection: the smallest score with which an image is accepted. None where the model gives no
        scores, since its run had too few validation images to fit them, or is from before there
        were any; then every image is accepted.
    """

    rejection: float | None

    def __init__(self, interpreter: Interpreter, run: Run) -> None:
        """Takes a model and checks that it belongs to the run.

        Args:
          interpreter: has the model loaded.
          run: says which images the model reads and which classes it knows.

        Raises:
          UserError: the model is of another shape than the run.
        """
        inputs = interpreter.get_input_details()
        # The converter keeps no order among outputs; probabilities have one dimension more.
        outputs = sorted(
            interpreter.get_output_details(), key=lambda output: len(output["shape"]), reverse=True
        )
        # The first number is how many images at a time; it is set anew in `predict`.
        found = [
            (np.dtype(tensor["dtype"]).name, *(int(n) for n in tensor["shape"][1:]))
            for tensor in (*inputs, *outputs)
        ]
        scores = ("float32",)
        expected = [("uint8", *run.image_shape), ("float32", len(run.class_names))]
        if found not in (expected, [*expected, scores]):
            raise UserError(
                f"{run.export_path}: expected a model from {_spell(expected)} as run.json says, "
                f"found one from {_spell(found)}; {_remedy(run)}"
            )
        self._run = run
        self._interpreter = interpreter
        self._input = inputs[0]["index"]
        self._outputs = [output["index"] for output in outputs]
        self.rejection = 0.0 if scores in found else None

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Classifies images.

        Args:
          images: uint8 [n, height, width, channels], pixels of 0 to 255 as in the records.

        Returns:
          float32 [n, num_classes], the probability of each class; rows add up to 1.

        Raises:
          UserError: the model is damaged, and gives something else than numbers.
        """
        return self.judge(images).probabilities

    def judge(self, images: np.ndarray) -> Judgement:
        """Classifies images, and tells those that are unlike the training images.

        Args:
          images: uint8 [n, height, width, channels], pixels of 0 to 255 as in the records.

        Returns:
          What the model says of them.

        Raises:
          UserError: the model is damaged, and gives something else than numbers.
        """
        self._interpreter.resize_tensor_input(self._input, images.shape)
        with _quiet():
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        probabilities, *scores = (self._interpreter.get_tensor(index) for index in self._outputs)
        if not all(np.isfinite(output).all() for output in (probabilities, *scores)):
            raise UserError(
                f"{self._run.export_path}: damaged, for its probabilities are no finite numbers; "
                f"{_remedy(self._run)}"
            )
        if self.rejection is None:
            unknown = np.full(len(images), np.nan, np.float32)
            return Judgement(probabilities, unknown, np.ones(len(images), bool))
        return Judgement(probabilities, scores[0], scores[0] >= self.rejection)


def load_classifier(run: Run) -> Classifier:
    """Loads the model that a run exported.

    Args:
      run: the run.

    Returns:
      Its classifier.

    Raises:
      UserError: the model is missing, damaged, or of another shape than the run.
    """
    path = run.export_path
    if not path.is_file():
        finish = "training writes it at its end, so let it finish; "
        finish = finish if run.version == FIRST_VERSION else ""
        raise UserError(f"{path}: no such file; {finish}{_remedy(run)}")
    model = path.read_bytes()
    digest_path = path.with_name(f"{path.name}.sha256")
    # Not there beside the models of earlier versions, and where training was killed just then.
    if digest_path.is_file():
        expected = digest_path.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
        if hashlib.sha256(model).hexdigest() != expected:
            raise UserError(
                f"{path}: damaged, for its sha256 is not the one in {digest_path.name}; "
                f"{_remedy(run)}"
            )
    try:
        with _quiet():
            interpreter = Interpreter(model_content=model, num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected a LiteRT model, found a file that cannot be read as one; "
            f"{_remedy(run)}"
        ) from error
    return Classifier(interpreter, run)


def _remedy(run: Run) -> str:
    if run.version != FIRST_VERSION:
        return f"train/update.py --logdir={run.logdir} --rollback=1 returns to the trained run"
    return (
        f"train_lenet.py --logdir={run.logdir}, with the flags that the run was trained with, "
        "writes it anew"
    )


def _spell(tensors: list[tuple]) -> str:
    return " to ".join(f"{name} {list(shape)}" for name, *shape in tensors)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends to nowhere what LiteRT's C++ code says to stderr when it starts; no setting does."""
    with _STDERR_LOCK:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
