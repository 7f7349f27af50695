"""Files that are damaged, or mean harm, are one line: nothing leads out of them."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_prep.command_line import UserError
from model_definition.keras_import.chain import KerasLayer
from model_definition.keras_import.container import KerasFile, load_keras_file, load_weights

CONFIG = b'{"class_name": "Sequential", "config": []}'
DENSE = [KerasLayer("dense", "Dense", {})]
SHAPES = {"dense": [(3, 2), (2,)]}


def write_weights(path: Path, kernel: Any) -> KerasFile:
    """Writes a whole-model HDF5 file of one layer, whose kernel a function may store."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = CONFIG
        group = file.create_group("model_weights/dense")
        group.attrs["weight_names"] = ["kernel", "bias"]
        group["bias"] = np.ones(2, np.float32)
        if callable(kernel):
            kernel(group)
        else:
            group["kernel"] = kernel
    return load_keras_file(path)


GOOD = np.arange(6, dtype=np.float32).reshape(3, 2)
BAD = GOOD.copy()
BAD[1, 1] = np.nan


def _external(group: h5py.Group) -> None:
    external = [("/etc/hostname", 0, 24)]
    group.create_dataset("kernel", (3, 2), np.float32, external=external)


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "kernel", (3, 2))
    group.create_virtual_dataset("kernel", layout)


def _huge_chunks(group: h5py.Group) -> None:
    group.create_dataset(
        "kernel", (3, 2), np.float32, chunks=(2**14, 2**14), maxshape=(None, None), compression=1
    )


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (GOOD.T, r"dense/kernel has shape \(2, 3\), expected \(3, 2\)"),
        (BAD, "dense/kernel holds values that are no finite numbers"),
        (GOOD * np.float64(1e300), "no finite numbers"),  # in float32
        (GOOD.astype(np.int32), "holds int32, expected float32"),
        (np.full((3, 2), b"x"), "holds .S1, expected float32"),
        (lambda group: None, r"\(there is no model_weights/dense/kernel\); save"),
        (lambda group: group.attrs.__delitem__("weight_names"),
         r"\([^'\"].*'weight_names'.*[^'\"]\); save"),
        (lambda group: group.create_group("kernel"), "kernel is no dataset"),
        (lambda group: group.__setitem__("kernel", h5py.ExternalLink("/etc/passwd", "/")),
         "kernel is a link to elsewhere, which is not followed"),
        (lambda group: group.__setitem__("kernel", h5py.SoftLink("/model_weights/dense/bias")),
         "kernel is a link to elsewhere, which is not followed"),
        (_external, "stored in another file, which is not opened"),
        (_virtual, "stored in another file, which is not opened"),
        (_huge_chunks, "has chunks larger than itself"),
        (lambda group: group.attrs.__setitem__("weight_names", ["kernel"]),
         "dense has 1 weights, expected 2"),
        (lambda group: group.attrs.__setitem__("weight_names", ["../../x", "bias"]),
         r"there is no model_weights/dense/\.\./\.\./x"),
        (lambda group: group.attrs.__setitem__("weight_names", ["kernel"] * 99), "no short list"),
    ],
)  # fmt: skip
def test_bad_weights_are_refused(kernel, message, tmp_path):
    file = write_weights(tmp_path / "bad.h5", kernel)
    with pytest.raises(UserError, match=message) as error:
        load_weights(file, DENSE, SHAPES)
    assert str(error.value).startswith(f"{tmp_path / 'bad.h5'}: cannot be read as a Keras model (")
    assert "\n" not in str(error.value)


def test_weights_of_other_floats_and_chunks_are_fine(tmp_path):
    def chunked(group: h5py.Group) -> None:
        group.create_dataset("kernel", data=GOOD, chunks=(2, 2), compression="gzip")

    for number, kernel in enumerate([GOOD, GOOD.astype(np.float16), GOOD.astype("f8"), chunked]):
        file = write_weights(tmp_path / f"{number}.h5", kernel)
        found = load_weights(file, DENSE, SHAPES)["dense"][0]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, GOOD)


def write_zip(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)


METADATA = b'{"keras_version": "3.15.1"}'


def _truncated_zip(path: Path) -> None:
    write_zip(path, metadata__json=METADATA, config__json=os.urandom(5000))
    path.write_bytes(path.read_bytes()[:3000])


def _damaged_zip(path: Path) -> None:
    write_zip(path, metadata__json=METADATA, config__json=os.urandom(5000))
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)


def _truncated_h5(path: Path) -> None:
    write_weights(path, GOOD)
    path.write_bytes(path.read_bytes()[:1000])


def _weights_alone(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = GOOD


def _list_for_text(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = np.zeros(9)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file; expected a model that Keras saved as"),
        (Path.mkdir, "a folder; expected a model"),
        (Path.touch, "neither a .keras file, nor HDF5, nor a JSON configuration"),
        (lambda path: path.write_bytes(pickle.dumps({"class_name": "Sequential"})), "neither"),
        (lambda path: path.write_text("{"), "Expecting property name"),
        (lambda path: path.write_text('{"a":' * 200_000), "recursion"),
        (lambda path: path.write_text("{}"), "names no class of model"),
        (lambda path: path.write_text('{"class_name": 7}'), "names no class of model"),
        (lambda path: path.write_text('{"class_name": "' + "x" * 16_000_000), "neither a .keras"),
        (lambda path: write_zip(path, metadata__json=METADATA),
         r"\(There is no item named 'config\.json' in the archive\); save"),
        (lambda path: write_zip(path, metadata__json=METADATA, config__json=b"\xff"), "codec"),
        (lambda path: write_zip(path, metadata__json=b" " * 20_000_000, config__json=b"{}"),
         "its metadata.json has 20,000,000 bytes, expected at most 16,000,000"),
        (_truncated_zip, "not a zip file"),
        (_damaged_zip, "Bad CRC-32|while decompressing"),
        (_truncated_h5, "truncated file"),
        (_weights_alone, "it holds weights without the model's configuration"),
        (_list_for_text, "its attribute model_config is no text"),
    ],
)  # fmt: skip
def test_damaged_file_is_one_line(write, message, tmp_path):
    path = tmp_path / "model.keras"
    write(path)
    with pytest.raises(UserError, match=message) as error:
        load_keras_file(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def write_keras(path: Path, weights: bytes) -> None:
    write_zip(path, metadata__json=METADATA, config__json=CONFIG, model__weights__h5=weights)


def test_zip_bomb_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.keras"
    write_keras(path, bytes(40_000_000))
    file = load_keras_file(path)
    with pytest.raises(
        UserError, match=r"its model\.weights\.h5 has 40,000,000 bytes, expected at"
    ):
        load_weights(file, DENSE, SHAPES)


def test_damaged_bytes_are_never_a_traceback(tmp_path):
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layers/dense/vars/0"] = GOOD
        file["layers/dense/vars/1"] = np.ones(2, np.float32)
    path = tmp_path / "tiny.keras"
    write_keras(path, (tmp_path / "weights.h5").read_bytes())
    np.testing.assert_array_equal(
        load_weights(load_keras_file(path), DENSE, SHAPES)["dense"][0], GOOD
    )
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            file = load_keras_file(path)
            load_weights(file, DENSE, SHAPES)
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 150
