"""Keras files: the same answers, and training that goes on as the project's own would."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
import yaml

from data_prep.command_line import UserError
from model_definition.architecture import parse_run_architecture
from model_definition.keras_model import build_keras_model, keras
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import Run, write_run
from predict.exports.formats import ExportSource
from predict.exports.keras_files import (
    load_h5,
    load_json,
    load_keras,
    load_weights_h5,
    load_yaml,
    write_h5,
    write_json,
    write_keras,
    write_weights_h5,
    write_yaml,
)
from predict.exports.keras_training import compile_like_run
from tests.keras_fixtures import make_weights, parse, predict
from tests.train_fixtures import (
    CLASS_NAMES,
    IMAGE_SHAPE,
    make_config,
    make_examples,
    write_dataset,
)
from train.config import TrainConfig
from train.optimizer import build_train_step, learning_rate_at

# Keras turns its variables into arrays in a way that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAIN = "conv 4 3x3 l2=0.01\nmaxpool 2x2\nflatten\ndense 6\noutput\n"
NORMALISED = "conv 4 3x3 bias=false activation=none\nbatchnorm\nrelu\nglobal_avgpool\noutput\n"
BATCH, STEPS, NEXT = 8, 6, 5


@dataclass(frozen=True)
class Trained:
    """A run stopped after STEPS, and the losses that its own next steps have."""

    source: ExportSource
    next_losses: list[float]


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    return make_examples(BATCH, first=100 * step)


def train_and_go_on(
    logdir: Path,
    text: str,
    config: TrainConfig,
    *,
    total_steps: int,
    data_dir: Path = Path("gone"),
) -> Trained:
    run = Run(
        logdir=logdir,
        model="tiny",
        architecture_text=text,
        data_dir=str(data_dir),
        dataset_name="tiny",
        dataset_digest="0" * 64,
        image_shape=IMAGE_SHAPE,
        image_preparation="resize",
        class_names=CLASS_NAMES,
        config=config.to_json(),
        versions={},
    )
    write_run(run)
    architecture = parse_run_architecture(run)
    made = []

    def train_op_fn(loss):
        made.append(build_train_step(loss, config, total_steps=total_steps, steps_an_epoch=7.0))
        return made[0].train_op

    losses = []
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        features = tf.compat.v1.placeholder(tf.float32, [None, *IMAGE_SHAPE])
        labels = tf.compat.v1.placeholder(tf.int64, [None])
        params = ModelParams(architecture, 0, config.label_smoothing, train_op_fn)
        spec = model_fn(features, labels, ModeKeys.TRAIN, params)
        saver = tf.compat.v1.train.Saver()
        session.run(tf.compat.v1.global_variables_initializer())
        for step in range(STEPS + NEXT):
            if step == STEPS:
                saver.save(session, str(logdir / "model.ckpt"), STEPS, write_meta_graph=False)
                weights = session.run({v.op.name: v for v in slim.get_model_variables()})
            images, answers = batch(step)
            feed = {features: images / np.float32(255), labels: answers}
            losses.append(session.run([spec.loss, spec.train_op], feed)[0])
    checkpoint = logdir / f"model.ckpt-{STEPS}"
    calibration_images = np.empty([0, *IMAGE_SHAPE], np.uint8)
    source = ExportSource(run, checkpoint, architecture, weights, calibration_images)
    return Trained(source, losses[STEPS:])


def load(path: Path) -> keras.Model:
    model = keras.models.load_model(path)
    model.jit_compile = False  # Compiling takes longer than the few steps.
    return model


def go_on_in_keras(model: keras.Model, *, one_hot: bool = False) -> list[float]:
    losses = []
    for step in range(STEPS, STEPS + NEXT):
        images, labels = batch(step)
        targets = np.eye(len(CLASS_NAMES), dtype=np.float32)[labels] if one_hot else labels
        history = model.fit(images, targets, batch_size=BATCH, shuffle=False, verbose=0)
        losses += history.history["loss"]
    return losses


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (NORMALISED, {"optimizer": "adam", "beta1": 0.8}),
        (PLAIN, {"optimizer": "adam", "clip_norm": 0.5}),
        (PLAIN, {"optimizer": "momentum", "momentum": 0.7}),
        (PLAIN, {"optimizer": "rmsprop", "learning_rate": 0.002}),
        (PLAIN, {"optimizer": "rmsprop", "learning_rate": 0.002, "momentum": 0.0}),
        (PLAIN, {"optimizer": "sgd"}),
        (NORMALISED, {"optimizer": "adam", "label_smoothing": 0.2}),
    ],
)
def test_keras_goes_on_as_the_run_would(tmp_path, text, changes):
    config = make_config("tiny", schedule="constant", **changes)
    trained = train_and_go_on(tmp_path / "run", text, config, total_steps=11)
    write_keras(trained.source, tmp_path / "tiny.keras")
    model = load(tmp_path / "tiny.keras")
    losses = go_on_in_keras(model, one_hot="label_smoothing" in changes)
    np.testing.assert_allclose(losses, trained.next_losses, rtol=1e-4)
    assert float(np.ptp(losses)) > 0.01


def test_h5_goes_on_as_the_run_would(tmp_path):
    trained = train_and_go_on(
        tmp_path / "run", NORMALISED, make_config("tiny", schedule="constant"), total_steps=11
    )
    path = tmp_path / "tiny.h5"
    write_h5(trained.source, path)
    anew = go_on_in_keras(load(path))
    model = load(path)
    with h5py.File(path) as file:
        model.optimizer.build(model.trainable_variables)
        model.optimizer.load_own_variables(file["optimizer/vars"])
    np.testing.assert_allclose(go_on_in_keras(model), trained.next_losses, rtol=1e-4)
    assert anew[0] == pytest.approx(trained.next_losses[0], rel=1e-4)
    assert not np.allclose(anew, trained.next_losses, rtol=1e-3)  # The state makes a difference.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of the usual schedule, in the middle of it, on a dataset that is there."""
    folder = tmp_path_factory.mktemp("keras")
    write_dataset(folder / "data")
    config = make_config("tiny", max_steps=20, epochs=None)
    return train_and_go_on(folder / "run", PLAIN, config, total_steps=20, data_dir=folder / "data")


