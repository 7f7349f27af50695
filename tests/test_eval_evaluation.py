from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from eval.evaluation import Evaluation, evaluate
from model_definition.ensemble import Member
from model_definition.run_dir import Run
from tests import eval_fixtures

N = 17  # test images, of 4 of the 5 classes more than of the last


@dataclass
class Trained:
    """A run with a checkpoint, and what it was trained on."""

    run: Run
    data_dir: Path
    manifest: Manifest
    weights: dict[str, np.ndarray]
    checkpoint: Path

    def evaluate(self, **changes) -> Evaluation:
        values = {
            "data_dir": self.data_dir,
            "manifest": self.manifest,
            "splits": ("test",),
            "batch_size": 5,
            "checkpoint": self.checkpoint,
            "members": None,
            **changes,
        }
        own = [Member(self.run, values.pop("checkpoint"))]
        return evaluate(values.pop("members") or own, **values)

    def expect(self, *splits: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the splits' images and labels, and the probabilities by numpy."""
        pieces = [eval_fixtures.read_split(self.data_dir, self.manifest, s) for s in splits]
        images, labels = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
        return images, labels, eval_fixtures.predict(images, self.weights)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_dataset) -> Trained:
    folder = tmp_path_factory.mktemp("eval")
    manifest = make_dataset(folder / "tiny", num_test=N)
    run = eval_fixtures.make_run(folder / "run", folder / "tiny", manifest)
    weights = eval_fixtures.make_weights(run, seed=0)
    checkpoint = eval_fixtures.write_checkpoint(run.logdir, 40, weights)
    return Trained(run, folder / "tiny", manifest, weights, checkpoint)


@pytest.mark.parametrize("batch_size", [1, 7, N - 1, N, N + 1])
def test_every_example_counts_once_whatever_the_batch_size(trained, batch_size):
    _, labels, probabilities = trained.expect("test")
    found = trained.evaluate(batch_size=batch_size)
    assert found.metrics.num_examples == len(labels) == N
    confusion = np.zeros((5, 5), int)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    assert found.metrics.confusion.tolist() == confusion.tolist()
    expected = eval_fixtures.score(probabilities, labels)
    assert 0.2 < expected["accuracy"] < 0.95  # else nothing would be tested
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-5), name


def test_what_it_says_of_itself(trained):
    found = trained.evaluate()
    assert (found.dataset, found.split, found.step) == ("tiny", "test", 40)
    assert found.checkpoint == str(trained.checkpoint)
    low, high = found.accuracy_interval
    assert low < found.accuracy < high


def test_json_is_plain_and_complete(trained):
    found = trained.evaluate()
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["num_examples"] == N
    assert facts["checkpoint"] == str(trained.checkpoint)
    assert facts["accuracy"] == found.accuracy
    # The nearest short number to k/17, not a float32's seventeen digits.
    assert len(str(facts["accuracy"])) <= 11
    assert [row["class_name"] for row in facts["per_class"]] == list(trained.run.class_names)
    assert sum(row["support"] for row in facts["per_class"]) == N
    assert np.trace(facts["confusion_matrix"]) / N == pytest.approx(facts["accuracy"])
    assert set(facts) == {
        "dataset",
        "split",
        "num_examples",
        "checkpoint",
        "step",
        "accuracy",
        "accuracy_95",
        "loss",
        "mean_squared_error",
        "top_2_accuracy",
        "expected_calibration_error",
        "per_class",
        "confusion_matrix",
    }


def test_a_sum_of_splits(trained):
    _, labels, probabilities = trained.expect("train", "validation")
    found = trained.evaluate(splits=("train", "validation"), batch_size=9)
    assert found.split == "train+validation"
    assert found.metrics.num_examples == 61 + 11 == len(labels)
    assert found.loss == pytest.approx(eval_fixtures.score(probabilities, labels)["loss"], rel=1e-5)


def test_mistakes_are_those_of_the_split(trained):
    images, labels, probabilities = trained.expect("test")
    mistakes = trained.evaluate().metrics.mistakes
    assert len(mistakes) == (probabilities.argmax(axis=1) != labels).sum() > 0
    for mistake in mistakes:
        np.testing.assert_allclose(mistake.image, images[mistake.index] / 255, atol=1e-6)
        assert mistake.label == labels[mistake.index]
        assert mistake.confidence == pytest.approx(probabilities[mistake.index].max(), rel=1e-5)


def test_moving_averages_are_what_is_evaluated(trained):
    other = eval_fixtures.make_weights(trained.run, seed=1)
    averages = {f"{k}/ExponentialMovingAverage": v for k, v in trained.weights.items()}
    checkpoint = eval_fixtures.write_checkpoint(trained.run.logdir, 41, {**other, **averages})
    found, expected = trained.evaluate(checkpoint=checkpoint), trained.evaluate()
    assert found.loss == expected.loss
    plain = eval_fixtures.write_checkpoint(trained.run.logdir, 42, other)
    assert trained.evaluate(checkpoint=plain).loss != expected.loss


@pytest.fixture(scope="module")
def members(trained) -> list[Member]:
    """The run itself, and two others with other weights, of which the last has moving averages."""
    found = [Member(trained.run, trained.checkpoint)]
    for seed in (5, 6):
        logdir = trained.run.logdir.with_name(f"run-{seed}")
        run = eval_fixtures.make_run(logdir, trained.data_dir, trained.manifest)
        weights = eval_fixtures.make_weights(run, seed)
        if seed == 6:
            averages = {f"{k}/ExponentialMovingAverage": v for k, v in weights.items()}
            weights = {**eval_fixtures.make_weights(run, seed=7), **averages}
        found.append(Member(run, eval_fixtures.write_checkpoint(logdir, 40 + seed, weights)))
    return found


