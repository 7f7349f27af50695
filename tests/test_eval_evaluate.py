from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from eval import evaluate
from model_definition.ensemble import write_ensemble
from model_definition.run_dir import BEST_NAME, Run, load_run
from tests import eval_fixtures

N = 17


@pytest.fixture(scope="module")
def template(tmp_path_factory, make_dataset) -> Path:
    """A folder with the dataset `tiny` and a run of three checkpoints, of which 20 is the best."""
    folder = tmp_path_factory.mktemp("eval")
    manifest = make_dataset(folder / "tiny", num_test=N)
    run = eval_fixtures.make_run(folder / "run", folder / "tiny", manifest)
    for step in (10, 20, 30):
        weights = eval_fixtures.make_weights(run, seed=step)
        eval_fixtures.write_checkpoint(run.logdir, step, weights)
        if step == 20:
            eval_fixtures.write_checkpoint(run.logdir / BEST_NAME, step, weights)
    return folder


@pytest.fixture
def run(template, tmp_path) -> Run:
    """A copy of the run, for one test; the dataset is shared."""
    return load_run(Path(shutil.copytree(template / "run", tmp_path / "run")))


@pytest.fixture(scope="module", autouse=True)
def flags_defined():
    before = set(flags.FLAGS)
    evaluate.define_flags()
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def evaluate_json(run: Run, capsys, **values: Any) -> list[dict[str, Any]]:
    """Runs the script's main with --json, and returns each line that it prints, read."""
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(logdir=str(run.logdir), json=True, **values):
        evaluate.main([])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def event_folders(run: Run) -> set[str]:
    return {path.parent.name for path in run.logdir.rglob("events.out.tfevents.*")}


def finish(run: Run) -> None:
    """Puts something where the exported model goes: the run has ended."""
    run.export_path.parent.mkdir(exist_ok=True)
    run.export_path.write_bytes(b"a model")


def test_the_best_checkpoint_on_the_test_split_is_the_default(run, capsys):
    (found,) = evaluate_json(run, capsys)
    assert (found["dataset"], found["split"], found["num_examples"]) == ("tiny", "test", N)
    assert found["checkpoint"] == str(run.logdir / "best/model.ckpt-20")
    data_dir = Path(run.data_dir)
    images, labels = eval_fixtures.read_split(data_dir, load_manifest(data_dir), "test")
    weights = eval_fixtures.make_weights(run, seed=20)
    expected = eval_fixtures.score(eval_fixtures.predict(images, weights), labels)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert event_folders(run) == {"test"}
    events = EventAccumulator(str(run.logdir / "test")).Reload()
    (scalar,) = events.Scalars("accuracy")
    assert (scalar.step, scalar.value) == (20, pytest.approx(found["accuracy"]))
    assert set(events.Tags()["images"]) == {"confusion_matrix", "worst_mistakes"}


def test_the_checkpoint_asked_for_is_used(run, capsys):
    (last,) = evaluate_json(run, capsys, checkpoint="last")
    assert last["checkpoint"] == str(run.logdir / "model.ckpt-30")
    path = run.logdir / "model.ckpt-10"
    for given in (path, f"{path}.index"):
        (chosen,) = evaluate_json(run, capsys, checkpoint_path=str(given))
        assert (chosen["checkpoint"], chosen["step"]) == (str(path), 10)
    assert len({last["loss"], chosen["loss"]}) == 2


def test_without_a_best_checkpoint_the_last_is_used(run, capsys):
    shutil.rmtree(run.logdir / BEST_NAME)
    (found,) = evaluate_json(run, capsys)
    assert found["step"] == 30


def test_a_checkpoint_that_is_not_there_or_damaged(run, capsys):
    missing = run.logdir / "model.ckpt-7"
    with pytest.raises(UserError, match=r"model.ckpt-7: no such checkpoint; name one such as"):
        evaluate_json(run, capsys, checkpoint_path=str(missing))
    data = run.logdir / "model.ckpt-30.data-00000-of-00001"
    data.write_bytes(bytes(byte ^ 1 for byte in data.read_bytes()))
    message = r"model.ckpt-30: this checkpoint cannot be read \(.*\); remove its files to use"
    with pytest.raises(UserError, match=message):
        evaluate_json(run, capsys, checkpoint="last")
    assert event_folders(run) == set()


def test_a_run_without_a_checkpoint(template, tmp_path, capsys):
    manifest = load_manifest(template / "tiny")
    run = eval_fixtures.make_run(tmp_path / "new", template / "tiny", manifest)
    with pytest.raises(UserError, match=r"new: no checkpoint yet; wait for the first one, or"):
        evaluate_json(run, capsys)


