from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from predict.exports import check
from predict.exports.check import Comparison
from predict.exports.exporting import (
    Export,
    export,
    identify_runs,
    read_exports,
    record_exports,
)
from predict.exports.output_folder import open_output
from predict.exports.table import find_format
from tests.export_fixtures import EVERY_KIND, make_run, make_source, write_checkpoint
from tests.train_fixtures import write_dataset

FILES = {
    "saved_model": "net/1",
    "litert": "net-float32.tflite",
    "litert_float16": "net-float16.tflite",
    "litert_int8": "net-int8.tflite",
    "onnx": "net.onnx",
    "text": "net.txt",
}
LARGEST_DIFFERENCES = {
    "saved_model": 1e-6,
    "litert": 1e-5,
    "litert_float16": 0.01,
    "litert_int8": 0.1,
    "onnx": 1e-5,
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir):
    """A run whose network has every kind of layer."""
    logdir = tmp_path_factory.mktemp("runs") / "net"
    return make_run(logdir, data_dir, load_manifest(data_dir), EVERY_KIND)


@pytest.fixture(scope="module")
def made(run):
    return make_source(run)


def export_to(output_dir, made, format):
    source, reference = made
    with open_output(output_dir) as staging:
        return export(source, format, staging, reference)


def test_answers_to_compare_vary(made):
    _, reference = made
    assert reference.probabilities.std(axis=0).max() > 0.01


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_layer_in_every_format(tmp_path, made, name, capfd):
    done = export_to(tmp_path, made, find_format(name))
    assert (done.format, done.file, done.step) == (name, FILES[name], 5)
    assert [path.name for path in tmp_path.iterdir()] == [FILES[name].partition("/")[0]]
    assert done.num_bytes > 500
    assert capfd.readouterr() == ("", "")
    if name == "text":
        assert done.comparison is None
    else:
        assert done.comparison.num_images == 23
        assert done.comparison.largest_difference < LARGEST_DIFFERENCES[name]
        assert done.compared_on == "validation"


def test_text_is_the_architecture_under_a_comment(tmp_path, made):
    export_to(tmp_path, made, find_format("text"))
    text = (tmp_path / "net.txt").read_text()
    assert text.startswith(
        "# The network of the run net, trained on tiny:\n# 13x9x3 images, 5 classes, 1,503 parame"
    )
    assert text.endswith(EVERY_KIND)


def other_weights(made, tmp_path):
    """Returns the same run as a source with a checkpoint of other weights."""
    source, _ = made
    moved = dataclasses.replace(source.run, logdir=tmp_path / "net")
    moved.logdir.mkdir()
    return dataclasses.replace(source, checkpoint=write_checkpoint(moved, seed=7))


def test_mismatch_is_refused_and_the_export_of_before_stays(tmp_path, made):
    onnx = find_format("onnx")
    export_to(tmp_path, made, onnx)
    before = (tmp_path / "net.onnx").read_bytes()
    wrong = other_weights(made, tmp_path)
    changed = dataclasses.replace(onnx, write=lambda source, path: onnx.write(wrong, path))
    with pytest.raises(
        UserError,
        match=r"^onnx: its probabilities differ from the checkpoint's, by up to 0\.\d+, and by "
        r"more than 0\.0001 in \d+\.\d% of 23 images, of which 0% may \(the same float32 "
        r"arithmetic, whose sums are taken in another order\); the file is removed$",
    ):
        export_to(tmp_path, made, changed)
    assert (tmp_path / "net.onnx").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"net", "net.onnx"}


def test_file_that_cannot_be_opened_is_refused(tmp_path, made):
    def write_junk(source, path):
        path.write_bytes(b"junk")

    broken = dataclasses.replace(find_format("onnx"), write=write_junk)
    with pytest.raises(UserError, match=r"^onnx: the file cannot be opened and run \(.*\)$"):
        export_to(tmp_path / "new", made, broken)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("unable to extend file, error message = 'No space left on device'"),
        tf.errors.ResourceExhaustedError(None, None, "x.data; No space left on device"),
    ],
)
def test_full_disk_is_named_with_the_folder(tmp_path, made, error):
    def write(source, path):
        path.write_bytes(b"half")
        raise error

    with pytest.raises(OSError) as caught:
        export_to(tmp_path, made, dataclasses.replace(find_format("onnx"), write=write))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_that_training_replaced_is_named(tmp_path, made):
    source, reference = made
    gone = dataclasses.replace(source, checkpoint=tmp_path / "model.ckpt-5")
    with pytest.raises(UserError, match=r"model\.ckpt-5: gone, as a run in progress keeps only "):
        export_to(tmp_path / "out", (gone, reference), find_format("litert"))
    assert not (tmp_path / "out").exists()


