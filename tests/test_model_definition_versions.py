"""The versions of a run: whole or not there, and one of them in use."""

import hashlib
import json
import shutil
from dataclasses import replace

import pytest

from data_prep.command_line import UserError
from model_definition import versions
from model_definition.run_dir import load_run, read_current_version, write_run
from model_definition.versions import (
    Version,
    choose_version,
    list_versions,
    next_version,
    publish_version,
    staged_version,
)
from tests.predict_fixtures import write_test_run


class Killed(BaseException):
    """What ends a process as abruptly as kill -9 does, but for `finally`."""


@pytest.fixture
def run(tmp_path):
    run = write_test_run(tmp_path / "run")
    run.export_dir.mkdir()
    run.export_path.write_bytes(b"as trained")
    return run


def describe(number, base=1):
    return Version(number, base, "2026-01-01T00:00:00+00:00", "/new", "0" * 64, 3, 1, {}, ())


def publish(run, number, content=b"updated"):
    with staged_version(run.logdir) as staging:
        (staging / "model.tflite").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (staging / "model.tflite.sha256").write_text(f"{digest}  model.tflite\n")
        publish_version(run.logdir, staging, describe(number, number - 1))


def test_run_without_updates_is_version_1(run):
    assert load_run(run.logdir) == run
    assert (run.version, run.export_path.name) == (1, "model.tflite")
    assert (list_versions(run.logdir), next_version(run.logdir)) == ([], 2)


def test_published_version_is_in_use_and_any_can_be_returned_to(run):
    publish(run, 2)
    publish(run, 3, b"again")
    updated = load_run(run.logdir)
    assert updated.version == 3
    assert updated.export_path == run.logdir / "export/3/model.tflite"
    assert updated.export_path.read_bytes() == b"again"
    assert updated.best_dir == run.logdir / "export/3"
    assert [(v.number, v.base) for v in list_versions(run.logdir)] == [(2, 1), (3, 2)]
    for number, content in ((2, b"updated"), (1, b"as trained"), (3, b"again")):
        choose_version(run.logdir, number)
        assert load_run(run.logdir).export_path.read_bytes() == content
    choose_version(run.logdir, 1)
    assert next_version(run.logdir) == 4  # None is overwritten.
    assert not (run.export_dir / ".updating").exists()


def test_description_of_a_run_is_the_same_in_every_version(run):
    text = (run.logdir / "run.json").read_text()
    publish(run, 2)
    write_run(load_run(run.logdir))
    assert (run.logdir / "run.json").read_text() == text


@pytest.mark.parametrize("where", ["rename", "_write_current"])
def test_kill_leaves_the_old_version_whole(run, monkeypatch, where):
    def kill(*_):
        raise Killed

    publish(run, 2)
    with monkeypatch.context() as patch:
        target = versions.Path if where == "rename" else versions
        patch.setattr(target, where, kill)
        patch.setattr(versions.shutil, "rmtree", lambda *_, **__: None)  # killed, not unwound
        if where == "rename":
            shutil.copytree(run.export_dir / "2", run.export_dir / ".updating")
            (run.export_dir / ".updating/version.json").unlink()
            with pytest.raises(Killed):
                publish_version(run.logdir, run.export_dir / ".updating", describe(3, 2))
        else:
            with pytest.raises(Killed):
                publish(run, 3)
    assert load_run(run.logdir).version == 2
    number = next_version(run.logdir)
    assert number == (3 if where == "rename" else 4)
    publish(run, number, b"the next")
    assert load_run(run.logdir).export_path.read_bytes() == b"the next"
    assert not (run.export_dir / ".updating").exists()


def test_version_that_failed_leaves_nothing(run):
    with pytest.raises(UserError), staged_version(run.logdir) as staging:
        (staging / "model.tflite").write_bytes(b"half")
        raise UserError("the disk is full")
    assert [path.name for path in run.export_dir.iterdir()] == ["model.tflite"]


def test_saved_models_of_a_run_called_by_a_number_are_no_versions(tmp_path):
    run = write_test_run(tmp_path / "2")
    (run.export_dir / "2/1").mkdir(parents=True)  # export.py's
    assert (list_versions(run.logdir), next_version(run.logdir)) == ([], 3)
    with pytest.raises(UserError, match="expected one of its versions, 1, found 2"):
        choose_version(run.logdir, 2)


def test_damaged_version_is_not_returned_to(run):
    publish(run, 2)
    choose_version(run.logdir, 1)
    (run.export_dir / "2/model.tflite").write_bytes(b"updates")
    with pytest.raises(UserError, match=r"2/model.tflite: damaged, for its sha256 is not"):
        choose_version(run.logdir, 2)
    (run.export_dir / "2/model.tflite").unlink()
    with pytest.raises(UserError, match=r"2/model.tflite: missing, so version 2 cannot be used"):
        choose_version(run.logdir, 2)
    assert read_current_version(run.logdir) == 1


@pytest.mark.parametrize("text", ["", "two\n", "0\n", "2", "-1\n", " 2\n"])
def test_damaged_choice_is_named_and_can_be_made_anew(run, text):
    publish(run, 2)
    (run.export_dir / "current").write_text(text)
    with pytest.raises(UserError, match=r"current: expected the number of a version; python "):
        load_run(run.logdir)
    choose_version(run.logdir, 2)
    assert load_run(run.logdir) == replace(run, version=2)


@pytest.mark.parametrize("change", [{"number": 5}, {"nonsense": 1}])
def test_damaged_description_is_named(run, change):
    publish(run, 2)
    path = run.export_dir / "2/version.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"version.json: not a version's description .*rm -r "):
        list_versions(run.logdir)
