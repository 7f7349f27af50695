"""A run that is taken up again: the same weights, or a refusal in words."""

import os
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.command_line import UserError
from input_pipeline.augment import Augmentation
from model_definition.checkpoints import InferenceSaver, list_checkpoints
from model_definition.run_dir import load_run
from tests.train_fixtures import flip_bit, make_config, write_dataset, write_model
from train import loop
from train.hooks import CheckpointHook, SummaryHook
from train.loop import train
from train.run_lock import locked

# All that a checkpoint must hold, or a step must draw again.
MODEL = """conv 4 3x3
batchnorm
residual
conv 5 3x3
end
maxpool 2x2
flatten
dropout 0.5
output
"""

# 16 steps, an epoch is 6.6, validated after every fourth; all that is random takes part.
RANDOM = {
    "epochs": None,
    "max_steps": 16,
    "validate_every_steps": 4,
    "schedule": "constant",
    "optimizer": "momentum",
    "ema_decay": 0.9,
    "augmentation": Augmentation(shift=0.1, rotation=10, elastic=4),
}


class Killed(BaseException):
    """What ends a run as abruptly as kill -9 does: nothing more is saved."""


@pytest.fixture(autouse=True)
def no_export(monkeypatch):
    """Exporting takes longer than these runs and is tested elsewhere."""
    monkeypatch.setattr(loop, "export_litert", lambda *_: None)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "tiny"
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), MODEL)


@pytest.fixture(scope="module")
def uninterrupted(data_dir, model, tmp_path_factory):
    """The run folder of a run that nothing stopped."""
    logdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "export_litert", lambda *_: None)
        result = train(make_config(model, **RANDOM), data_dir=data_dir, logdir=logdir)
    assert (result.step, result.total_steps, result.stopped_by_signal) == (16, 16, False)
    return logdir


def read_tensors(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_result(logdir, expected):
    for folder in ("", "best"):
        [found, *_], [wanted, *_] = (list_checkpoints(run / folder) for run in (logdir, expected))
        assert found.name == wanted.name
        tensors, wanted_tensors = read_tensors(found), read_tensors(wanted)
        assert tensors.keys() == wanted_tensors.keys()
        for name, tensor in tensors.items():
            assert np.array_equal(tensor, wanted_tensors[name]), name
    assert (logdir / "history.json").read_bytes() == (expected / "history.json").read_bytes()


def kill_at(monkeypatch, hook, method, step, *, before):
    """Lets a hook's method end everything when it is called at a step."""
    original = getattr(hook, method)

    def killing(self, *args):
        if not before:
            original(self, *args)
        if self._current_step == step:
            raise Killed
        if before:
            original(self, *args)

    monkeypatch.setattr(hook, method, killing)


def test_killed_run_ends_as_if_nothing_had_happened(data_dir, model, uninterrupted, tmp_path):
    config, logdir = make_config(model, **RANDOM), tmp_path / "run"

    def save_best(self, session, folder, step, original=InferenceSaver.save):
        original(self, session, folder, step)
        raise Killed

    for hook, method, step, before in (
        (SummaryHook, "after_run", 3, False),  # before anything was saved
        (InferenceSaver, "save", 4, False),  # the best is saved, the history does not know it
        (SummaryHook, "after_run", 13, False),  # in the middle of an epoch
        (CheckpointHook, "save", 16, True),  # at the last step, before it was saved
    ):
        with pytest.MonkeyPatch.context() as patch:
            if hook is InferenceSaver:
                patch.setattr(hook, method, save_best)
            else:
                kill_at(patch, hook, method, step, before=before)
            with pytest.raises(Killed):
                train(config, data_dir=data_dir, logdir=logdir)
    assert train(config, data_dir=data_dir, logdir=logdir).step == 16
    assert_same_result(logdir, uninterrupted)
    tensors = read_tensors(list_checkpoints(logdir / "best")[0])
    assert {"batchnorm1/moving_mean", "batchnorm1/moving_variance"} < tensors.keys()


def test_signal_saves_and_the_run_goes_on_from_there(
    data_dir, model, uninterrupted, tmp_path, monkeypatch, capsys
):
    config, logdir = make_config(model, **RANDOM), tmp_path / "run"
    original = SummaryHook.after_run

    def after_run(self, *args):
        original(self, *args)
        if self._current_step in (4, 12):
            os.kill(os.getpid(), signal.SIGTERM if self._current_step == 4 else signal.SIGINT)

    monkeypatch.setattr(SummaryHook, "after_run", after_run)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    for stopped_at, name in ((4, "SIGTERM"), (12, "SIGINT")):
        result = train(config, data_dir=data_dir, logdir=logdir)
        assert (result.step, result.stopped_by_signal) == (stopped_at, True)
        assert f"{name}: saving after this step; once more quits at once" in capsys.readouterr().err
    assert not train(config, data_dir=data_dir, logdir=logdir).stopped_by_signal
    assert_same_result(logdir, uninterrupted)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    data_dir, model, uninterrupted, tmp_path, capsys
):
    logdir = shutil.copytree(uninterrupted, tmp_path / "run")
    newest, previous, _ = list_checkpoints(logdir)
    flip_bit(newest.with_name(f"{newest.name}.data-00000-of-00001"), 200)
    train(make_config(model, **RANDOM), data_dir=data_dir, logdir=logdir)
    assert re.search(
        f"^{newest}: cannot be read \\(.*\\); trying the one before it\ngoing on from {previous}$",
        capsys.readouterr().err,
        re.M,
    )
    assert_same_result(logdir, uninterrupted)