@pytest.fixture
def ensemble(run, tmp_path) -> Path:
    """A folder with an ensemble of the run and of one with other weights."""
    data_dir = Path(run.data_dir)
    other = eval_fixtures.make_run(tmp_path / "ens/member-1", data_dir, load_manifest(data_dir))
    eval_fixtures.write_checkpoint(other.logdir, 25, eval_fixtures.make_weights(other, seed=3))
    shutil.copytree(run.logdir, tmp_path / "ens/member-0")
    write_ensemble(tmp_path / "ens", {"member-0": "1/4", "member-1": "2/4"})
    return tmp_path / "ens"


def test_an_ensemble_s_folder_gets_its_summaries(run, ensemble, capsys):
    data_dir = Path(run.data_dir)
    images, labels = eval_fixtures.read_split(data_dir, load_manifest(data_dir), "test")
    weights = [eval_fixtures.make_weights(run, seed) for seed in (20, 3)]
    mean = np.mean([eval_fixtures.predict(images, values) for values in weights], axis=0)
    named = dataclasses.replace(run, logdir=ensemble)
    (found,) = evaluate_json(named, capsys)
    assert found["loss"] == pytest.approx(eval_fixtures.score(mean, labels)["loss"], rel=1e-5)
    assert [one["step"] for one in found["members"]] == [20, 25]
    evaluate_json(named, capsys, test_time_shifts=1, checkpoint="last")
    assert event_folders(named) == {"test", "test-shifts-1"}
    assert {path.parent.parent for path in ensemble.rglob("events.*")} == {ensemble}


def test_a_list_of_runs_has_no_summaries(run, ensemble, capsys):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(logdir=f"{run.logdir},{ensemble}/member-1", json=False):
        evaluate.main([])
    said = capsys.readouterr()
    assert said.out.startswith(f"tiny, test split, {N} images, average of 2 runs\n")
    assert said.err == (
        "nothing written for TensorBoard: a list of runs has no folder of its own\n"
    )
    assert event_folders(run) == set()


def test_flags_of_one_run_are_refused_for_several(run, ensemble, capsys):
    named = dataclasses.replace(run, logdir=ensemble)
    for values in ({"watch": True}, {"checkpoint_path": "model.ckpt-20"}):
        (name,) = values
        message = f"--{name} is about one run, and --logdir names 2; leave it out, or name one of"
        with pytest.raises(UserError, match=message):
            evaluate_json(named, capsys, **values)


def test_training_draws_its_curves_alone(run, capsys):
    for split, count in (("train", 61), ("validation", 11), ("train+validation", 72)):
        (found,) = evaluate_json(run, capsys, split=split)
        assert (found["split"], found["num_examples"]) == (split, count)
    assert event_folders(run) == {"eval_train", "eval_validation", "train+validation"}


def test_a_split_that_is_not_there(run, capsys):
    message = "split 'tset': the dataset tiny has train, validation, test; join several with a plus"
    with pytest.raises(UserError, match=message):
        evaluate_json(run, capsys, split="tset")
    with pytest.raises(UserError, match=r"'test\+test': names a split twice; its images would"):
        evaluate_json(run, capsys, split="test+test")


def test_another_dataset_with_the_same_classes(run, capsys, make_dataset, tmp_path):
    manifest = make_dataset(tmp_path / "other", num_test=23, seed=1)
    assert manifest.digest != run.dataset_digest
    (found,) = evaluate_json(run, capsys, data_dir=str(tmp_path / "other"))
    assert (found["dataset"], found["num_examples"]) == ("other", 23)
    assert event_folders(run) == {"other-test"}


def test_its_own_dataset_in_another_place_is_its_own(run, capsys, tmp_path):
    shutil.copytree(run.data_dir, tmp_path / "moved")
    evaluate_json(run, capsys, data_dir=str(tmp_path / "moved"))
    assert event_folders(run) == {"test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 4}, "run: this run's classes: 5; the dataset other's: 4; name a dataset"),
        (
            {"image_shape": (9, 13, 3)},
            r"run's image shape: \(13, 9, 3\); the dataset other's: \(9, 13, 3\); name a dataset",
        ),
    ],
)
def test_a_dataset_that_does_not_fit(run, capsys, make_dataset, tmp_path, changes, message):
    make_dataset(tmp_path / "other", **changes)
    with pytest.raises(UserError, match=message):
        evaluate_json(run, capsys, data_dir=str(tmp_path / "other"))


def test_classes_of_other_names(run, capsys, tmp_path):
    other = Path(shutil.copytree(run.data_dir, tmp_path / "other"))
    facts = json.loads((other / "manifest.json").read_text())
    facts["class_names"] = list("vwxyz")
    (other / "manifest.json").write_text(json.dumps(facts))
    message = "class names: 0 1 2 3 4; the dataset tiny's: v w x y z; name a dataset that fits"
    with pytest.raises(UserError, match=message):
        evaluate_json(run, capsys, data_dir=str(other))


