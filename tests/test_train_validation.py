import json

import numpy as np
import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.architecture import parse_architecture
from model_definition.checkpoints import list_checkpoints
from tests.train_fixtures import (
    MODEL,
    flip_bit,
    make_config,
    make_examples,
    write_dataset,
    write_model,
)
from train import loop, validation
from train.loop import train
from train.plan import ImageSet
from train.validation import History, Score, Validator


@pytest.fixture(autouse=True)
def no_export(monkeypatch):
    monkeypatch.setattr(loop, "export_litert", lambda *_: None)


def score(step, accuracy, loss=1.0):
    return Score(step=step, accuracy=accuracy, loss=loss, mean_squared_error=0.1)


def test_accuracy_decides_then_loss_then_the_earlier_one():
    assert score(1, 0.5).better_than(None)
    assert score(2, 0.6, loss=2.0).better_than(score(1, 0.5))
    assert score(2, 0.5, loss=0.9).better_than(score(1, 0.5))
    assert not score(2, 0.5).better_than(score(1, 0.5))
    assert not score(2, 0.4, loss=0.1).better_than(score(1, 0.5))


def test_history_is_read_as_it_was_written(tmp_path):
    history = History(tmp_path, up_to_step=0)
    assert history.best is None
    scores = [score(5, 0.5), score(10, 0.7), score(15, 0.6)]
    for entry in scores:
        history.add(entry)
    assert history.best == scores[1]
    assert History(tmp_path, up_to_step=15).scores == scores
    again = History(tmp_path, up_to_step=14)
    assert again.scores == scores[:2]
    assert again.has(10)
    assert not again.has(15)


def test_patience_counts_validations_since_the_best(tmp_path):
    history = History(tmp_path, up_to_step=0)
    assert not history.patience_ended(1)
    for step, accuracy, ended in ((1, 0.5, False), (2, 0.4, False), (3, 0.6, False)):
        history.add(score(step, accuracy))
        assert history.patience_ended(2) == ended
    history.add(score(4, 0.6))
    assert history.patience_ended(1)
    assert not history.patience_ended(2)
    history.add(score(5, 0.6))
    assert history.patience_ended(2)
    assert not history.patience_ended(0)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"step": 1}]', '{"step": 1}'])
def test_damaged_history_is_refused(tmp_path, text):
    (tmp_path / "history.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"history\.json: not a list of validations \(.+\); restore"
    ):
        History(tmp_path, up_to_step=0)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation") / "tiny"
    write_dataset(folder)
    return folder


@pytest.mark.parametrize("batch_size", [3, 500])
def test_validator_scores_every_image_of_the_validation_split(
    data_dir, tmp_path, monkeypatch, batch_size
):
    monkeypatch.setattr(validation, "_BATCH_SIZE", batch_size)
    text = "flatten\noutput\n"
    architecture = parse_architecture(text, filename="", image_shape=(13, 9, 3), num_classes=5)
    weights = np.random.default_rng(2).normal(size=(351, 5)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("output/weights", initializer=weights)
        tf.compat.v1.get_variable("output/biases", [5], initializer=tf.zeros_initializer())
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), 40)
    whole = ImageSet(("validation",), None, 17)
    validator = Validator(data_dir, load_manifest(data_dir), architecture, whole)
    found = validator.score(tmp_path / "model.ckpt-40")
    assert validator.score(tmp_path / "model.ckpt-40") == found  # The metrics start from 0 again.

    images, labels = make_examples(17, first=53)
    logits = images.reshape(17, -1) / 255.0 @ weights.astype(float)
    probabilities = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    assert found.step == 40
    assert found.accuracy == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert found.loss == pytest.approx(
        -np.log(probabilities[np.arange(17), labels]).mean(), rel=1e-4
    )
    expected = ((probabilities - np.eye(5)[labels]) ** 2).mean()
    assert found.mean_squared_error == pytest.approx(expected, rel=1e-4)

    validator.save_best(tmp_path, found)
    [best] = list_checkpoints(tmp_path / "best")
    saved = tf.train.load_checkpoint(str(best)).get_tensor("output/weights")
    np.testing.assert_array_equal(saved, weights)


def test_test_split_takes_no_part_in_training(tmp_path):
    # Where it is not even there, nothing can have been chosen on it.
    manifest = write_dataset(tmp_path / "data")
    for shard in manifest.splits["test"].shards:
        (tmp_path / "data" / shard.name).unlink()
    config = make_config(write_model(tmp_path), epochs=None, max_steps=2, validate_every_steps=1)
    result = train(config, data_dir=tmp_path / "data", logdir=tmp_path / "run")
    history = json.loads((tmp_path / "run/history.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in history] == [1, 2]
    assert result.best is not None
    assert vars(result.best) in history
    assert list_checkpoints(tmp_path / "run/best")[0].name == f"model.ckpt-{result.best.step}"


def test_fold_takes_the_place_of_the_validation_split(tmp_path):
    manifest = write_dataset(tmp_path / "data")
    for split in ("validation", "test"):
        for shard in manifest.splits[split].shards:
            (tmp_path / "data" / shard.name).unlink()
    config = make_config(write_model(tmp_path), train_limit=30, validate_on="2/3", epochs=1.0)
    result = train(config, data_dir=tmp_path / "data", logdir=tmp_path / "run")
    assert result.step == 3  # 20 images in batches of 8
    [entry] = json.loads((tmp_path / "run/history.json").read_text(encoding="utf-8"))
    assert result.best is not None
    assert vars(result.best) == entry
    assert (10 * entry["accuracy"]) == pytest.approx(round(10 * entry["accuracy"]))


def test_damaged_validation_record_is_named(tmp_path):
    manifest = write_dataset(tmp_path / "data", num_shards=1)
    shard = tmp_path / "data" / manifest.splits["validation"].shards[0].name
    flip_bit(shard, -60)
    config = make_config(write_model(tmp_path), epochs=None, max_steps=2)
    with pytest.raises(
        UserError,
        match=f"^{shard}: record 16 .at byte [0-9,]+.: the checksum of its data does not match; "
        "python data_prep/verify.py",
    ):
        train(config, data_dir=tmp_path / "data", logdir=tmp_path / "run")


@pytest.mark.parametrize(
    ("sizes", "values", "reason"),
    [
        ({"train": 20, "test": 5}, {}, "the dataset has no validation split"),
        (
            {"train": 20, "validation": 9},
            {"train_splits": "train+validation"},
            "the validation split is trained on",
        ),
        ({"train": 20, "validation": 9}, {"validate_on": "none"}, "--validate_on=none"),
    ],
)
def test_without_validation_the_last_checkpoint_is_used(tmp_path, capsys, sizes, values, reason):
    write_dataset(tmp_path / "data", sizes=sizes)
    values = {"train_splits": "train", "epochs": 1.0, **values}
    model, logdir = write_model(tmp_path, MODEL), tmp_path / "run"
    with pytest.raises(
        UserError,
        match=f"^--patience=2: {reason}, so nothing tells when to stop; leave --patience out$",
    ):
        train(make_config(model, patience=2, **values), data_dir=tmp_path / "data", logdir=logdir)
    assert not logdir.exists()
    result = train(make_config(model, **values), data_dir=tmp_path / "data", logdir=logdir)
    assert result.best is None
    assert result.step == -(-sum(sizes[split] for split in values["train_splits"].split("+")) // 8)
    assert (
        f"no validation: {reason}; the last checkpoint will be the one that is used\n"
        in capsys.readouterr().err
    )
    assert not (logdir / "best").exists()
    assert not (logdir / "validation").exists()
