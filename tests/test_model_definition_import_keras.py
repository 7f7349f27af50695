"""Keras files become runs, which appear whole or not at all."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from model_definition import import_keras
from model_definition.checkpoints import choose_checkpoint
from model_definition.import_keras import import_run, translate_file
from model_definition.inference import open_model
from model_definition.keras_import.container import load_keras_file
from model_definition.keras_model import build_keras_model, keras
from model_definition.run_dir import load_run
from predict.classifier import load_classifier
from tests.keras_fixtures import CHAIN, layers_of, make_weights, parse, predict
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE, make_examples, write_dataset

# Keras turns its variables into arrays in a way that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

layers = keras.layers


def import_file(path: Path, tmp_path: Path, manifest: Manifest) -> Path:
    """Imports a file as the script does, and returns the run folder."""
    file = load_keras_file(path)
    translation = translate_file(file)
    logdir = tmp_path / "imported"
    import_run(file, translation, translation.text, logdir, tmp_path / "data", manifest)
    return logdir


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network of a usual kind, trained for a step, so that nothing has its initial value."""
    model = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            layers.Conv2D(4, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.SeparableConv2D(6, 2, activation="elu"),
            layers.BatchNormalization(),
            layers.Conv2D(5, 2, use_bias=False),
            layers.Flatten(),
            layers.Dense(7, activation="tanh"),
            layers.Dropout(0.5),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    images, labels = make_examples(8)
    model.fit(images / 255, labels, verbose=0)
    return model


# Written by hand after files of TensorFlow 2.4.
CONFIG_OF_KERAS_2 = Path(__file__).parent / "testdata" / "keras_2_model_config.json"
TEXT_OF_KERAS_2 = """\
conv 4 3x3 stride=2x1 padding=valid initializer=glorot_uniform l2=0.002
batchnorm
leaky_relu slope=0.3
flatten
output initializer=glorot_uniform
"""


def write_keras_2(path: Path) -> dict[str, np.ndarray]:
    """Writes a whole model as Keras 2 does, and returns its weights by our names."""
    weights = make_weights(parse(TEXT_OF_KERAS_2), seed=3)
    names = {
        "conv2d": {"kernel": "conv1/weights", "bias": "conv1/biases"},
        "batch_normalization": {
            name: f"batchnorm1/{name}"
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        },
        "leaky_re_lu": {},
        "flatten": {},
        "dense": {"kernel": "output/weights", "bias": "output/biases"},
    }
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = CONFIG_OF_KERAS_2.read_bytes()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in names]
        for layer, variables in names.items():
            paths = [f"{layer}/{name}:0" for name in variables]
            group.create_group(layer).attrs["weight_names"] = [name.encode() for name in paths]
            for name, ours in zip(paths, variables.values(), strict=True):
                group[layer][name] = weights[ours]
    return weights


