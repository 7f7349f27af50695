"""Hooks by themselves; what they do to a run is tested with resuming."""

import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from model_definition.checkpoints import find_damage, list_checkpoints
from tests.train_fixtures import make_config, write_dataset, write_model
from train.clock import TrainingClock
from train.hooks import CheckpointHook, NanHook, ProgressHook
from train.loop import train
from train.validation import History, Score

v1 = tf.compat.v1


def make_progress(terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    return ProgressHook(
        step=None,
        loss=None,
        accuracy=None,
        start_step=0,
        total_steps=2_000,
        batch_size=128,
        steps_an_epoch=500.0,
    )


def make_step(hook, step, loss=0.5, accuracy=0.75):
    hook.before_run(None)
    hook.after_run(None, SimpleNamespace(results=[step, loss, accuracy]))


def test_off_a_terminal_there_is_a_line_with_each_validation(capsys, monkeypatch):
    hook = make_progress(False, monkeypatch)
    for step in range(1, 1001):
        make_step(hook, step)
    assert capsys.readouterr().err == ""
    hook.show_score(Score(1000, accuracy=0.9876, loss=0.1, mean_squared_error=0.01))
    hook.clear()
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"epoch 2\.00  step 1,000/2,000  loss 0\.5000  accuracy 75\.00%  [0-9,]+ images/s  "
        r"[0-9,]+ s left  validation 98\.76%\n",
        line,
    )


def test_on_a_terminal_the_line_is_redrawn(capsys, monkeypatch):
    hook = make_progress(True, monkeypatch)
    make_step(hook, 500)
    line = capsys.readouterr().err
    assert line.startswith("\r\033[Kepoch 1.00  step 500/2,000  loss")
    assert "\n" not in line
    make_step(hook, 501)
    assert capsys.readouterr().err == ""  # Not five times a second.
    hook.show_score(Score(501, accuracy=0.5, loss=0.1, mean_squared_error=0.01))
    assert capsys.readouterr().err.endswith("  validation 50.00%\n")
    hook.clear()
    assert capsys.readouterr().err == "\r\033[K"


def test_loss_shown_is_a_running_mean(monkeypatch, capsys):
    hook = make_progress(False, monkeypatch)
    make_step(hook, 1, loss=1.0, accuracy=0.0)
    make_step(hook, 2, loss=2.0, accuracy=1.0)
    hook.show_score(Score(2, accuracy=0.5, loss=0.1, mean_squared_error=0.01))
    assert "loss 1.5000  accuracy 50.00%" in capsys.readouterr().err


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops(tmp_path, loss):
    hook = NanHook(None, None, None, tmp_path)
    hook.after_run(None, SimpleNamespace(results=[11, 1e30, 0.1]))
    with pytest.raises(UserError) as error:
        hook.after_run(None, SimpleNamespace(results=[np.int64(12), np.float32(loss), 0.25]))
    assert str(error.value) == (
        f"step 12: the loss is {loss} at learning rate 0.25; none was saved yet; train again into "
        "another --logdir with a lower --learning_rate, or with --clip_norm=1"
    )


def test_diverging_run_names_its_last_good_checkpoint(tmp_path):
    write_dataset(tmp_path / "data")
    config = make_config(
        write_model(tmp_path, "flatten\ndense 7 activation=none\noutput\n"),
        optimizer="sgd",
        learning_rate=9e5,
        schedule="constant",
        warmup_steps=4,
        epochs=None,
        max_steps=20,
        validate_every_steps=1,
    )
    logdir = tmp_path / "run"
    with pytest.raises(UserError) as error:
        train(config, data_dir=tmp_path / "data", logdir=logdir)
    newest = list_checkpoints(logdir)[0]
    assert re.fullmatch(
        r"step \d+: (the loss is (nan|inf)|a weight is not finite) at learning rate [\d.e+]+; the "
        f"last good checkpoint is {newest}; train again into another --logdir with a lower "
        "--learning_rate, or with --clip_norm=1",
        str(error.value),
    )
    assert find_damage(newest) is None
    reader = tf.train.load_checkpoint(str(newest))
    for name in reader.get_variable_to_shape_map():
        assert np.all(np.isfinite(reader.get_tensor(name))), name


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        weights = v1.get_variable("weights", [2], initializer=tf.zeros_initializer())
        saver = v1.train.Saver()
        hook = CheckpointHook(
            step=None,
            rate=None,
            saver=saver,
            logdir=tmp_path,
            clock=TrainingClock(tmp_path, start_step=0),
            every_steps=1,
            total_steps=9,
            patience=0,
            history=History(tmp_path, up_to_step=0),
            validator=None,
            on_score=lambda score: None,
            on_save=lambda: None,
        )
        session.run(v1.global_variables_initializer())
        hook.save(session, 0.1)
        before = sorted(tmp_path.iterdir())
        weights.load([1.0, np.inf], session)
        with pytest.raises(
            UserError, match=r"a weight is not finite at learning rate 0\.1; the la"
        ):
            hook.save(session, 0.1)
    assert sorted(tmp_path.iterdir()) == before