def test_a_dataset_that_was_changed_in_place(template, capsys, make_dataset, tmp_path):
    manifest = make_dataset(tmp_path / "tiny")
    run = eval_fixtures.make_run(tmp_path / "run", tmp_path / "tiny", manifest)
    shutil.rmtree(tmp_path / "tiny")
    with pytest.raises(
        UserError,
        match=r"the dataset that .* was trained on is not there; name its folder with --data_dir",
    ):
        evaluate_json(run, capsys)
    make_dataset(tmp_path / "tiny", seed=1)
    message = rf"trained on another dataset \(tiny, digest {manifest.digest[:12]}\) than tiny, dig"
    with pytest.raises(UserError, match=message):
        evaluate_json(run, capsys)


def test_watch_yields_each_checkpoint_as_it_comes(template, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_POLL_SECONDS", 0.01)
    manifest = load_manifest(template / "tiny")
    run = eval_fixtures.make_run(tmp_path / "run", template / "tiny", manifest)
    weights = eval_fixtures.make_weights(run, seed=0)
    checkpoints = [eval_fixtures.write_checkpoint(run.logdir, step, weights) for step in (5, 10)]
    watched = evaluate.watch_checkpoints(run, timeout=20)
    assert [next(watched), next(watched)] == checkpoints
    third = eval_fixtures.write_checkpoint(run.logdir, 15, weights)
    assert next(watched) == third
    eval_fixtures.write_checkpoint(run.logdir, 20, weights)
    finish(run)
    assert [path.name for path in watched] == ["model.ckpt-20"]


def test_watch_passes_over_what_is_gone(run, capsys):
    watched = evaluate.watch_checkpoints(run, timeout=20)
    assert next(watched).name == "model.ckpt-10"
    (run.logdir / "model.ckpt-20.index").unlink()  # as training does with old ones
    assert next(watched).name == "model.ckpt-30"
    assert "model.ckpt-20: gone or not readable; passed over" in capsys.readouterr().err


def test_watch_passes_over_what_goes_while_it_is_evaluated(run, capsys, monkeypatch):
    def watch(run, timeout):
        for checkpoint, file in ((10, "index"), (20, "data-00000-of-00001"), (30, None)):
            prefix = run.logdir / f"model.ckpt-{checkpoint}"
            if file:
                prefix.with_name(f"{prefix.name}.{file}").unlink()
            yield prefix

    monkeypatch.setattr(evaluate, "watch_checkpoints", watch)
    (found,) = evaluate_json(run, capsys, watch=True)
    assert found["step"] == 30


def test_watch_gives_up(run):
    watched = evaluate.watch_checkpoints(run, timeout=0)
    message = "no new checkpoint for 0 s and no finished run; --watch_timeout=SECONDS waits longer"
    with pytest.raises(UserError, match=message):
        list(watched)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--watch", "--checkpoint_path=model.ckpt-10"],
            "--watch evaluates every checkpoint; leave --checkpoint_path out",
        ),
        (
            ["--watch", "--checkpoint=last"],
            "--watch evaluates every checkpoint; leave --checkpoint out",
        ),
        (
            ["--checkpoint=best", "--checkpoint_path=model.ckpt-10"],
            "--checkpoint_path names one already; leave --checkpoint out",
        ),
        (["--watch_timeout=5"], "only --watch waits; leave --watch_timeout out"),
    ],
)
def test_flags_that_would_change_nothing_are_refused(run, run_script, given, message):
    done = run_script("eval/evaluate.py", f"--logdir={run.logdir}", *given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"evaluate.py: {message}\n"


def test_scripts_watching_and_in_words(run, start_script, run_script):
    """The two scripts that this file starts, side by side."""
    watching = start_script("eval/evaluate.py", f"--logdir={run.logdir}", "--watch", "--json")
    words = run_script("eval/evaluate.py", f"--logdir={run.logdir}", timeout=120)
    assert (words.returncode, words.stderr) == (0, "")
    assert f"tiny, test split, {N} images, checkpoint {run.logdir}/best/" in words.stdout
    assert "accuracy   " in words.stdout
    steps = [json.loads(watching.stdout.readline())["step"] for _ in range(3)]
    assert steps == [10, 20, 30]
    weights = eval_fixtures.make_weights(run, seed=40)
    eval_fixtures.write_checkpoint(run.logdir, 40, weights)
    assert json.loads(watching.stdout.readline())["step"] == 40
    finish(run)
    rest, errors = watching.communicate(timeout=60)
    assert (watching.returncode, rest, errors) == (0, "", "")


def test_script_names_a_missing_run_in_one_line(run_script, tmp_path):
    done = run_script("eval/evaluate.py", "--logdir=runs/none")
    assert done.returncode == 1
    assert done.stderr == (
        "evaluate.py: runs/none: no such run folder; name one that is there, or train one with "
        "python train/train_lenet.py --logdir=runs/none\n"
    )
