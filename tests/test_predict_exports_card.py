from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest

from data_prep.command_line import UserError
from model_definition.versions import Version, publish_version, staged_version
from predict.exports.card import write_card
from predict.exports.check import Comparison
from predict.exports.exporting import Export
from predict.exports.table import FORMATS
from tests.export_fixtures import make_run, make_source
from tests.train_fixtures import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    manifest = write_dataset(folder / "tiny")
    run = make_run(folder / 'my "7" net', folder / "tiny", manifest)
    history = [
        {"step": step, "accuracy": 0.1 * step, "loss": 0.5, "mean_squared_error": 0.01}
        for step in (5, 7)
    ]
    (run.logdir / "history.json").write_text(json.dumps(history))
    return make_source(run, 3)[0]


def describe(source, name):
    """Returns a finished export of a format."""
    [format] = [format for format in FORMATS if format.name == name]
    file = format.filename(source.name) + ("/1" if format.is_versioned else "")
    comparison = Comparison(1000, 1.25e-7, 2, 0.0) if format.load else None
    return Export(name, file, "digest of the run", 1234567, 5, "validation", comparison)


def test_examples_run_in_the_folder(source, tmp_path):
    exports = [describe(source, format.name) for format in FORMATS]
    for format, export in zip(FORMATS, exports, strict=True):
        path = tmp_path / export.file
        path.parent.mkdir(exist_ok=True)
        format.write(source, path)
    card = write_card(source, exports)
    examples = re.findall(r"```python\n(.*?)```", card, re.S)
    assert len(examples) == len(FORMATS) - 1  # A text runs nowhere.
    checks = "assert probabilities.shape == (1, 5) and abs(probabilities.sum() - 1) < 0.02\n"
    for number, example in enumerate(examples):
        (tmp_path / f"example{number}.py").write_text(example + checks)
    names = "runpy.run_path(f'example{number}.py')"
    code = f"import runpy\nfor number in range({len(examples)}): print(number, len({names}) > 3)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" True\n") == len(examples)


def test_card_of_an_imported_run_claims_no_training(source):
    run = dataclasses.replace(source.run, config={}, model="cnn.keras")
    card = write_card(dataclasses.replace(source, run=run), [describe(source, "onnx")])
    assert "An image classifier of 5 classes, imported from the Keras model cnn.keras: 831 " in card
    assert "- trained on: not known\n- classes, those of tiny, in the order of the prob" in card
    assert "trained on tiny" not in card


def test_card_says_what_the_run_says(source):
    card = write_card(source, [describe(source, "onnx"), describe(source, "text")])
    for line in (
        '# my "7" net',
        "An image classifier of 5 classes, trained on tiny with TensorFlow and TF-Slim: 831 "
        "parameters, 13,343 multiply-adds an image.",
        f"- digest of its records: {source.run.dataset_digest}",
        '- classes, in the order of the probabilities: `["ant", "bee", "cow", "dog", "elk"]`',
        "- step 5, on the validation split: accuracy 50.00%, loss 0.5000, mean squared error "
        "0.01000",
        '| `my "7" net.onnx` | onnx | 1,234,567 | 5 | 1.2e-07 | 2 of 1,000 (validation) |',
        '| `my "7" net.txt` | text | 1,234,567 | 5 |  |  |',
        "Train it again: `train_lenet.py --model='my \"7\" net.txt'`.",
    ):
        assert line in card.split("\n"), card
    assert "uint8 [n, 13, 9, 3] from 0 to 255 (three channels, red, green and blue)" in card
    assert "the whole picture, scaled to that size" in card
    assert "step 7" not in card
    assert source.architecture.text.strip() in card


def test_card_names_the_fold_that_was_validated_on(source):
    config = {**source.run.config, "validate_on": "2/5"}
    folded = dataclasses.replace(source, run=dataclasses.replace(source.run, config=config))
    card = write_card(folded, [describe(folded, "onnx")])
    assert "- step 5, on fold 2 of 5 of the training images: accuracy 50.00%, loss" in card


def test_card_names_the_teacher(source):
    assert "- taught by" not in write_card(source, [describe(source, "onnx")])
    config = {**source.run.config, "teacher": "runs/a,runs/b"}
    taught = dataclasses.replace(source, run=dataclasses.replace(source.run, config=config))
    assert "\n- taught by: runs/a,runs/b\n" in write_card(taught, [describe(taught, "onnx")])


def test_architecture_alone_says_what_it_lacks(source):
    card = write_card(source, [describe(source, "json")])
    assert "Needs weights_h5 as well: export that too." in card
    assert "```python" not in card


def test_run_without_validations(source, tmp_path):
    unknown = dataclasses.replace(source, run=dataclasses.replace(source.run, logdir=tmp_path))
    card = write_card(unknown, [describe(unknown, "onnx")])
    assert "\nNone: the exported checkpoint was not validated.\n" in card


@pytest.mark.parametrize("text", ["", "{}x", "[3]", '[{"step": 5}]'])
def test_damaged_history_is_named(source, tmp_path, text):
    damaged = dataclasses.replace(source, run=dataclasses.replace(source.run, logdir=tmp_path))
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(UserError, match=r"history\.json: not a list of validations; restore it"):
        write_card(damaged, [describe(damaged, "onnx")])


def test_updated_version_says_how_it_was_judged(source, tmp_path):
    shutil.copytree(source.run.logdir, tmp_path / "run")
    run = dataclasses.replace(source.run, logdir=tmp_path / "run", version=2)
    judged = {"images": "original validation", "version": 1, "num_images": 5000}
    judged |= {"right_before": 4959, "right_after": 4958}
    with staged_version(run.logdir) as staging:
        version = Version(2, 1, "", "", "", 27, 9, {}, (judged,))
        publish_version(run.logdir, staging, version)
    exports = [dataclasses.replace(describe(source, "onnx"), step=1390)]
    card = write_card(dataclasses.replace(source, run=run), exports)
    line = "original validation: 4,958 of 5,000 read right, 4,959 before"
    assert f"- version 2, against version 1, {line}\n" in card
    first = dataclasses.replace(run, version=1)
    assert line not in write_card(dataclasses.replace(source, run=first), exports)