def with_config(trained: Trained, **changes: Any) -> ExportSource:
    config = {**trained.source.run.config, **changes}
    return replace(trained.source, run=replace(trained.source.run, config=config))


def compiled(source: ExportSource) -> keras.Model:
    model = build_keras_model(source.architecture, source.weights)
    compile_like_run(model, source)
    return model


def learning_rates(model: keras.Model) -> list[float]:
    rates = []
    for step in range(STEPS, STEPS + NEXT):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    return rates


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "one_cycle"},  # on the way down
        {"schedule": "one_cycle", "warmup_steps": 9},  # on the way up
        {"schedule": "one_cycle", "warmup_steps": 0},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup_steps": 4},
        {"schedule": "exponential", "decay_rate": 0.5},
        {"schedule": "exponential", "decay_rate": 0.5, "warmup_steps": 2},
        {"schedule": "constant", "warmup_steps": 3},
        {"schedule": "cosine", "max_steps": None, "epochs": 3.0},  # of 53 images: 20 steps
        # Of the 43 that a fold leaves: 20 steps again.
        {"schedule": "cosine", "max_steps": None, "epochs": 3.7, "validate_on": "1/5"},
    ],
)
def test_learning_rate_is_that_of_the_run(trained, changes, capsys):
    model = compiled(with_config(trained, **changes))
    config = replace(make_config("tiny", max_steps=20, epochs=None), **{**changes, **EPOCHS})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        steps = [tf.constant(step) for step in range(STEPS, STEPS + NEXT)]
        rates = [
            learning_rate_at(step, config, total_steps=20, steps_an_epoch=53 / 8) for step in steps
        ]
        expected = session.run(rates)
    np.testing.assert_allclose(learning_rates(model), expected, rtol=1e-5)
    assert capsys.readouterr().err == ""


EPOCHS = {"max_steps": 20, "epochs": None}


@pytest.mark.parametrize(
    ("changes", "rate", "message"),
    [
        ({"max_steps": STEPS}, 0.01, "the one_cycle learning rate has ended at 0: further"),
        ({"schedule": "cosine", "warmup_steps": 14}, 0.005, "cannot go on with this warm-up: the"),
        ({"epochs": 3.0, "max_steps": None, "data_dir": "gone"}, 0.01, "so the one_cycle learning"),
    ],
)
def test_learning_rate_that_keras_cannot_follow_is_told(trained, changes, rate, message, capsys):
    source = with_config(trained, **changes)
    if "data_dir" in changes:
        source = replace(source, run=replace(source.run, data_dir="gone"))
    assert learning_rates(compiled(source)) == pytest.approx([rate] * NEXT)
    assert message in capsys.readouterr().err


