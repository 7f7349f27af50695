"""Reads the file of a Keras model without Keras, so that nothing that the file says is run.

    .keras   a zip: metadata.json, config.json, and model.weights.h5 with the arrays under
             layers/<class name in snake case>[_<count>]/vars/<number>
    .h5      HDF5: the attribute model_config, and the arrays under model_weights/<layer's name> in
             the order of its attribute weight_names (of Keras 2 and 3 alike)
    .json    the configuration alone, from `model.to_json()`

What a file is, its first bytes say and not its name. Sizes are compared with what they should be
before anything is read, and nothing leads out of the file.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from data_prep.command_line import UserError
from model_definition.keras_import.chain import KerasLayer, shown

_MAX_CONFIG_BYTES = 16_000_000
_MAX_WEIGHT_NAMES = 16  # of one layer; ours have four at most
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


@dataclass(frozen=True)
class KerasFile:
    """What a file says of its model, the weights aside.

    Attributes:
      path: the file.
      container: what it is.
      config: the model's configuration, `class_name` and `config`, as JSON has it.
      version: of the Keras that wrote it; empty where the file does not say.
    """

    path: Path
    container: Literal["zip", "hdf5", "json"]
    config: Mapping[str, Any]
    version: str


def load_keras_file(path: Path) -> KerasFile:
    """Reads a model's configuration.

    Args:
      path: the file.

    Returns:
      What it says.

    Raises:
      UserError: there is no such file, or it holds no model's configuration.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise UserError(
            f"{path}: {what}; expected a model that Keras saved as .keras, .h5 or .json"
        )
    with _damage_named(path), path.open("rb") as file:
        start = file.read(len(_HDF5_SIGNATURE))
        if start == _HDF5_SIGNATURE:
            with h5py.File(path, "r") as stored:
                config = _read_text_attribute(stored, "model_config")
                return _make(path, "hdf5", config, _read_text_attribute(stored, "keras_version"))
        if start.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                metadata = json.loads(_read_member(archive, _METADATA, _MAX_CONFIG_BYTES))
                config = _read_member(archive, _CONFIG, _MAX_CONFIG_BYTES).decode()
                version = metadata.get("keras_version") if isinstance(metadata, dict) else None
                return _make(path, "zip", config, version)
        content = start + file.read(_MAX_CONFIG_BYTES + 1)
        if len(content) > _MAX_CONFIG_BYTES or not content.lstrip().startswith(b"{"):
            raise ValueError("neither a .keras file, nor HDF5, nor a JSON configuration")
        return _make(path, "json", content.decode(), None)


def load_weights(
    file: KerasFile,
    layers: Sequence[KerasLayer],
    shapes: Mapping[str, Sequence[tuple[int, ...]]],
) -> dict[str, list[np.ndarray]]:
    """Reads the weights of some of a model's layers.

    Args:
      file: from `load_keras_file`, of a container that has weights.
      layers: all of the model's layers, in the order of its configuration.
      shapes: by the name of each layer to read, the shapes of its weights in Keras's order.

    Returns:
      By the layer's name its weights, float32.

    Raises:
      UserError: a weight is missing, of another shape or kind, or not finite.
    """
    with _damage_named(file.path), _open_weights(file, shapes) as stored:
        groups = _snake_case_groups(layers)
        weights = {}
        for name, expected in shapes.items():
            if file.container == "zip":
                # Until Keras 2.13 the group was named after an attribute of the model.
                top = "layers" if "layers" in stored else "_layer_checkpoint_dependencies"
                paths = [f"{top}/{groups[name]}/vars/{i}" for i in range(len(expected))]
                found = len(_get(stored, f"{top}/{groups[name]}/vars", h5py.Group))
            else:
                group = _get(stored, f"model_weights/{name}", h5py.Group)
                paths = [f"model_weights/{name}/{path}" for path in _weight_names(group)]
                found = len(paths)
            if found != len(expected):
                raise ValueError(f"{shown(name)} has {found} weights, expected {len(expected)}")
            weights[name] = [
                _read_array(stored, path, shape)
                for path, shape in zip(paths, expected, strict=True)
            ]
    return weights


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what the readers of the formats raise into one line."""
    try:
        yield
    except (
        OSError,
        EOFError,
        KeyError,
        MemoryError,
        NotImplementedError,
        RecursionError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        # The text of a KeyError has quotes around it.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        reason = " ".join(str(text).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: cannot be read as a Keras model ({reason}); save the model again, with "
            'model.save("NAME.keras")'
        ) from error


def _make(
    path: Path, container: Literal["zip", "hdf5", "json"], text: str | None, version: object
) -> KerasFile:
    if text is None:
        raise ValueError("it holds weights without the model's configuration")
    config = json.loads(text)
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ValueError("its configuration names no class of model")
    if version is None:
        version = config.get("keras_version")
    known = isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", version)
    return KerasFile(path, container, config, str(version) if known else "")


def _read_member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Reads a file of the archive whose header claims at most so many bytes, and no more."""
    member = archive.getinfo(name)
    if member.file_size > most:
        raise ValueError(f"its {name} has {member.file_size:,} bytes, expected at most {most:,}")
    return archive.read(member)


