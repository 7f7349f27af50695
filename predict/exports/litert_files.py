"""LiteRT models in three precisions."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.command_line import UserError
from predict.exports.formats import ExportSource, Predict
from predict.exports.noise import silenced

if TYPE_CHECKING:
    import numpy as np


def write_litert(source: ExportSource, path: Path, *, precision: str) -> None:
    """Writes a LiteRT model: uint8 pixels in, float32 probabilities out.

    Args:
      source: what to export.
      path: the file.
      precision: `float32`, `float16` or `int8`.

    Raises:
      UserError: there are no images to calibrate int8 on.
    """
    if precision == "int8" and not len(source.calibration_images):
        raise UserError(
            "litert_int8: is calibrated on training images, and the dataset has no train split; "
            "name one that has with --data_dir"
        )
    from model_definition.litert import convert_litert

    with silenced():
        model = convert_litert(
            source.members,
            precision=precision,
            calibration_images=source.calibration_images,
            test_time_shifts=source.test_time_shifts,
        )
    path.write_bytes(model)


write_float32 = functools.partial(write_litert, precision="float32")
write_float16 = functools.partial(write_litert, precision="float16")
write_int8 = functools.partial(write_litert, precision="int8")


def load_litert(path: Path, beside: Path | None) -> Predict:
    """Opens a LiteRT model with LiteRT alone.

    Args:
      path: the file.
      beside: not used.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    [before], [after] = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(before["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(before["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(after["index"])

    return predict
