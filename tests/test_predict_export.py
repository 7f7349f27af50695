from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.checkpoints import choose_checkpoint
from model_definition.ensemble import Member
from predict import export
from predict.exports.output_folder import open_output
from predict.exports.sample_images import load_sample
from predict.exports.table import choose_formats
from tests.export_fixtures import make_run
from tests.train_fixtures import indices_of, make_examples, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    manifest = write_dataset(folder / "tiny")
    return make_run(folder / "net", folder / "tiny", manifest)


@pytest.fixture
def moved(run, tmp_path):
    """A copy of the run, and one of its dataset that is not where it was trained on."""
    shutil.copytree(run.logdir, tmp_path / "net")
    shutil.copytree(run.data_dir, tmp_path / "moved")
    description = tmp_path / "net/run.json"
    facts = json.loads(description.read_text())
    description.write_text(json.dumps({**facts, "data_dir": str(tmp_path / "gone")}))
    return tmp_path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_exports_are_written_and_said_and_prediction_s_model_stays(run_script, moved):
    prediction = moved / "net/export/model.tflite"
    prediction.parent.mkdir()
    prediction.write_bytes(b"prediction's own")
    flags = ["--logdir=net", "--data_dir=moved"]
    done = run_script(
        "predict/export.py", *flags, "--format=text,litert,text", cwd=moved, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "comparing exports with net/best/model.ckpt-5 on 17 images of the validation split\n"
    )
    litert, text = done.stdout.splitlines()
    size = (moved / "net/export/net-float32.tflite").stat().st_size
    start = f"litert          net/export/net-float32.tflite  {size:,} bytes  largest difference "
    assert litert.startswith(start) and litert.endswith("  0 of 17 answers changed")
    assert text.startswith("text            net/export/net.txt  ")
    expected = ["model.tflite", "net-exports.json", "net-float32.tflite", "net.md", "net.txt"]
    assert names_in(moved / "net/export") == expected
    assert prediction.read_bytes() == b"prediction's own"

    done = run_script(
        "predict/export.py", *flags, "--format=onnx", "--json", cwd=moved, timeout=300
    )
    document = json.loads(done.stdout)
    assert (document["output_dir"], document["errors"]) == ("net/export", {})
    [found] = document["exports"]
    assert found["file"] == "net.onnx" and found["comparison"]["largest_difference"] < 1e-4
    card = (moved / "net/export/net.md").read_text()
    for name in ("net.onnx", "net.txt", "net-float32.tflite"):
        assert f"| `{name}` |" in card


def test_ctrl_c_leaves_what_was_there(start_script, moved):
    output = moved / "out"
    output.mkdir()
    (output / "net.onnx").write_bytes(b"of before")
    flags = ["--format=onnx", f"--output_dir={output}", "--data_dir=moved"]
    process = start_script("predict/export.py", "--logdir=net", *flags, cwd=moved)
    deadline = time.monotonic() + 300
    while not (output / ".exporting/onnx").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.endswith("\nexport.py: stopped by Ctrl-C\n") and "Traceback" not in stderr
    assert names_in(output) == ["net.onnx"]
    assert (output / "net.onnx").read_bytes() == b"of before"