def test_finished_run_is_left_as_it_is_and_can_be_extended(
    data_dir, model, uninterrupted, tmp_path, capsys
):
    logdir = shutil.copytree(uninterrupted, tmp_path / "run")
    config = make_config(model, **RANDOM)
    kept = {path: path.read_bytes() for path in logdir.glob("*") if path.is_file()}
    assert train(config, data_dir=data_dir, logdir=logdir).step == 16
    assert {path: path.read_bytes() for path in logdir.glob("*") if path.is_file()} == kept

    capsys.readouterr()
    longer = make_config(model, **{**RANDOM, "max_steps": 19})
    assert train(longer, data_dir=data_dir, logdir=logdir).step == 19
    assert (
        f"going on with the run in {logdir} with another max_steps: 16 in the run, 19 now\n"
        in capsys.readouterr().err
    )
    assert load_run(logdir).config["max_steps"] == 19
    train(longer, data_dir=data_dir, logdir=tmp_path / "straight")
    assert_same_result(logdir, tmp_path / "straight")


def test_early_stopping_survives_a_kill(data_dir, tmp_path, monkeypatch):
    # The rate is 0, so without moving averages no validation is better than the first one.
    config = make_config(
        write_model(tmp_path),
        learning_rate=0.0,
        schedule="constant",
        epochs=None,
        max_steps=50,
        validate_every_steps=2,
        patience=2,
    )
    straight, logdir = tmp_path / "straight", tmp_path / "run"
    result = train(config, data_dir=data_dir, logdir=straight)
    assert result.best is not None
    assert (result.step, result.best.step) == (6, 2)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, SummaryHook, "after_run", 5, before=False)
        with pytest.raises(Killed):
            train(config, data_dir=data_dir, logdir=logdir)
    assert train(config, data_dir=data_dir, logdir=logdir).step == 6
    assert_same_result(logdir, straight)
    # Patience is used up: another start makes no step more.
    assert train(config, data_dir=data_dir, logdir=logdir).step == 6


def refuse(config, data_dir, logdir, match):
    before = {path: path.stat().st_mtime_ns for path in logdir.rglob("*")}
    with pytest.raises(UserError, match=f"^{re.escape(str(logdir))}: {match}$") as error:
        train(config, data_dir=data_dir, logdir=logdir)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in logdir.rglob("*")} == before


def test_other_model_is_refused(data_dir, uninterrupted, tmp_path):
    other = write_model(tmp_path, MODEL.replace("3x3", "5x5"))
    refuse(
        make_config(other, **RANDOM),
        data_dir,
        uninterrupted,
        "holds a run of another model: its model.txt has `conv 4 3x3` where "
        f"{other} has `conv 4 5x5`; name that model with --model, or another --logdir",
    )
    longer = write_model(tmp_path, MODEL.replace("output\n", "dense 5\noutput\n"))
    refuse(
        make_config(longer, **RANDOM),
        data_dir,
        uninterrupted,
        f"holds a run of another model: its model.txt has `output` where {longer} has `dense 5`; "
        "name that model .*",
    )


def test_other_class_count_is_refused_before_the_model(model, uninterrupted, tmp_path):
    write_dataset(tmp_path / "data", class_names=["ant", "bee", "cow", "dog", "elk", "fox"])
    refuse(
        make_config(model, **RANDOM),
        tmp_path / "data",
        uninterrupted,
        "this run's classes: 5; the dataset tiny's: 6; name a dataset that fits with --data_dir, "
        "or another --logdir",
    )


def test_other_dataset_is_refused(model, uninterrupted, tmp_path):
    write_dataset(tmp_path / "data", sizes={"train": 50, "validation": 17})
    refuse(
        make_config(model, **RANDOM),
        tmp_path / "data",
        uninterrupted,
        r"this run was trained on another dataset \(tiny, digest [0-9a-f]{12}\) than tiny, digest "
        r"[0-9a-f]{12}; name that one with --data_dir, or another --logdir",
    )