@pytest.mark.parametrize("name", ["tiny.keras", "tiny.h5"])
def test_run_answers_as_the_keras_model(name, model, manifest, tmp_path):
    model.save(tmp_path / name)
    run = load_run(import_file(tmp_path / name, tmp_path, manifest))
    assert run.versions == {"keras": keras.__version__}
    assert (run.dataset_name, run.class_names) == ("tiny", CLASS_NAMES)
    images = make_examples(9)[0]
    expected = model.predict(images / np.float32(255), verbose=0)
    with open_model(run, choose_checkpoint(run, "best")) as opened:
        np.testing.assert_allclose(opened.predict(images), expected, atol=1e-5)
    np.testing.assert_allclose(load_classifier(run).predict(images), expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imported", name]


def test_keras_2_file(manifest, tmp_path):
    weights = write_keras_2(tmp_path / "old.h5")
    translation = translate_file(load_keras_file(tmp_path / "old.h5"))
    assert layers_of(translation.text) == layers_of(TEXT_OF_KERAS_2)
    run = load_run(import_file(tmp_path / "old.h5", tmp_path, manifest))
    assert run.versions == {"keras": "2.4.0"}
    images = make_examples(9)[0]
    with open_model(run, choose_checkpoint(run, "best")) as opened:
        expected = predict(parse(TEXT_OF_KERAS_2), weights, images)
        np.testing.assert_allclose(opened.predict(images), expected, atol=1e-6)


def test_exported_run_comes_back_with_every_weight(tmp_path):
    architecture = parse(CHAIN)
    weights = make_weights(architecture)
    build_keras_model(architecture, weights).save(tmp_path / "chain.keras")
    file = load_keras_file(tmp_path / "chain.keras")
    shapes = {name: value.shape for name, value in weights.items()}
    found = import_keras._load_weights(file, translate_file(file), architecture, shapes)
    assert set(found) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


# Folders


def test_nothing_of_an_interrupted_import_is_left(model, manifest, tmp_path, monkeypatch):
    model.save(tmp_path / "tiny.keras")

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model_definition.litert.export_litert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_file(tmp_path / "tiny.keras", tmp_path, manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.keras"]


def test_folder_in_use_or_with_something_in_it_is_refused(tmp_path):
    logdir = tmp_path / "runs" / "mine"
    logdir.mkdir(parents=True)
    with import_keras._appearing(logdir) as staging:  # An empty folder is fine.
        (staging / "new").touch()
        with pytest.raises(UserError, match="another process is importing to this folder now"):
            with import_keras._appearing(logdir):
                pass
    assert [path.name for path in logdir.parent.iterdir()] == ["mine"]
    with pytest.raises(UserError, match="there is something already; name another"):
        with import_keras._appearing(logdir):
            pass
    assert (logdir / "new").exists()


def test_what_a_killed_import_left_is_cleared(tmp_path):
    left = tmp_path / ".mine.importing"
    (left / "best").mkdir(parents=True)
    (left / "run.json").touch()
    with import_keras._appearing(tmp_path / "mine") as staging:
        assert list(staging.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("shape", "units", "message"),
    [
        ((13, 9, 1), 5, "takes 13x9x1 and gives 5 classes; the dataset tiny has images of 13x9x3"),
        ((13, 9), 5, "takes 13x9 and"),
        ((350,), 5, "takes 350 and"),
        (IMAGE_SHAPE, 4, "gives 4 classes; .* and 5 classes; name one that fits with --data_dir"),
    ],
)
def test_dataset_that_does_not_fit_is_refused(shape, units, message, manifest, tmp_path):
    body = [layers.Flatten(), layers.Dense(units, activation="softmax")]
    keras.Sequential([keras.Input(shape), *body]).save(tmp_path / "tiny.keras")
    with pytest.raises(UserError, match=message):
        import_file(tmp_path / "tiny.keras", tmp_path, manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.keras"]


# The script


def test_script_makes_a_run_that_evaluates(model, tmp_path, run_script):
    data_dir = tmp_path / "data"
    write_dataset(data_dir)
    path = tmp_path / "tiny net v1.2.keras"
    model.save(path)
    script = "model_definition/import_keras.py"
    done = run_script(script, path, f"--data_dir={data_dir}", "--output=tiny.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        f"imported {path} as runs/tiny net v1.2; next:\n"
        "  python eval/evaluate.py --logdir='runs/tiny net v1.2'\n"
        "  python predict/predict.py --logdir='runs/tiny net v1.2' --url=URL\n"
        "wrote tiny.txt\n"
    )
    assert done.stderr == (
        "there is no Rescaling(1/255), so it is taken to expect pixels of 0 to 1\n"
    )
    text = (tmp_path / "tiny.txt").read_text()
    assert text == (tmp_path / "runs/tiny net v1.2/model.txt").read_text()
    assert text.startswith(
        "# From the Keras model 'tiny net v1.2.keras'.\nconv 4 3x3 padding=valid"
    )
    _, *command = shlex.split(done.stdout.splitlines()[1])
    done = run_script(*command, "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["num_examples"] == 11


@pytest.fixture
def json_file(tmp_path) -> Path:
    path = tmp_path / "tiny.json"
    body = [layers.Flatten(), layers.Dense(5, activation="softmax")]
    path.write_text(keras.Sequential([keras.Input(IMAGE_SHAPE), *body]).to_json())
    return path


TEXT_OF_JSON = "# From the Keras model 'tiny.json'.\nflatten\noutput initializer=glorot_uniform\n"


def test_script_prints_the_text_of_json(json_file, run_script):
    script = "model_definition/import_keras.py"
    done = run_script(script, json_file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == TEXT_OF_JSON
    refused = run_script(script, json_file, "--logdir=runs/x", f"--output={json_file}.txt")
    assert "holds no weights, so it makes no run; leave --logdir out" in refused.stderr


def test_script_prints_one_document(json_file, run_script):
    output = json_file.with_suffix(".txt")
    script = "model_definition/import_keras.py"
    done = run_script(script, json_file, f"--output={output}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "model": str(json_file),
        "keras_version": None,
        "logdir": None,
        "output": str(output),
        "text": TEXT_OF_JSON,
        "notes": ["there is no Rescaling(1/255), so it is taken to expect pixels of 0 to 1"],
    }
    assert output.read_text() == TEXT_OF_JSON


def test_refused_import_logs_no_notes(model, tmp_path, run_script):
    model.save(tmp_path / "tiny.keras")
    script = "model_definition/import_keras.py"
    done = run_script(script, tmp_path / "tiny.keras", "--data_dir=none", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("import_keras.py: none: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.keras"]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--output=", "import_keras.py: --output: expected a value, found an empty one"),
        ("--output=.", "--output=.: expected the name of a file, found none"),
        ("--output=runs/x/model.txt", "there is no folder runs/x; create it first"),
        ("--output=/proc/model.txt", "no file can be made there; choose a folder on an ordinary"),
        ("--output=mine", "mine: exists already; name another file with --output"),
        ("--logdir=", "import_keras.py: --logdir: expected a value, found an empty one"),
        ("--logdir=.", "--logdir=.: gives the run no name; give one, such as --logdir=runs/mine"),
        ("--logdir=..", "--logdir=..: gives the run no name"),
        ("--logdir=/proc/mine", "/proc/mine: no folder can be made there; choose one on an ordin"),
    ],
)
def test_places_that_cannot_be_written_are_refused_at_once(
    flag, message, model, tmp_path, run_script
):
    model.save(tmp_path / "tiny.keras")
    write_dataset(tmp_path / "data")
    (tmp_path / "mine").mkdir()
    done = run_script(
        "model_definition/import_keras.py", "tiny.keras", "--data_dir=data", flag, cwd=tmp_path
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine", "tiny.keras"]


@pytest.mark.parametrize(
    ("name", "logdir"),
    [
        ("my net v1.2.keras", "runs/my net v1.2"),
        ("a.b.H5", "runs/a.b"),
        ("a.hdf5", "runs/a"),
        ("a.b", "runs/a.b"),
    ],
)
def test_run_is_named_after_the_model(name, logdir):
    assert import_keras._choose_logdir(Path("models", name), None) == Path(logdir)


@pytest.mark.parametrize("name", [".keras", "...h5"])
def test_model_without_a_name_needs_a_logdir(name):
    with pytest.raises(UserError, match=f"^models/{name}: gives the run no name; give one, such"):
        import_keras._choose_logdir(Path("models", name), None)
    assert import_keras._choose_logdir(Path("models", name), "mine") == Path("mine")
