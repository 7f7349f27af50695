"""Updates of a run: accepted where they help and forget nothing, and refused in words."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from input_pipeline.augmentation import Augmentation
from input_pipeline.mixture import Part
from model_definition.checkpoints import InferenceSaver, choose_checkpoint
from model_definition.inference import open_model
from model_definition.run_dir import load_run
from model_definition.versions import choose_version, list_versions
from predict.classifier import load_classifier
from tests.train_fixtures import (
    CLASS_NAMES,
    make_config,
    make_examples,
    start_script,
    write_dataset,
    write_model,
)
from train.loop import train
from train.run_lock import locked
from train.update import format_result
from train.updating import learning, updating
from train.updating.judging import Comparison
from train.updating.learning import learn
from train.updating.updating import UpdateOptions, update

MODEL = "conv 8 3x3\nbatchnorm\nrelu\nmaxpool 2x2\nflatten\ndense 32\noutput\n"
OPTIONS = UpdateOptions(learning_rate=0.01, steps=60, seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder of a run that reads bright rows, and its dataset folder."""
    folder = tmp_path_factory.mktemp("update")
    write_dataset(folder / "data", sizes={"train": 250, "validation": 120, "test": 11})
    config = make_config(write_model(folder, MODEL), batch_size=25, epochs=6.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.loop.calibrate", lambda *_: None)
        train(config, data_dir=folder / "data", logdir=folder / "run")
    return folder / "run", folder / "data"


@pytest.fixture
def logdir(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def no_calibration(monkeypatch):
    """It takes longer than these updates, and is tested by itself."""
    monkeypatch.setattr(updating, "calibrate", lambda *_: None)


def make_style(n, *, first=0):
    """Images of another style, which have a bright column instead of a row; and their labels."""
    images, labels = make_examples(n, first=first)
    images[np.arange(n), 2 + 2 * labels] //= 2
    images[np.arange(n), :, 1 + labels] = 255
    return images, labels


def write_style(folder, n=24, *, first=5000):
    write_dataset(folder, examples={"train": make_style(n, first=first)})
    return folder


def accuracy(run, images, labels):
    return float((load_classifier(run).predict(images).argmax(axis=1) == labels).mean())


def test_style_is_learnt_and_nothing_is_forgotten(logdir, trained, tmp_path, capsys):
    style, known = make_style(200, first=9000), make_examples(200, first=20_000)
    before = load_run(logdir)
    assert accuracy(before, *style) < 0.7
    result = update(logdir, write_style(tmp_path / "new"), OPTIONS)
    after = load_run(logdir)
    assert (result.objections, after.version) == ((), 2)
    assert accuracy(after, *style) > accuracy(before, *style) + 0.15
    assert accuracy(after, *known) > accuracy(before, *known) - 0.05
    assert (result.num_learnt, result.num_held_out) == (16, 8)
    assert "learning 16 new images, 8 more held out, in 60 steps" in capsys.readouterr().err
    [version] = list_versions(logdir)
    assert (version.number, version.base, version.num_learnt) == (2, 1, 16)
    assert version.training == {"learning_rate": 0.01, "steps": 60, "seed": 0}
    assert [one["images"] for one in version.comparisons] == [
        "original validation",
        "new images, held out",
    ]
    text = format_result(result)
    assert text.endswith(f"accepted: version 2 of {logdir} is in use")
    assert text.startswith("original validation (120 images), against version 1\n  ")
    # The checkpoint is what was exported, and batch normalisation's averages have moved little.
    with open_model(after, choose_checkpoint(after, "best")) as model:
        expected, weights = model.predict(style[0]), model.weights()
    np.testing.assert_allclose(load_classifier(after).predict(style[0]), expected, atol=1e-5)
    with open_model(before, choose_checkpoint(before, "best")) as model:
        old = model.weights()
    for name in ("batchnorm1/moving_mean", "batchnorm1/moving_variance"):
        change = np.abs(weights[name] - old[name])
        assert 0 < change.max() < 0.5 * np.abs(old[name]).max()
    # The trained run is as it was, and can be returned to.
    choose_version(logdir, 1)
    np.testing.assert_array_equal(
        load_classifier(load_run(logdir)).predict(style[0]),
        load_classifier(before).predict(style[0]),
    )


def test_same_update_gives_the_same_weights(logdir, trained, tmp_path):
    run, data = load_run(logdir), trained[1]
    new = write_dataset(tmp_path / "new", examples={"train": make_style(24)})
    slightly = Augmentation(shift=0.1, rotation=5)
    parts = [
        Part(data, load_manifest(data), ["train"], seed=3),
        Part(tmp_path / "new", new, ["train"], augmentation=slightly),
    ]
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = make_config("", epochs=None, max_steps=5, seed=seed)
        given = [replace(part, seed=seed) for part in parts]
        path = learn(run, choose_checkpoint(run, "best"), given, config, tmp_path / name)
        assert path.name == "model.ckpt-1005"  # The run is short, its step 60.
        reader = tf.train.load_checkpoint(str(path))
        found.append({n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()})
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name])
    assert not np.array_equal(found[0]["conv1/weights"], found[2]["conv1/weights"])