def expect_average(trained, images, seeds=(0, 5, 6), reach=0):
    """The mean probabilities by numpy: those of every shift of every member."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    places = range(2 * reach + 1)
    return np.mean(
        [
            eval_fixtures.predict(
                padded[:, y : y + height, x : x + width],
                eval_fixtures.make_weights(trained.run, seed),
            )
            for seed in seeds
            for y in places
            for x in places
        ],
        axis=0,
    )


@pytest.mark.parametrize(("reach", "batch_size"), [(0, 5), (2, 60), (1, 3)])
def test_several_runs_are_scored_by_their_mean_probabilities(trained, members, reach, batch_size):
    images, labels, _ = trained.expect("test")
    expected = eval_fixtures.score(expect_average(trained, images, reach=reach), labels)
    found = trained.evaluate(members=members, test_time_shifts=reach, batch_size=batch_size)
    assert found.metrics.num_examples == N
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-5)
    alone = [
        eval_fixtures.score(expect_average(trained, images, [seed], reach), labels)["accuracy"]
        for seed in (0, 5, 6)
    ]
    assert found.member_accuracies == pytest.approx(alone)
    assert len({*alone, found.accuracy}) > 1  # They do differ.
    facts = json.loads(json.dumps(found.to_json()))
    assert facts["checkpoint"] == ",".join(str(member.checkpoint) for member in members)
    assert facts["step"] == 46
    assert facts["members"][1] == {
        "logdir": str(members[1].run.logdir),
        "checkpoint": str(members[1].checkpoint),
        "step": 45,
        "accuracy": pytest.approx(alone[1]),
    }
    assert facts.get("test_time_shifts", 0) == reach


def test_one_run_with_shifts(trained):
    images, labels, _ = trained.expect("test")
    expected = eval_fixtures.score(expect_average(trained, images, [0], reach=1), labels)
    found = trained.evaluate(test_time_shifts=1)
    assert found.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert found.loss != pytest.approx(trained.evaluate().loss, rel=1e-3)
    assert "members" not in found.to_json()


def test_a_probability_of_zero_leaves_a_finite_loss(trained, members):
    weights = {name: 1e4 * value for name, value in trained.weights.items()}
    logdir = trained.run.logdir.with_name("certain")
    run = eval_fixtures.make_run(logdir, trained.data_dir, trained.manifest)
    certain = Member(run, eval_fixtures.write_checkpoint(logdir, 1, weights))
    images, labels, _ = trained.expect("test")
    found = trained.evaluate(members=[certain, members[1]])
    mean = (
        eval_fixtures.predict(images, weights)
        + eval_fixtures.predict(images, eval_fixtures.make_weights(trained.run, 5))
    ) / 2
    assert mean.min() > 0
    assert found.loss == pytest.approx(eval_fixtures.score(mean, labels)["loss"], rel=1e-4)
    assert np.isfinite(trained.evaluate(members=[certain, certain]).loss)


def test_a_split_s_answers_come_in_the_order_of_the_records(trained, members):
    images, labels, probabilities = trained.expect("validation", "test")

    def answer(**given):
        batches = []
        trained.evaluate(
            splits=("validation", "test"), on_batch=lambda *batch: batches.append(batch), **given
        )
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    found = answer(members=members[:1])
    np.testing.assert_array_equal(found[0], labels)
    np.testing.assert_allclose(found[1], probabilities, atol=1e-6)
    shifted = answer(members=members, test_time_shifts=1)
    np.testing.assert_allclose(shifted[1], expect_average(trained, images, reach=1), atol=1e-6)


def test_a_checkpoint_of_another_model_is_refused(trained):
    for weights, found in (
        ({**trained.weights, "output/biases": np.zeros(4, np.float32)}, r"\[4\]"),
        ({"output/weights": trained.weights["output/weights"]}, "missing"),
    ):
        checkpoint = eval_fixtures.write_checkpoint(trained.run.logdir, 43, weights)
        message = rf"model.ckpt-43: output/biases is \[5\] in model.txt and {found} here; this "
        with pytest.raises(UserError, match=message):
            trained.evaluate(checkpoint=checkpoint)


def test_a_damaged_record_is_named(trained, tmp_path):
    data_dir = Path(shutil.copytree(trained.data_dir, tmp_path / "tiny"))
    shard = data_dir / trained.manifest.splits["test"].shards[1].name
    content = bytearray(shard.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    shard.write_bytes(content)
    message = rf"{shard.name}: record \d+.*; python data_prep/verify.py --data_dir={data_dir}"
    with pytest.raises(UserError, match=message):
        trained.evaluate(data_dir=data_dir)


def test_a_missing_shard_is_named(trained, tmp_path):
    data_dir = Path(shutil.copytree(trained.data_dir, tmp_path / "tiny"))
    shard = data_dir / trained.manifest.splits["test"].shards[0].name
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: expected .* bytes, found no file; "):
        trained.evaluate(data_dir=data_dir)


def test_another_number_of_examples_than_promised_is_no_result(trained):
    splits = dict(trained.manifest.splits)
    splits["test"] = dataclasses.replace(splits["test"], num_examples=N + 1)
    manifest = dataclasses.replace(trained.manifest, splits=splits)
    message = rf"tiny: expected {N + 1} examples in test, found {N}; .*verify.py .*says why"
    with pytest.raises(UserError, match=message):
        trained.evaluate(manifest=manifest)
