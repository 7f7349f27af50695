"""How long the exported models take to read one image, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from data_prep.command_line import UserError, native_stderr_hidden
from model_definition.exported import export_remedy, read_exported_model
from model_definition.run_dir import Run

_ROUNDS = 30
_IMAGES_A_ROUND = 10
_LEAST_ROUNDS = 3
_SECONDS_A_MODEL = 5.0  # after which no round is begun any more


def measure_latencies(runs: Mapping[Path, Run], images: np.ndarray) -> dict[Path, float]:
    """Measures the LiteRT models of runs, one image at a time in one thread.

    The models take turns, so that whatever else the machine does slows all of them alike. In each
    turn a first image, which is not counted, brings the model's weights back into the caches.

    Args:
      runs: by folder, all of one image shape; each has exported a model.
      images: uint8 [k, height, width, channels], at least 1, which are shown in turn.

    Returns:
      The median seconds of each, by folder.

    Raises:
      UserError: a model is damaged, or of another shape.
    """
    interpreters = {folder: _load(run, images[:1]) for folder, run in runs.items()}
    seconds: dict[Path, list[float]] = {folder: [] for folder in runs}
    began = time.monotonic()
    for number in range(_ROUNDS):
        if number >= _LEAST_ROUNDS and time.monotonic() - began > _SECONDS_A_MODEL * len(
            interpreters
        ):
            break
        for folder, interpreter in interpreters.items():
            _predict(interpreter, images[:1])
            for step in range(_IMAGES_A_ROUND):
                place = (number * _IMAGES_A_ROUND + step) % len(images)
                start = time.perf_counter()
                _predict(interpreter, images[place : place + 1])
                seconds[folder].append(time.perf_counter() - start)
    return {folder: float(np.median(times)) for folder, times in seconds.items()}


def _load(run: Run, image: np.ndarray) -> Interpreter:
    model = read_exported_model(run)
    try:
        with native_stderr_hidden():
            interpreter = Interpreter(model_content=model, num_threads=1)
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, image.shape)
            interpreter.allocate_tensors()
            _predict(interpreter, image)
        return interpreter
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{run.export_path}: expected a LiteRT model of images {list(image.shape[1:])}, found "
            f"a file that cannot be run as one; {export_remedy(run)}"
        ) from error


def _predict(interpreter: Interpreter, image: np.ndarray) -> None:
    """Shows a model an image, uint8 [1, height, width, channels], and fetches its answer."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