def test_weights_alone_are_exported_without_state(trained, tmp_path, capsys):
    best = trained.source.run.logdir / "best" / f"model.ckpt-{STEPS}"
    model = compiled(replace(trained.source, checkpoint=best))
    assert int(model.optimizer.iterations) == STEPS  # The run's checkpoint has the same weights.
    others = {name: value + 1 for name, value in trained.source.weights.items()}
    model = compiled(replace(trained.source, checkpoint=best, weights=others))
    assert int(model.optimizer.iterations) == 0
    assert not model.optimizer.built
    assert (
        "no training checkpoint has the same weights, so the optimiser" in capsys.readouterr().err
    )


def test_what_keras_cannot_keep_is_told(trained, capsys):
    model = compiled(
        with_config(trained, weight_decay=0.1, label_smoothing=0.1, clip_norm=2.0, momentum=0.5)
    )
    assert model.optimizer.weight_decay == 0.1
    assert model.optimizer.global_clipnorm == 2.0
    assert model.loss.label_smoothing == 0.1
    assert capsys.readouterr().err == (
        "Keras: a file cannot keep that weight decay leaves biases out; it shrinks them\n"
        "Keras: it has label smoothing for one-hot labels only, so train on those\n"
    )
    compiled(with_config(trained, optimizer="sgd", schedule="cosine"))
    assert capsys.readouterr().err == ""
    compiled(with_config(trained, teacher="runs/other"))
    assert capsys.readouterr().err == (
        "Keras: its loss is about the labels alone, not about the teacher's answers\n"
    )


def test_momentum_under_a_changing_rate_is_told(tmp_path, capsys):
    data_dir = tmp_path / "data"
    write_dataset(data_dir)
    config = make_config("tiny", optimizer="momentum", schedule="cosine", **EPOCHS)
    trained = train_and_go_on(tmp_path / "run", PLAIN, config, total_steps=20, data_dir=data_dir)
    model = compiled(trained.source)
    assert "Keras: momentum keeps past rates in its velocity" in capsys.readouterr().err
    model.jit_compile = False
    np.testing.assert_allclose(go_on_in_keras(model)[:2], trained.next_losses[:2], rtol=1e-4)


def test_run_that_was_imported_is_not_compiled(trained, tmp_path, capsys):
    source = replace(trained.source, run=replace(trained.source.run, config={}))
    write_h5(source, tmp_path / "tiny.h5")
    assert "not trained here: exported without a loss and an optimiser" in capsys.readouterr().err
    assert not keras.models.load_model(tmp_path / "tiny.h5").compiled


def test_unknown_optimizer_is_refused(trained):
    with pytest.raises(UserError, match=r"expected an optimizer of adam, momentum, .*, found lion"):
        compiled(with_config(trained, optimizer="lion"))


@pytest.mark.parametrize("text", [PLAIN, "residual\nconv 5 3x3\nend\nflatten\noutput\n"])
def test_every_file_gives_the_same_answers(trained, text, tmp_path):
    architecture = parse(text)
    source = replace(trained.source, architecture=architecture, weights=make_weights(architecture))
    images = make_examples(9)[0]
    expected = predict(architecture, source.weights, images)
    names = ("tiny.keras", "tiny.h5", "tiny.json", "tiny.yaml", "tiny.weights.h5")
    whole, h5, text_json, text_yaml, weights = (tmp_path / name for name in names)
    write_keras(source, whole)
    write_h5(source, h5)
    write_json(source, text_json)
    write_yaml(source, text_yaml)
    write_weights_h5(source, weights)
    for opened in (
        load_keras(whole, None),
        load_h5(h5, None),
        load_json(text_json, weights),
        load_yaml(text_yaml, weights),
        load_weights_h5(weights, text_json),
    ):
        np.testing.assert_allclose(opened(images), expected, atol=1e-5)
    assert json.loads(text_json.read_text()) == yaml.safe_load(text_yaml.read_text())
    assert np.ptp(expected) > 0.01