def test_help_lists_the_formats_at_once(run_script):
    done = run_script("predict/export.py", "--format=help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 12
    assert "\nlitert_int8     LiteRT: a quarter of the size" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=onix"], "export.py: --format: there is no format 'onix'; the formats are "),
        ([], "export.py: --format: expected one or several, joined by commas, found none; "),
        (["--format=text"], "gone: the dataset that net was trained on is not there; name its "),
        (["--format=text", "--data_dir=net"], "net/manifest.json: missing, so this is not a "),
        (["--format=text", "--logdir=no"], "export.py: no: no such run folder; name one that "),
        (
            ["--format=text", "--data_dir=moved", "--output_dir=net/run.json"],
            "export.py: net/run.json: file exists; a folder is expected where a file is; ",
        ),
        (
            ["--format=text", "--data_dir=moved", "--output_dir=net/run.json/x"],
            "export.py: net/run.json/x: not a directory; a folder is expected where a file is; ",
        ),
    ],
)
def test_mistakes_are_one_line(run_script, moved, flags, message):
    done = run_script("predict/export.py", "--logdir=net", *flags, cwd=moved)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_second_export_to_the_folder_is_refused(run_script, moved):
    flags = ["--logdir=net", "--data_dir=moved", "--format=text"]
    with open_output(moved / "net/export"):
        done = run_script("predict/export.py", *flags, cwd=moved)
    assert done.returncode == 1
    assert done.stderr == (
        "export.py: net/export: another process is exporting to this folder now; wait until it "
        "has finished, or name another --output_dir\n"
    )


def test_damaged_checkpoint_is_refused(run_script, moved):
    os.truncate(moved / "net/best/model.ckpt-5.data-00000-of-00001", 10)
    flags = ["--logdir=net", "--data_dir=moved", "--format=text"]
    done = run_script("predict/export.py", *flags, cwd=moved)
    assert done.returncode == 1
    assert "model.ckpt-5: this checkpoint cannot be read" in done.stderr
    assert not (moved / "net/export").exists()


def read(run, data_dir):
    members = [Member(run, choose_checkpoint(run, "best"))]
    return export.read_source(members, "net", data_dir, load_manifest(data_dir))


def test_without_validation_training_images_are_compared(run, tmp_path, capsys):
    write_dataset(tmp_path / "tiny", sizes={"train": 29, "test": 7})
    source, reference = read(run, tmp_path / "tiny")
    assert (reference.split, len(reference.images)) == ("train", 29)
    assert len(source.calibration_images) == 29
    assert "tiny: has no validation split; comparing on the train split " in capsys.readouterr().err


def test_without_training_images_int8_is_refused_and_the_others_are_written(run, tmp_path, capsys):
    write_dataset(tmp_path / "tiny", sizes={"test": 7})
    source, reference = read(run, tmp_path / "tiny")
    assert reference.split == "test"
    capsys.readouterr()
    with open_output(tmp_path / "out") as staging:
        formats = choose_formats(["litert_int8", "text"])
        exports, errors = export.export_all(source, reference, formats, staging, quiet=False)
    assert [done.format for done in exports] == ["text"]
    assert errors == {
        "litert_int8": "litert_int8: is calibrated on training images, and the dataset has no "
        "train split; name one that has with --data_dir"
    }
    output = capsys.readouterr()
    assert output.err == f"export.py: {errors['litert_int8']}\n"
    assert output.out.startswith("text  ") and output.out.count("\n") == 1


@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_sample_has_of_each_class_its_share(tmp_path, image_format):
    images, labels = make_examples(60)
    labels[:] = [0] * 40 + [1] * 20
    manifest = write_dataset(
        tmp_path / "tiny", examples={"train": (images, labels)}, image_format=image_format
    )
    sample = load_sample(tmp_path / "tiny", manifest, "train", limit=15)
    indices = indices_of(sample)
    assert sample.dtype == "uint8" and sample.shape == (15, 13, 9, 3)
    assert indices == sorted(indices) and sum(index < 40 for index in indices) == 10
    assert (sample == images[indices]).all()
    assert len(load_sample(tmp_path / "tiny", manifest, "train", limit=1000)) == 60


def test_sample_of_a_damaged_split_is_refused(run, tmp_path):
    shutil.copytree(run.data_dir, tmp_path / "tiny")
    [shard] = (tmp_path / "tiny").glob("*validation*-00000-of-*")
    os.truncate(shard, shard.stat().st_size - 1)
    manifest = load_manifest(tmp_path / "tiny")
    with pytest.raises(UserError, match=r"00000-of-00003: expected [\d,]+ bytes, found"):
        load_sample(tmp_path / "tiny", manifest, "validation", limit=9)