@contextmanager
def _open_weights(
    file: KerasFile, shapes: Mapping[str, Sequence[tuple[int, ...]]]
) -> Iterator[h5py.File]:
    if file.container == "hdf5":
        with h5py.File(file.path, "r") as stored:
            yield stored
        return
    # Beside the weights there may be two slots of the optimiser for each, all perhaps in float64.
    most = 24 * sum(math.prod(s) for each in shapes.values() for s in each) + _MAX_CONFIG_BYTES
    with zipfile.ZipFile(file.path) as archive:
        content = _read_member(archive, _WEIGHTS, most)
    with h5py.File(io.BytesIO(content), "r") as stored:
        yield stored


def _snake_case_groups(layers: Sequence[KerasLayer]) -> dict[str, str]:
    """Returns the group of each layer; Keras counts them by class: `conv2d`, `conv2d_1`."""
    groups, counts = {}, dict[str, int]()
    for layer in layers:
        words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", layer.class_name))
        snake = re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
        count = counts.get(snake, 0)
        groups[layer.name] = f"{snake}_{count}" if count else snake
        counts[snake] = count + 1
    return groups


def _get(stored: h5py.Group, path: str, kind: type) -> Any:
    """Follows a path of hard links: others may lead to any file of the machine."""
    node = stored
    for part in path.split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise ValueError(f"there is no {shown(path)}")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{shown(path)} is a link to elsewhere, which is not followed")
        node = node[part]
    if not isinstance(node, kind):
        raise ValueError(f"{shown(path)} is no {kind.__name__.lower()}")
    return node


def _read_array(stored: h5py.File, path: str, shape: tuple[int, ...]) -> np.ndarray:
    dataset = _get(stored, path, h5py.Dataset)
    if dataset.shape != shape:
        raise ValueError(f"{shown(path)} has shape {dataset.shape}, expected {shape}")
    if dataset.dtype.kind != "f":
        raise ValueError(f"{shown(path)} holds {dataset.dtype}, expected float32")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{shown(path)} is stored in another file, which is not opened")
    if dataset.chunks and math.prod(dataset.chunks) > math.prod(shape):
        raise ValueError(f"{shown(path)} has chunks larger than itself")
    with np.errstate(over="ignore"):  # What is too large for float32 is infinite then.
        values = dataset[()].astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{shown(path)} holds values that are no finite numbers")
    return values


def _read_text_attribute(group: h5py.Group, name: str) -> str | None:
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    if attribute.shape != () or h5py.check_string_dtype(attribute.dtype) is None:
        raise ValueError(f"its attribute {name} is no text")
    value = group.attrs[name]
    text = value.decode() if isinstance(value, bytes) else str(value)
    if len(text) > _MAX_CONFIG_BYTES:
        raise ValueError(f"its {name} is longer than {_MAX_CONFIG_BYTES:,} characters")
    return text


def _weight_names(group: h5py.Group) -> list[str]:
    attribute = group.attrs.get_id("weight_names")
    if len(attribute.shape) != 1 or attribute.shape[0] > _MAX_WEIGHT_NAMES:
        raise ValueError(f"the weight_names of {shown(group.name)} are no short list")
    names = group.attrs["weight_names"]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