def test_later_updates_rehearse_the_earlier_ones_and_are_compared_with_the_first(
    logdir, tmp_path, monkeypatch
):
    parts = []

    def learn(run, checkpoint, given, *rest, original=updating.learn):
        parts.append([(part.data_dir.name, part.weight) for part in given])
        return original(run, checkpoint, given, *rest)

    monkeypatch.setattr(updating, "learn", learn)
    monkeypatch.setattr(updating, "convert_litert", lambda *_, **__: b"takes long")
    monkeypatch.setattr(Comparison, "objection", lambda self: None)
    monkeypatch.setattr(updating, "_FEWEST_STEPS", 3)
    options = UpdateOptions(learning_rate=0.001, steps=None, seed=0)
    update(logdir, write_style(tmp_path / "one"), options)
    result = update(logdir, write_style(tmp_path / "two", first=7000), options)
    assert parts == [
        [("data", 14.0), ("examples", 1.0)],
        [("data", 14.0), ("examples", 1.0), ("earlier", 1.0)],
    ]
    assert [(one.images, one.version, one.num_images) for one in result.comparisons] == [
        ("original validation", 2, 120),
        ("original validation", 1, 120),
        ("earlier images, held out", 2, 8),
        ("new images, held out", 2, 8),
    ]
    assert [(v.number, v.base) for v in list_versions(logdir)] == [(2, 1), (3, 2)]


def test_update_that_forgets_is_not_accepted(logdir, tmp_path):
    """Labels that contradict the original images."""
    images, labels = make_examples(40, first=5000)
    examples = {"train": (images, (labels + 1) % len(CLASS_NAMES))}
    write_dataset(tmp_path / "wrong", examples=examples)
    result = update(logdir, tmp_path / "wrong", replace(OPTIONS, learning_rate=0.05))
    assert result.version is None
    assert result.objections[0].startswith("original validation: ")
    assert "had nothing been forgotten" in result.objections[0]
    assert f"not accepted, version 1 stays in use:\n  {result.objections[0]}" in format_result(
        result
    )
    assert load_run(logdir).version == 1
    assert sorted(path.name for path in (logdir / "export").iterdir()) == [
        "model.tflite",
        "model.tflite.sha256",
    ]


def test_what_is_read_right_already_is_not_learnt(logdir, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "learn", None)
    run = load_run(logdir)
    images, labels = make_examples(60, first=5000)
    right = load_classifier(run).predict(images).argmax(axis=1) == labels
    write_dataset(tmp_path / "known", examples={"train": (images[right], labels[right])})
    result = update(logdir, tmp_path / "known", OPTIONS)
    assert "version 1 reads all" in result.objections[0]
    assert (result.steps, result.version) == (0, None)


def test_one_image_is_judged_by_itself(logdir, tmp_path):
    run = load_run(logdir)
    images, labels = make_style(50, first=5000)
    wrong = np.flatnonzero(load_classifier(run).predict(images).argmax(axis=1) != labels)[:1]
    write_dataset(tmp_path / "one", examples={"train": (images[wrong], labels[wrong])})
    result = update(logdir, tmp_path / "one", OPTIONS)
    last = result.comparisons[-1]
    assert last.images == "new images, learnt, too few to hold any out"
    assert (last.num_images, last.right_before, last.gained) == (1, 0, 1)
    assert (result.num_learnt, result.num_held_out) == (1, 0)


def test_divergence_changes_nothing(logdir, tmp_path, monkeypatch):
    class Diverging(InferenceSaver):
        def restore(self, session, checkpoint):
            super().restore(session, checkpoint)
            [biases] = [v for v in tf.compat.v1.trainable_variables() if "output/biases" in v.name]
            biases.load(np.full(biases.shape, np.nan), session)

    monkeypatch.setattr(learning, "InferenceSaver", Diverging)
    with pytest.raises(UserError, match=r"step 1: the loss is nan; nothing was changed; update wi"):
        update(logdir, write_style(tmp_path / "new"), OPTIONS)
    assert load_run(logdir).version == 1
    assert not (logdir / "export/.updating").exists()


def test_runs_that_cannot_be_updated_are_refused_in_words(trained, logdir, tmp_path):
    new = write_style(tmp_path / "new")
    with locked(logdir), pytest.raises(UserError, match="another process is training in this"):
        update(logdir, new, OPTIONS)
    with pytest.raises(UserError, match=r"was trained on another dataset"):
        update(logdir, new, OPTIONS, data_dir=new)
    path = logdir / "run.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "data_dir": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match=r"gone: the dataset that .* name its folder with --data"):
        update(logdir, new, OPTIONS)
    facts["config"]["train_splits"] = "train+validation"
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="accepted by validation images that were not trained on"):
        update(logdir, new, OPTIONS)
    with pytest.raises(UserError, match="no such run folder"):
        update(tmp_path / "none", new, OPTIONS)
    assert not (tmp_path / "none").exists()


