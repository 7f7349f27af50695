from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from data_prep.command_line import UserError
from predict.classifier import load_classifier
from tests.predict_fixtures import export_matcher, write_test_run
from tests.train_fixtures import flip_bit

NAMES = ("left", "middle", "right")

STEPS = ("resize_tensor_input", "allocate_tensors", "set_tensor", "invoke", "get_tensor")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 5x7 colour images, whose classes are the third that is lit."""
    run = write_test_run(
        tmp_path_factory.mktemp("runs") / "thirds",
        class_names=NAMES,
        image_shape=(5, 7, 3),
        image_preparation="resize",
    )
    export_matcher(run, lit_thirds())
    return run


def lit_thirds():
    images = np.zeros((3, 5, 7, 3), np.uint8)
    images[0, :, :2], images[1, :, 2:5], images[2, :, 5:] = 255, 255, 255
    return images


def test_batches_of_any_size(run):
    classifier = load_classifier(run)
    images = lit_thirds()[[2, 0, 1, 1]]
    for count in (4, 1, 3):
        probabilities = classifier.predict(images[:count])
        assert probabilities.shape == (count, 3) and probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        assert probabilities.argmax(axis=1).tolist() == [2, 0, 1, 1][:count]


def test_nothing_is_said_to_stderr(run, capfd):
    load_classifier(run).predict(lit_thirds())
    assert capfd.readouterr() == ("", "")
    os.write(2, b"stderr is itself again")
    assert capfd.readouterr().err == "stderr is itself again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_shape": (7, 5, 3)},
            r"expected a model from uint8 \[7, 5, 3\] to float32 \[3\] as run.json says, "
            r"found one from uint8 \[5, 7, 3\] to float32 \[3\]; train_lenet.py --logdir=",
        ),
        ({"class_names": (*NAMES, "top")}, r".* to float32 \[4\] as .* to float32 \[3\]; train"),
    ],
)
def test_model_of_another_shape_than_the_run(run, change, message):
    with pytest.raises(UserError, match=f"model.tflite: {message}"):
        load_classifier(dataclasses.replace(run, **change))


def test_run_that_exported_nothing_yet(tmp_path):
    run = write_test_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"model.tflite: no such file; training writes it"):
        load_classifier(run)


@pytest.mark.parametrize("length", [0, 3, 100, -200])
def test_damaged_model(run, tmp_path, length):
    damaged = dataclasses.replace(run, logdir=tmp_path)
    damaged.export_path.parent.mkdir()
    damaged.export_path.write_bytes(run.export_path.read_bytes()[:length])
    with pytest.raises(
        UserError, match=r"model.tflite: expected a LiteRT model, found a file that"
    ):
        load_classifier(damaged)


def write_digest(run):
    path = run.export_path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_flipped_bit_is_found_by_the_sha256(run, tmp_path, place):
    damaged = dataclasses.replace(run, logdir=tmp_path)
    damaged.export_path.parent.mkdir()
    shutil.copy(run.export_path, damaged.export_path)
    write_digest(damaged)
    load_classifier(damaged)
    flip_bit(damaged.export_path, int(place * damaged.export_path.stat().st_size))
    with pytest.raises(
        UserError,
        match=r"model\.tflite: damaged, for its sha256 is not the one in model\.tflite\.sha256; "
        r"train_lenet\.py --logdir=.* writes it anew$",
    ):
        load_classifier(damaged)


def test_model_that_gives_no_numbers(run, monkeypatch):
    classifier = load_classifier(run)
    nothing = np.full((1, len(run.class_names)), np.nan, np.float32)
    monkeypatch.setattr(
        classifier, "_interpreter", SimpleNamespace(**dict.fromkeys(STEPS, lambda *_: nothing))
    )
    with pytest.raises(UserError, match=r"model.tflite: damaged, for its probabilities are no"):
        classifier.predict(np.zeros((1, *run.image_shape), np.uint8))


def test_file_that_is_no_model(run, tmp_path):
    damaged = dataclasses.replace(run, logdir=tmp_path)
    damaged.export_path.parent.mkdir()
    damaged.export_path.write_bytes(b"<html>not a model</html>" * 100)
    with pytest.raises(UserError, match=r"model.tflite: expected a LiteRT model"):
        load_classifier(damaged)


def export_with_scores(run):
    """Exports a model whose score is the mean tone above 100."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, *run.image_shape], tf.uint8)])
    def judge(pixels):
        tone = tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2, 3])
        shares = tf.stack([tone / 255, 1 - tone / 255, 0 * tone], axis=1)
        return {"probabilities": shares, "scores": tone - 100}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([judge.get_concrete_function()])
    run.export_path.parent.mkdir(parents=True)
    run.export_path.write_bytes(converter.convert())


def test_images_are_accepted_from_a_score_of_0_on(tmp_path):
    run = write_test_run(
        tmp_path / "run",
        class_names=NAMES,
        image_shape=(5, 7, 3),
        image_preparation="resize",
    )
    export_with_scores(run)
    classifier = load_classifier(run)
    assert classifier.rejection == 0
    images = np.stack([np.full(run.image_shape, tone, np.uint8) for tone in (99, 100, 255)])
    judgement = classifier.judge(images)
    np.testing.assert_allclose(judgement.scores, [-1, 0, 155], atol=1e-3)
    assert judgement.is_digit.tolist() == [False, True, True]
    np.testing.assert_array_equal(judgement.probabilities, classifier.predict(images))
    assert judgement.probabilities.shape == (3, 3)


def test_model_without_scores_accepts_everything(run):
    classifier = load_classifier(run)
    assert classifier.rejection is None
    judgement = classifier.judge(lit_thirds())
    assert judgement.is_digit.tolist() == [True] * 3 and judgement.is_digit.dtype == bool
    assert np.isnan(judgement.scores).all() and judgement.scores.shape == (3,)
    assert judgement.probabilities.argmax(axis=1).tolist() == [0, 1, 2]
