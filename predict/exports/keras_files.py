"""Keras: the whole model in one file, or architecture and weights apart.

NAME.keras, NAME.h5         architecture, weights, loss, optimiser and its state
NAME.json, NAME.yaml        the architecture alone, as `keras.models.model_from_json` reads it
NAME.weights.h5             the weights alone, for `load_weights`
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep import command_line
from predict.exports.formats import ExportSource, Predict

if TYPE_CHECKING:
    import keras
    import numpy as np

_INDENT = 1  # of the JSON, which is read by people too


def write_keras(source: ExportSource, path: Path) -> None:
    """Writes a `.keras` file, compiled, with the optimiser's state where the run has it.

    Args:
      source: what to export.
      path: the file.
    """
    _build_compiled(source).save(path)


def write_h5(source: ExportSource, path: Path) -> None:
    """Writes the same as one HDF5 file, Keras's format of before.

    Args:
      source: what to export.
      path: the file; its name ends in `.h5`.
    """
    import h5py

    model = _build_compiled(source)
    model.save(path)
    with h5py.File(path, "r+") as file:
        if "optimizer_weights" in file:
            del file["optimizer_weights"]
        if model.compiled and model.optimizer.built:
            model.optimizer.save_own_variables(file.create_group("optimizer/vars"))


def write_json(source: ExportSource, path: Path) -> None:
    """Writes the architecture as Keras's own JSON.

    Args:
      source: what to export.
      path: the file.
    """
    path.write_text(_build(source).to_json(indent=_INDENT) + "\n", encoding="utf-8")


def write_yaml(source: ExportSource, path: Path) -> None:
    """Writes the same as YAML.

    Args:
      source: what to export.
      path: the file.
    """
    import yaml

    configuration = json.loads(_build(source).to_json())
    text = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def write_weights_h5(source: ExportSource, path: Path) -> None:
    """Writes the weights as HDF5.

    Args:
      source: what to export.
      path: the file; its name ends in `.weights.h5`.
    """
    _build(source).save_weights(path)


def load_keras(path: Path, beside: Path | None) -> Predict:
    """Opens a `.keras` file with Keras.

    Args:
      path: the file.
      beside: not used.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    return _predict_with(_import_keras().models.load_model(path))


def load_h5(path: Path, beside: Path | None) -> Predict:
    """Opens an `.h5` file with Keras; as `load_keras`."""
    return load_keras(path, beside)


def load_json(path: Path, beside: Path | None) -> Predict:
    """Builds a model from its JSON and loads its weights.

    Args:
      path: the file.
      beside: the weights, from `write_weights_h5`.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    return _predict_from_json(path.read_text(encoding="utf-8"), beside)


def load_yaml(path: Path, beside: Path | None) -> Predict:
    """Builds a model from its YAML and loads its weights; as `load_json`."""
    import yaml

    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    return _predict_from_json(json.dumps(configuration), beside)


def load_weights_h5(path: Path, beside: Path | None) -> Predict:
    """Loads weights into a model that is built from its JSON.

    Args:
      path: the weights.
      beside: the architecture, from `write_json`.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    assert beside is not None, "weights alone compute nothing"
    return load_json(beside, path)


def _build(source: ExportSource) -> keras.Model:
    from model_definition.keras_model import build_keras_model

    return build_keras_model(source.architecture, source.weights)


def _build_compiled(source: ExportSource) -> keras.Model:
    from predict.exports.keras_training import compile_like_run

    model = _build(source)
    compile_like_run(model, source)
    return model


def _predict_from_json(text: str, weights: Path | None) -> Predict:
    model = _import_keras().models.model_from_json(text)
    model.load_weights(weights)
    return _predict_with(model)


def _predict_with(model: keras.Model) -> Predict:
    def predict(images: np.ndarray) -> np.ndarray:
        return model.predict(images, verbose=0)

    return predict


def _import_keras() -> keras:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    command_line.import_tensorflow()
    with command_line.signals_deferred():
        import keras

    return keras
