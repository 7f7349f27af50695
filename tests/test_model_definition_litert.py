import dataclasses
import hashlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from data_prep.command_line import UserError
from input_pipeline.preprocess import normalize
from model_definition import litert
from model_definition.architecture import parse_architecture
from model_definition.calibrated import build_features
from model_definition.calibration import Calibration, fit_rejection
from model_definition.ensemble import Member
from model_definition.inference import open_model
from model_definition.litert import convert_litert, export_litert
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import Run
from predict.classifier import load_classifier
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE, MODEL

v1 = tf.compat.v1
PIXELS = np.random.default_rng(0).integers(0, 256, (23, *IMAGE_SHAPE), dtype=np.uint8)


def make_run(logdir, text=MODEL):
    return Run(
        logdir=logdir,
        model="tiny",
        architecture_text=text,
        data_dir="/data",
        dataset_name="tiny",
        dataset_digest="",
        image_shape=IMAGE_SHAPE,
        image_preparation="resize",
        class_names=CLASS_NAMES,
        config={},
        versions={},
    )


def write_checkpoint(run):
    """Saves random weights and returns the graph's probabilities for `PIXELS`."""
    architecture = parse_architecture(
        run.architecture_text, filename="", image_shape=IMAGE_SHAPE, num_classes=5
    )
    with tf.Graph().as_default(), v1.Session() as session:
        features = normalize(tf.constant(PIXELS))
        spec = model_fn(features, None, ModeKeys.PREDICT, ModelParams(architecture))
        random = np.random.default_rng(1)
        for variable in v1.trainable_variables():
            variable.load(random.normal(size=variable.shape).astype(np.float32), session)
        v1.train.Saver().save(session, str(run.logdir / "model.ckpt"), 5)
        return session.run(spec.predictions["probabilities"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("litert"))
    probabilities = write_checkpoint(run)
    export_litert(run, run.logdir / "model.ckpt-5")
    return run, probabilities


def interpret(run):
    return Interpreter(str(run.export_path))


def predict(run, pixels):
    interpreter = interpret(run)
    [before], [after] = interpreter.get_input_details(), interpreter.get_output_details()
    assert before["dtype"] == np.uint8
    assert after["dtype"] == np.float32
    interpreter.resize_tensor_input(before["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(before["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(after["index"])


@pytest.mark.parametrize("n", [1, 7, 23])
def test_exported_probabilities_are_the_graphs(exported, n):
    run, expected = exported
    found = predict(run, PIXELS[:n])
    assert found.shape == (n, 5)
    np.testing.assert_allclose(found, expected[:n], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    assert len(set(expected.argmax(axis=1))) > 1


def test_sha256_stands_beside_the_model_and_nothing_else(exported):
    run, _ = exported
    folder = run.export_path.parent
    assert {path.name for path in folder.iterdir()} == {"model.tflite", "model.tflite.sha256"}
    digest = hashlib.sha256(run.export_path.read_bytes()).hexdigest()
    assert (folder / "model.tflite.sha256").read_text() == f"{digest}  model.tflite\n"


@pytest.mark.parametrize("killed_at", ["model.tflite", "model.tflite.sha256"])
def test_kill_in_between_leaves_no_wrong_sha256(exported, tmp_path, monkeypatch, killed_at):
    run, _ = exported
    shutil.copytree(run.export_path.parent, tmp_path / "export")
    moved = dataclasses.replace(run, logdir=tmp_path)
    write = litert.write_atomically

    def write_until_killed(path, content):
        if path.name == killed_at:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(litert, "write_atomically", write_until_killed)
    monkeypatch.setattr(litert, "convert_litert", lambda *_, **__: b"a new model")
    with pytest.raises(KeyboardInterrupt):
        export_litert(moved, run.logdir / "model.ckpt-5")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["model.tflite"]


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("int8", 0.2)])
def test_smaller_models_say_nearly_the_same(exported, tmp_path, precision, tolerance):
    run, expected = exported
    smaller = dataclasses.replace(run, logdir=tmp_path)
    smaller.export_path.parent.mkdir()
    member = Member(run, run.logdir / "model.ckpt-5")
    model = convert_litert([member], precision=precision, calibration_images=PIXELS)
    smaller.export_path.write_bytes(model)
    found = predict(smaller, PIXELS)
    assert 0 < np.abs(found - expected).max() < tolerance
    types = {detail["dtype"] for detail in interpret(smaller).get_tensor_details()}
    assert {"float16": np.float16, "int8": np.int8}[precision] in types


def test_failed_export_keeps_the_old_one(exported, monkeypatch):
    run, _ = exported
    before = run.export_path.read_bytes()
    other = make_run(run.logdir, MODEL.replace("conv 4", "conv 3"))
    with pytest.raises(
        UserError, match=r"ckpt-5: conv1/weights is \[3, 3, 3, 3\] in model\.txt and \[3, 3, 3, 4\]"
    ):
        export_litert(other, run.logdir / "model.ckpt-5")
    assert run.export_path.read_bytes() == before


def test_calibrated_model_gives_what_was_fitted(exported, tmp_path):
    run, _ = exported
    checkpoint = run.logdir / "model.ckpt-5"
    with open_model(run, checkpoint) as model:
        logits = model.compute(model.end_points["output"], PIXELS)
        features = model.compute(build_features(model.end_points), PIXELS)
    assert features.shape == (23, 2 * 4 + 2 * 4 + 5)  # conv1, maxpool1 and the logits
    rejection = fit_rejection(
        features[:12], np.arange(12) % 5, features[12:], num_classes=5, seed=0
    )
    rejection = dataclasses.replace(
        rejection, threshold=np.median(rejection.score(features)) + 0.01
    )
    calibrated = dataclasses.replace(run, logdir=tmp_path)
    calibrated.export_path.parent.mkdir()
    calibrated.export_path.write_bytes(
        convert_litert([Member(run, checkpoint)], calibration=Calibration(2.5, rejection))
    )
    judgement = load_classifier(calibrated).judge(PIXELS)
    expected = np.exp((logits - logits.max(axis=1, keepdims=True)) / 2.5)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(judgement.probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(judgement.scores, rejection.score(features), atol=1e-3)
    assert 0 < judgement.is_digit.sum() < 23