def test_other_flags_are_refused(data_dir, model, uninterrupted):
    config = make_config(model, **{**RANDOM, "batch_size": 16, "seed": 1})
    refuse(
        config,
        data_dir,
        uninterrupted,
        r"holds a run with other flags \(batch_size: 8 in the run, 16 now; seed: 0 in the run, 1 "
        r"now\); give the same flags to go on with it, or name another --logdir",
    )


def test_model_may_move_and_its_comments_change(data_dir, uninterrupted, tmp_path):
    same = write_model(tmp_path, "# A comment.\n\n" + MODEL.replace(" ", "   "))
    assert train(make_config(same, **RANDOM), data_dir=data_dir, logdir=uninterrupted).step == 16


def test_what_auto_meant_is_kept(uninterrupted):
    assert load_run(uninterrupted).config["precision"] in ("float32", "bfloat16")


def test_missing_history_is_refused(data_dir, model, uninterrupted, tmp_path):
    logdir = shutil.copytree(uninterrupted, tmp_path / "run")
    (logdir / "history.json").unlink()
    with pytest.raises(UserError, match=r"history\.json: missing, so the best checkpoint is not"):
        train(make_config(model, **RANDOM), data_dir=data_dir, logdir=logdir)


def test_dataset_folder_is_no_run_folder(data_dir, model):
    refuse(
        make_config(model, **RANDOM),
        data_dir,
        data_dir,
        "a dataset folder; name another folder with --logdir",
    )


def test_going_on_keeps_every_validation_in_tensorboard(data_dir, model, uninterrupted, tmp_path):
    logdir = shutil.copytree(uninterrupted, tmp_path / "run")
    train(make_config(model, **RANDOM), data_dir=data_dir, logdir=logdir)
    events = EventAccumulator(str(logdir / "validation"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [4, 8, 12, 16]


def test_every_checkpoint_is_told_where_nothing_is_validated(data_dir, model, tmp_path, capsys):
    values = {**RANDOM, "max_steps": 8, "train_splits": "train+validation"}
    train(make_config(model, **values), data_dir=data_dir, logdir=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[1] for line in lines if "step " in line and "loss" in line] == [
        "step 4/8",
        "step 8/8",
    ]


def test_checkpoints_without_a_description_are_refused(data_dir, model, tmp_path):
    (tmp_path / "model.ckpt-16.index").touch()
    refuse(
        make_config(model, **RANDOM),
        data_dir,
        tmp_path,
        r"holds checkpoints but no run\.json, so nothing says what they are; name another --logdir",
    )


def test_imported_run_is_not_trained_over(data_dir, model, uninterrupted, tmp_path):
    logdir = tmp_path / "imported"
    shutil.copytree(uninterrupted / "best", logdir / "best")
    with pytest.raises(
        UserError,
        match=r"best/model\.ckpt-\d+ and no checkpoint to go on from, as a run that was imported; ",
    ):
        train(make_config(model, **RANDOM), data_dir=data_dir, logdir=logdir)
    assert [path.name for path in logdir.iterdir()] == ["best"]


def test_run_whose_checkpoints_are_all_damaged_is_refused(
    data_dir, model, uninterrupted, tmp_path, capsys
):
    for name in ("run.json", "model.txt"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    for step in (8, 12, 16):
        (tmp_path / f"model.ckpt-{step}.index").touch()
    refuse(
        make_config(model, **RANDOM),
        data_dir,
        tmp_path,
        "none of its 3 checkpoints can be read; restore one, or train again into another --logdir",
    )
    assert capsys.readouterr().err.count("cannot be read") == 3


def test_damaged_history_is_refused(data_dir, model, uninterrupted, tmp_path):
    for path in uninterrupted.glob("*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "history.json").write_text('[{"step": 5}]', encoding="utf-8")
    with pytest.raises(
        UserError,
        match=r"history\.json: not a list of validations \(.*\); restore it, or train again into",
    ):
        train(make_config(model, **RANDOM), data_dir=data_dir, logdir=tmp_path)


def test_folder_is_locked_while_a_run_trains(tmp_path):
    logdir = tmp_path / "run"
    with locked(logdir):
        with pytest.raises(
            UserError,
            match=f"^{logdir}: another process is training in this folder now; wait until it has "
            "finished, or name another --logdir$",
        ):
            with locked(logdir):
                raise AssertionError("never reached")
    assert not logdir.exists()  # Nothing came of it, so nothing is left of it.
    with locked(logdir):
        (logdir / "run.json").touch()
    assert logdir.is_dir()


def test_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: a file; name a folder with --logdir$"):
        with locked(tmp_path / "file"):
            raise AssertionError("never reached")
