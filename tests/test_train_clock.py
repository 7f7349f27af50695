from __future__ import annotations

import json
import time

import pytest

from data_prep.command_line import UserError
from model_definition.run_dir import TRAINING_TIME_NAME
from tests.train_fixtures import make_config, write_dataset, write_model
from train import loop
from train.clock import TrainingClock
from train.hooks import CheckpointHook
from train.loop import train


@pytest.fixture
def seconds(monkeypatch):
    """The clock's time, as a list of one number that a test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def make_steps(clock, seconds, *durations):
    for duration in durations:
        clock.before_run(None)
        seconds[0] += duration
        clock.after_run(None, None)
        seconds[0] += 1000  # a validation


def read(folder):
    return json.loads((folder / TRAINING_TIME_NAME).read_text(encoding="utf-8"))


def test_steps_count_and_what_lies_between_them_does_not(tmp_path, seconds):
    clock = TrainingClock(tmp_path, start_step=0)
    make_steps(clock, seconds, 0.5, 0.25)
    clock.record(2)
    make_steps(clock, seconds, 1.0)
    clock.record(3)
    assert read(tmp_path) == [{"step": 2, "seconds": 0.75}, {"step": 3, "seconds": 1.75}]


def test_steps_that_a_kill_lost_count_once(tmp_path, seconds):
    clock = TrainingClock(tmp_path, start_step=0)
    make_steps(clock, seconds, 2.0)
    clock.record(1)
    make_steps(clock, seconds, 4.0)
    clock.record(2)  # The kill comes before the checkpoint of step 2 is there.
    again = TrainingClock(tmp_path, start_step=1)
    make_steps(again, seconds, 3.0)
    again.record(2)
    assert read(tmp_path) == [{"step": 1, "seconds": 2.0}, {"step": 2, "seconds": 5.0}]


def test_a_run_from_before_the_clock_gets_no_time(tmp_path, seconds):
    clock = TrainingClock(tmp_path, start_step=7)
    make_steps(clock, seconds, 2.0)
    clock.record(8)
    assert list(tmp_path.iterdir()) == []


def test_a_new_run_forgets_what_is_there(tmp_path, seconds):
    (tmp_path / TRAINING_TIME_NAME).write_text("{", encoding="utf-8")
    clock = TrainingClock(tmp_path, start_step=0)
    make_steps(clock, seconds, 2.0)
    clock.record(1)
    assert read(tmp_path) == [{"step": 1, "seconds": 2.0}]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"step": 1}]', '[{"step": 1, "seconds": "x"}]'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / TRAINING_TIME_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"training_time\.json: not a list of .*; remove it, and"):
        TrainingClock(tmp_path, start_step=1)


def test_training_keeps_its_time_with_every_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "export_litert", lambda *_: None)
    write_dataset(tmp_path / "data")
    values = {"epochs": None, "max_steps": 5, "validate_every_steps": 2}
    config, logdir = make_config(write_model(tmp_path), **values), tmp_path / "run"

    def killing(self, session, rate, original=CheckpointHook.save):
        original(self, session, rate)
        if self.saved_step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, "save", killing)
        with pytest.raises(KeyboardInterrupt):
            train(config, data_dir=tmp_path / "data", logdir=logdir)
    before = read(logdir)
    train(config, data_dir=tmp_path / "data", logdir=logdir)
    after = read(logdir)
    assert [entry["step"] for entry in after] == [2, 4, 5]
    assert after[:2] == before
    times = [entry["seconds"] for entry in after]
    assert times == sorted(times)
    assert times[0] > 0
