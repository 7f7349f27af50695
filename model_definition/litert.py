"""Exports a run as LiteRT models, of which prediction runs the plain one.

They take pixels as the records hold them and normalise them themselves, so that prediction cannot
differ from training.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from model_definition.calibrated import build_outputs
from model_definition.calibration import Calibration
from model_definition.ensemble import Member
from model_definition.inference import open_ensemble
from model_definition.run_dir import Run, write_atomically

PRECISIONS = ("float32", "float16", "int8")


def export_litert(run: Run, checkpoint: Path, calibration: Calibration | None = None) -> None:
    """Writes `export/model.tflite` and its sha256 beside it, as `sha256sum --check` reads it.

    A model that stands there without a sha256, whoever kills this, is whole.

    Args:
      run: the run to export.
      checkpoint: the prefix of the checkpoint's files.
      calibration: fitted to this checkpoint; None for a model without.

    Raises:
      UserError: the checkpoint is not of this model.
    """
    model = convert_litert([Member(run, checkpoint)], calibration=calibration)
    write_litert(run.export_path, model)


def write_litert(path: Path, model: bytes) -> None:
    """Writes a LiteRT model and its sha256 beside it; see `export_litert`.

    Args:
      path: the model's file.
      model: what is in it.
    """
    digest_path = path.with_name(f"{path.name}.sha256")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest_path.unlink(missing_ok=True)  # It is the old model's.
    write_atomically(path, model)
    write_atomically(digest_path, f"{hashlib.sha256(model).hexdigest()}  {path.name}\n")


def convert_litert(
    members: Sequence[Member],
    *,
    calibration: Calibration | None = None,
    precision: str = "float32",
    calibration_images: np.ndarray | None = None,
    test_time_shifts: int = 0,
) -> bytes:
    """Converts a checkpoint, or the average of several, to a LiteRT model.

    Args:
      members: the runs with their checkpoints, at least one.
      calibration: fitted to the one checkpoint; None for a model without.
      precision: one of `PRECISIONS`: `float16` halves the weights and computes as before, `int8`
        computes with whole numbers wherever LiteRT can.
      calibration_images: uint8 [n, height, width, channels]; from them int8 learns which range the
        values between the layers have. A few hundred images as in training.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      The model's file. Its input is uint8 [n, height, width, channels], its output the
      probabilities, float32 [n, num_classes]; with a calibration these are calibrated, and there is
      a second output, the images' scores, float32 [n], of which those from 0 on are accepted.

    Raises:
      UserError: the checkpoint is not of this model.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved_model = os.path.join(folder, "saved_model")
        with open_ensemble(members, test_time_shifts=test_time_shifts) as model:
            outputs = {"probabilities": model.probabilities}
            if calibration is not None:
                outputs = build_outputs(model, calibration)
            tf.compat.v1.saved_model.simple_save(
                model.session,
                saved_model,
                inputs={"pixels": model.pixels},
                outputs=outputs,
            )
        converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            assert calibration_images is not None, "int8 is calibrated on images"
            images = calibration_images

            def representative_dataset() -> Iterator[dict[str, np.ndarray]]:
                return ({"pixels": image[None]} for image in images)

            converter.representative_dataset = representative_dataset
        with warnings.catch_warnings():
            # TensorFlow's own calibration still uses what TensorFlow deprecates.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is dep")
            return converter.convert()