def test_training_goes_on_beside_an_update_and_says_so(trained, logdir, tmp_path, capsys):
    _publish_copy(logdir)
    config = make_config(str(trained[0].parent / "tiny.txt"), batch_size=25, epochs=6.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.loop.calibrate", lambda *_: None)
        train(config, data_dir=trained[1], logdir=logdir)
    assert "this trains version 1; version 2, which an update made, stays" in (
        capsys.readouterr().err
    )
    assert load_run(logdir).version == 2


def _publish_copy(logdir):
    """Makes a version 2 of the very files of version 1."""
    folder = logdir / "export/2"
    shutil.copytree(logdir / "best", folder)
    for name in ("model.tflite", "model.tflite.sha256"):
        shutil.copy(logdir / "export" / name, folder)
    facts = {"number": 2, "base": 1, "created": "2026-01-01T00:00:00+00:00", "examples": "/new"}
    facts |= {"examples_digest": "", "num_learnt": 3, "num_held_out": 1, "training": {}}
    (folder / "version.json").write_text(json.dumps({**facts, "comparisons": []}))
    (logdir / "export/current").write_text("2\n")


@pytest.mark.parametrize(
    ("lost", "n", "chance"),
    [(0, 0, 1.0), (0, 5, 1.0), (5, 5, 1 / 32), (8, 10, 56 / 1024), (501, 1000, 0.5 - 0.0126125)],
)
def test_chance_of_losses(lost, n, chance):
    comparison = Comparison("images", 1, False, 2_000, 1_500, gained=n - lost, lost=lost)
    assert comparison.chance == pytest.approx(chance, abs=1e-6)


@pytest.mark.parametrize(
    ("is_new", "gained", "lost", "accepted"),
    [
        (False, 0, 4, True),  # 1 in 16
        (False, 0, 5, False),  # 1 in 32
        (False, 20, 0, True),
        (True, 1, 0, True),
        (True, 0, 0, False),
        (True, 3, 3, False),
    ],
)
def test_objections(is_new, gained, lost, accepted):
    comparison = Comparison("images", 1, is_new, 50, 25, gained, lost)
    assert (comparison.objection() is None) == accepted


def test_command_line(logdir, tmp_path, run_script):
    _publish_copy(logdir)
    listed = run_script("train/update.py", f"--logdir={logdir}", "--list")
    assert listed.stdout == (
        "version 1           as it was trained\n"
        "version 2, in use   from version 1, 2026-01-01T00:00:00+00:00, 3 learnt, 1 held out, of "
        "/new\n"
    )
    done = run_script("train/update.py", f"--logdir={logdir}", "--rollback=1", "--json")
    assert (done.returncode, json.loads(done.stdout)["current"]) == (0, 1)
    assert load_run(logdir).version == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "tensorflow.py").write_text("raise AssertionError", encoding="utf-8")
    for arguments, message in (
        ([], "expected one of --examples=DIR, --rollback=N and --list, found none"),
        ([f"--logdir={logdir.parent}", "--rollback=1"], "holds no run.json, so no run"),
        (["--list", "--rollback=1"], "found --rollback and --list"),
        (["--rollback=3"], "expected one of its versions, 1, 2, found 3"),
        (["--examples=none"], "--examples=none: no such file or folder; name the new images"),
        ([f"--examples={empty}"], f"--examples={empty}: an empty folder; name the new images"),
        (
            [f"--examples={tmp_path}", "--learning_rate=nan"],
            "--learning_rate=nan: expected a number from 1e-09 to 1",
        ),
        (["--rollback=1", "--steps=5"], "--steps belongs to --examples; leave it out"),
    ):
        done = run_script(
            "train/update.py", f"--logdir={logdir}", *arguments, env={"PYTHONPATH": tmp_path}
        )
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert message in done.stderr


def test_killed_update_leaves_the_run_as_it_was(logdir, tmp_path):
    new = write_style(tmp_path / "new")
    process = start_script(
        "train/update.py", f"--logdir={logdir}", f"--examples={new}", "--steps=100000"
    )
    assert process.stderr is not None
    assert any("learning 16 new images" in line for line in process.stderr)
    with pytest.raises(UserError, match="another process is training in this folder"):
        update(logdir, new, OPTIONS)
    process.kill()
    process.communicate(timeout=60)
    assert (logdir / "export/.updating/examples").is_dir()  # The next update clears it.
    assert load_run(logdir).version == 1
    assert list_versions(logdir) == []
