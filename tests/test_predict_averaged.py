from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.command_line import UserError
from model_definition.ensemble import load_ensemble
from predict.averaged import AveragedClassifier, load_averaged
from predict.classifier import Classifier, Judgement
from tests.predict_fixtures import export_matcher, write_test_run


class Linear(Classifier):
    """Answers by random weights, and scores by the mean pixel; gives no scores without a limit."""

    def __init__(self, seed: int, limit: float | None = 100.0) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(7 * 5, 3)) / 500
        self.limit = limit
        self.rejection = None if limit is None else 0.0

    def judge(self, images: np.ndarray) -> Judgement:
        logits = np.exp(images.reshape(len(images), -1) @ self.weights)
        probabilities = (logits / logits.sum(axis=1, keepdims=True)).astype(np.float32)
        if self.limit is None:
            unknown = np.full(len(images), np.nan, np.float32)
            return Judgement(probabilities, unknown, np.ones(len(images), bool))
        scores = (images.mean(axis=(1, 2, 3)) - self.limit).astype(np.float32)
        return Judgement(probabilities, scores, scores >= 0)


@pytest.fixture
def images() -> np.ndarray:
    random = np.random.default_rng(1)
    brightness = np.linspace(60, 255, 11).reshape(11, 1, 1, 1)
    return (random.uniform(0.3, 1, (11, 7, 5, 1)) * brightness).astype(np.uint8)


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_probabilities_are_the_mean_over_runs_and_shifts(images, reach):
    classifiers = [Linear(0), Linear(1), Linear(2)]
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    copies = [
        padded[:, y : y + 7, x : x + 5] for y in range(2 * reach + 1) for x in range(2 * reach + 1)
    ]
    expected = np.mean([one.predict(copy) for one in classifiers for copy in copies], axis=0)
    found = AveragedClassifier(classifiers, reach).predict(images)
    assert found.shape == (11, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_scores_are_the_runs_mean_on_images_as_they_are(images):
    classifiers = [Linear(0, limit=90), Linear(1, limit=110), Linear(2, limit=None)]
    expected = images.mean(axis=(1, 2, 3)) - 100
    assert (expected >= 0).any() and (expected < 0).any()
    for reach in (0, 2):
        averaged = AveragedClassifier(classifiers, reach)
        assert averaged.rejection == 0.0
        judged = averaged.judge(images)
        np.testing.assert_allclose(judged.scores, expected, atol=1e-3)
        np.testing.assert_array_equal(judged.is_digit, expected >= 0)


def test_without_any_scores_everything_is_accepted(images):
    averaged = AveragedClassifier([Linear(0, limit=None), Linear(1, limit=None)], 1)
    judged = averaged.judge(images)
    assert averaged.rejection is None
    assert np.isnan(judged.scores).all() and judged.is_digit.all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs of 7x5 images: `a`, which gives no scores, and `b`, which does."""
    folder = tmp_path_factory.mktemp("runs")
    templates = np.random.default_rng(0).integers(0, 255, (3, 7, 5, 1), np.uint8)
    for name, least in (("a", None), ("b", 0.5)):
        run = write_test_run(folder / name, class_names=tuple("xyz"), image_shape=(7, 5, 1))
        export_matcher(run, templates, least_likeness=least)
    return folder


def test_exported_models_are_averaged(folder, images, capsys):
    both = load_averaged(load_ensemble(f"{folder}/a,{folder}/b"), test_time_shifts=1)
    alone = [load_averaged(load_ensemble(str(folder / name)), 1) for name in "ab"]
    expected = np.mean([one.predict(images) for one in alone], axis=0)
    np.testing.assert_allclose(both.predict(images), expected, rtol=1e-5)
    assert both.rejection == 0.0
    said = capsys.readouterr().err
    assert said == f"{folder}/a: no calibration, so it has no part in telling what is no digit\n"


def test_one_run_is_its_own_classifier(folder, capsys):
    for name in "ab":
        assert not isinstance(load_averaged(load_ensemble(str(folder / name))), AveragedClassifier)
    assert capsys.readouterr().err == ""


def test_a_member_without_its_model_is_named(folder, tmp_path):
    shutil.copytree(folder / "a", tmp_path / "a")
    write_test_run(tmp_path / "c", class_names=tuple("xyz"), image_shape=(7, 5, 1))
    with pytest.raises(UserError, match=r"c/export/model.tflite: no such file; training writes it"):
        load_averaged(load_ensemble(f"{tmp_path}/a,{tmp_path}/c"))
