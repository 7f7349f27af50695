"""The runs of a learning curve: trained once, measured, stopped and gone on with."""

import csv
import json
import signal
from typing import Any

import numpy as np
import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.architecture import load_architecture
from model_definition.run_dir import load_run
from tests.train_fixtures import make_config, write_dataset, write_model
from train import curve_runs, loop
from train.curve import FOLDS, Curve
from train.curve_runs import complete_curve
from train.learning_curve import list_keys, require_images
from train.plan import make_plan
from train.validation import Validator


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curve") / "tiny"
    write_dataset(folder)
    return folder


@pytest.fixture
def complete(data_dir, tmp_path, monkeypatch):
    """Makes or goes on with the curve in tmp_path / "curve"; two steps a run."""
    monkeypatch.setattr(loop, "export_litert", lambda *_: None)
    model = write_model(tmp_path, "flatten\noutput\n")

    def complete(sizes, *, seeds=1, folds=None, split="test", **changes):
        values = {"epochs": None, "max_steps": 2, "validate_on": "none", **changes}
        config = make_config(model, **values)
        manifest = load_manifest(data_dir)
        text = load_architecture(model, image_shape=manifest.image_shape, num_classes=5).text
        measured_on = FOLDS if folds else split
        curve = Curve(manifest.name, manifest.digest, text, measured_on, config.to_json())
        keys = list_keys([str(size) for size in sizes], seeds=seeds, folds=folds)
        require_images(curve, config, keys, manifest)
        return complete_curve(curve, config, keys, data_dir=data_dir, logdir=tmp_path / "curve")

    return complete


def count_runs(monkeypatch):
    trained = []
    train = curve_runs.train

    def counted(config, **options):
        trained.append(options["logdir"].name)
        return train(config, **options)

    monkeypatch.setattr(curve_runs, "train", counted)
    return trained