def test_folder_in_the_way_is_named(tmp_path, made):
    (tmp_path / "net.txt").mkdir()
    with pytest.raises(OSError) as caught:
        export_to(tmp_path, made, find_format("text"))
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(tmp_path / "net.txt"))


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_runtime_needs_no_tensorflow(name):
    code = (
        "import sys; from pathlib import Path; from predict.exports.table import find_format\n"
        f"try: find_format({name!r}).load(Path('missing'), None)\n"
        "except Exception as error: assert 'missing' in str(error), error\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=check._ROOT, capture_output=True)
    loaded = done.stdout.decode()
    assert {"litert": "ai_edge_litert", "onnx": "onnxruntime"}[name] in loaded
    assert "tensorflow" not in loaded and "keras" not in loaded


def copy_format(name):
    """Returns a format that only makes a file, or a folder, and checks nothing."""

    def write(source, path):
        folder = path if name == "saved_model" else path.parent
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(b"model")

    return dataclasses.replace(find_format(name), write=write, load=None)


def test_saved_models_are_numbered_on(tmp_path, made):
    saved_model = copy_format("saved_model")
    assert export_to(tmp_path, made, saved_model).file == "net/1"
    (tmp_path / "net/12").mkdir()
    (tmp_path / "net/notes").mkdir()
    assert export_to(tmp_path, made, saved_model).file == "net/13"
    assert export_to(tmp_path, made, saved_model).num_bytes == 5


def test_two_at_once_are_refused(tmp_path, made):
    with open_output(tmp_path):
        with pytest.raises(
            UserError, match=r"another process is exporting to this folder now; wait until it has"
        ):
            export_to(tmp_path, made, copy_format("onnx"))
    assert export_to(tmp_path, made, copy_format("onnx")).file == "net.onnx"


def test_what_a_killed_export_left_is_cleared(tmp_path, made):
    (tmp_path / ".exporting/onnx").mkdir(parents=True)
    export_to(tmp_path, made, copy_format("onnx"))
    assert os.listdir(tmp_path) == ["net.onnx"]


def make_export(run, format="onnx", file="net.onnx", **changes):
    comparison = Comparison(23, 1e-7, 0, 0.0)
    return Export(
        **{
            **{"format": format, "file": file, "run": identify_runs([run])},
            **{"num_bytes": 5, "step": 5},
            **{"compared_on": "validation", "comparison": comparison},
            **changes,
        }
    )


def test_list_of_exports_has_the_last_of_each_format_that_is_there(tmp_path, run):
    old, new = make_export(run), make_export(run, num_bytes=6)
    text = make_export(run, "text", "net.txt", comparison=None)
    for name in ("net.onnx", "net.txt"):
        (tmp_path / name).touch()
    assert record_exports(tmp_path, "net", [old, text, new]) == [new, text]
    assert read_exports(tmp_path, [run], "net") == [new, text]
    (tmp_path / "net.onnx").unlink()
    assert read_exports(tmp_path, [run], "net") == [text]
    assert read_exports(tmp_path, [run], "other") == []


def test_exports_of_another_run_of_the_same_name_leave_the_list(tmp_path, run, capsys):
    (tmp_path / "net.onnx").touch()
    record_exports(tmp_path, "net", [make_export(run)])
    other = dataclasses.replace(run, config={**run.config, "seed": 77})
    assert read_exports(tmp_path, [other], "net") == []
    message = f"{tmp_path}/net.onnx: of another run; it leaves the card of this one\n"
    assert capsys.readouterr().err == message


WRONG_TYPES = {"file": 5, "num_bytes": "many", "format": "of-a-later-version"}


@pytest.mark.parametrize("text", ["", "[1]", "{}x", "{}", '{"exports": [{"comparison": null}]}'])
def test_damaged_list_of_exports_is_named(tmp_path, run, text):
    (tmp_path / "net-exports.json").write_text(text)
    with pytest.raises(UserError, match=r"net-exports\.json: not a list of exports; remove it"):
        read_exports(tmp_path, [run], "net")


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_damaged_entry_of_the_list_is_named(tmp_path, run, name):
    record_exports(tmp_path, "net", [make_export(run, **{name: WRONG_TYPES[name]})])
    with pytest.raises(UserError, match=r"net-exports\.json: not a list of exports; remove it"):
        read_exports(tmp_path, [run], "net")