def test_each_run_is_a_run_folder_measured_on_the_test_split(complete, data_dir, tmp_path):
    points, stopped = complete([10, 53], seeds=2)
    assert not stopped
    assert [(point.images, point.seed, point.step) for point in points] == [
        (10, 0, 2),
        (10, 1, 2),
        (53, 0, 2),
        (53, 1, 2),
    ]
    manifest = load_manifest(data_dir)
    kept: list[Any] = []
    for point in points:
        run = load_run(tmp_path / "curve" / point.key.folder)
        assert (run.config["train_limit"], run.config["seed"]) == (point.images, point.seed)
        assert not (run.logdir / "history.json").exists()  # Nothing was chosen.
        config = make_config(run.model, train_limit=point.images, seed=point.seed)
        kept.append(make_plan(config, data_dir, manifest).training.kept)
        assert point.measured_images == 11
        right = point.accuracy * 11
        assert right == pytest.approx(round(right), abs=1e-4)
    assert not np.array_equal(kept[0], kept[1])  # Each seed has images of its own.
    assert (tmp_path / "curve/curve.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_there_is_not_trained_again(complete, tmp_path, monkeypatch):
    trained = count_runs(monkeypatch)
    first, _ = complete([10])
    again, stopped = complete([10])
    assert again == first
    assert not stopped
    more, _ = complete([20], seeds=2)
    assert more[0] == first[0]
    assert trained == ["10-images-seed-0", "20-images-seed-0", "20-images-seed-1"]
    with (tmp_path / "curve/curve.csv").open(encoding="utf-8", newline="") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == trained
    with pytest.raises(UserError, match=r"holds another curve \(batch_size: 8 in the run, 4 now\)"):
        complete([10], batch_size=4)


def test_run_that_was_trained_but_not_measured_is_only_measured(complete, tmp_path):
    [point], _ = complete([10])
    (tmp_path / "curve/curve.json").unlink()
    weights = tmp_path / "curve/10-images-seed-0/model.ckpt-2.index"
    before = weights.stat().st_mtime_ns
    assert complete([10])[0] == [point]
    assert weights.stat().st_mtime_ns == before


def test_folds_are_measured_within_the_few(complete, data_dir, tmp_path, monkeypatch):
    validated = []
    make = Validator.__init__

    def spy(self, data_dir, manifest, architecture, images):
        validated.append(images)
        make(self, data_dir, manifest, architecture, images)

    monkeypatch.setattr(Validator, "__init__", spy)
    points, _ = complete([10], folds=3, max_steps=4, validate_every_steps=2)
    assert [(point.fold, point.measured_images) for point in points] == [
        ("1/3", 3),
        ("2/3", 3),
        ("3/3", 4),
    ]
    config = make_config("lenet", train_limit=10)
    few: Any = make_plan(config, data_dir, load_manifest(data_dir)).training.kept
    assert np.array_equal(np.sum([images.kept for images in validated], axis=0), few)
    for point in points:
        history = (tmp_path / "curve" / point.key.folder / "history.json").read_text("utf-8")
        last = json.loads(history)[-1]
        assert (point.step, point.accuracy) == (4, last["accuracy"])  # Not the best of them.


def test_best_checkpoint_is_chosen_on_a_fold_where_one_is_named(complete, tmp_path):
    [point], _ = complete([20], validate_on="1/4", validate_every_steps=1)
    history = (tmp_path / "curve/20-images-seed-0/history.json").read_text("utf-8")
    best = max(json.loads(history), key=lambda entry: (entry["accuracy"], -entry["loss"]))
    assert point.step == best["step"]
    assert point.measured_images == 11


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([10, 54], {}, "--sizes: 54 is more than the 53 images of train; leave it out, or name"),
        ([3, 10], {"folds": 4}, "--sizes: 3 images do not fill 4 folds; leave that size out"),
        ([3], {"validate_on": "1/4"}, "--sizes: 3 images do not fill 4 folds; leave that size out"),
        ([10], {"split": "train"}, "--split=train: train is trained on; name another"),
        ([10], {"split": "tast"}, "split 'tast': the dataset tiny has train, validation, test"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(
    complete, tmp_path, sizes, options, message
):
    with pytest.raises(UserError, match=f"^{message}"):
        complete(sizes, **options)
    assert not (tmp_path / "curve").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds=2", "--split=test"], "--folds measures on the training images; leave --split"),
        (["--folds=2", "--validate_on=1/2"], "--folds leaves each fold out in its turn; leave"),
        (["--train_limit=9"], "--sizes says on how many images to train; leave --train_limit out"),
        (["--seed=0"], "--seeds says how many seeds there are, from 0 on; leave --seed out"),
        (["--validate_on=validation"], "--validate_on=validation: those images are not among"),
        (["--recipe=seeded.txt"], "--seed=3 of the recipe: the runs of a curve differ in that;"),
        (["--sizes=6,six"], "--sizes: found 'six', expected whole numbers"),
    ],
)
def test_flags_that_the_curve_sets_itself_are_refused(run_script, tmp_path, arguments, message):
    (tmp_path / "seeded.txt").write_text("--seed=3\n", encoding="utf-8")
    done = run_script("train/learning_curve.py", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"learning_curve.py: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["seeded.txt"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--sizes=54", "--sizes: 54 is more than the 53 images of train; leave it out, or name"),
        ("--logdir=tensorflow.py", "tensorflow.py: a file; name a folder with --logdir"),
    ],
)
def test_slips_are_answered_before_tensorflow_is_imported(
    run_script, data_dir, tmp_path, argument, message
):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError", encoding="utf-8")
    arguments = [f"--data_dir={data_dir}", "--sizes=9", "--recipe=lenet", argument]
    done = run_script(
        "train/learning_curve.py", *arguments, cwd=tmp_path, env={"PYTHONPATH": tmp_path}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"learning_curve.py: {message}"), done.stderr


def test_stopped_curve_goes_on(start_script, run_script, data_dir, tmp_path):
    model = write_model(tmp_path, "flatten\noutput\n")
    arguments = [
        "train/learning_curve.py",
        f"--data_dir={data_dir}",
        f"--model={model}",
        f"--logdir={tmp_path / 'curve'}",
        "--sizes=10,20",
        "--seeds=1",
        "--batch_size=8",
        "--max_steps=300",
        "--validate_every_steps=100",
    ]
    process = start_script(*arguments)
    for line in process.stderr:
        if line.startswith("run 2 of 2"):
            break
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 42
    assert out.endswith("stopped; run the same command again to go on\n")
    assert out.splitlines()[1] == "  images  runs  accuracy  deviation   lowest  highest"

    done = run_script(*arguments, "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 runs are there already\nrun 1 of 1: 20-images-seed-0\n" in done.stderr
    facts = json.loads(done.stdout)
    assert [entry["images"] for entry in facts["sizes"]] == [10, 20]
    assert facts["runs"][1]["step"] == 300
    assert not facts["stopped_by_signal"]
