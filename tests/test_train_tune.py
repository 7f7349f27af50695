"""The script as processes: stopped, killed, several at once, and what it refuses."""

import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.train_fixtures import ROOT, write_dataset, write_model

# The real script with quick heartbeats, which does not export.
DRIVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from data_prep import command_line
command_line.import_tensorflow()
from train import loop, tune
from train.search import study
study.HEARTBEAT_SECONDS, study.GRACE_SECONDS = 1, 10
def pretend_to_export(run, *_):
    run.export_path.parent.mkdir()
    run.export_path.touch()
loop.export_litert = pretend_to_export
command_line.run(tune.main, tune.define_flags)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process of one search; none outlives the test."""
    write_dataset(tmp_path / "data")
    (tmp_path / "space.txt").write_text("learning_rate log 1e-3 1e-1\n", encoding="utf-8")
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    model = write_model(tmp_path)
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [
                *(sys.executable, str(tmp_path / "driver.py"), "--space=space.txt"),
                *(f"--data_dir={tmp_path / 'data'}", f"--model={model}", "--logdir=search"),
                *("--max_steps=240", "--batch_size=8", "--validate_every_steps=40"),
                *("--schedule=constant", "--trials=3", "--keep=1", "--json", *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stopped_and_killed_trials_go_on_shared_by_two_processes(start, tmp_path):
    search = tmp_path / "search"
    process = start()
    wait_for(lambda: (search / "trial-0000/history.json").exists(), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 42, err
    assert "SIGTERM: saving after this step" in err
    assert json.loads(out)["stopped_by_signal"] is True
    stopped_at = max(int(path.stem.rpartition("-")[2]) for path in checkpoints(search, 0))
    assert 0 < stopped_at < 240

    process = start()
    saved = set(checkpoints(search, 0))
    wait_for(lambda: set(checkpoints(search, 0)) - saved, process)
    process.kill()
    process.communicate()

    both = [start(), start()]
    documents = []
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        documents.append(json.loads(out))
    # Both waited for the end of the other's last trial, so both know everything.
    assert documents[0] == documents[1]
    trials = documents[0]["trials"]
    assert [trial["trial"] for trial in trials] == [0, 1, 2]
    assert all(trial["step"] and trial["state"] in ("finished", "pruned") for trial in trials)
    assert sorted(path.name for path in search.glob("trial-*")) == [
        f"trial-000{i}" for i in range(3)
    ]
    # The interrupted one went on in its folder, twice, from where it was saved.
    log = (search / "trial-0000/train.log").read_text(encoding="utf-8")
    begun = [line for line in log.splitlines() if " on tiny: steps" in line]
    assert len(begun) == 3, log
    assert "steps 0 to 240" in begun[0]
    assert f"steps {stopped_at:,} to 240" in begun[1]
    assert "steps 0 to" not in begun[2]
    history = json.loads((search / "trial-0000/history.json").read_text(encoding="utf-8"))
    assert [score["step"] for score in history] == list(range(40, 241, 40))
    with sqlite3.connect(search / "study.db") as database:
        (running,) = database.execute(
            "select count(*) from trials where state='RUNNING'"
        ).fetchone()
    assert running == 0


def checkpoints(search, place):
    return list((search / f"trial-{place:04d}").glob("model.ckpt-*.index"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--space: name what to search: bn_cnn, lenet, or a text file's path"),
        (["--space=lenet", "--trials=2", "--minutes=1"], "--trials and --minutes: set one of them"),
        (["--space=lenet", "--data_dir=nowhere"], "nowhere: "),
        (["--space=lenet", "--trials=0"], "--trials=0: expected a number above 0 and below"),
        (["--space=lenet", "--keep=0"], "--keep=0: expected a number above 0 and below"),
        (["--space=lenet", "--minutes=nan"], "--minutes=nan: expected a number above 0 and below"),
        (
            ["--space=lenet", "--validate_on=none"],
            "--validate_on=none: trials are judged on images",
        ),
        (["--space=lenet", "--logdir=tensorflow.py"], "tensorflow.py: a file; name a folder with"),
        (["--space=lenet", "--batch_size=0"], "--batch_size=0: expected a whole number"),
        (["--space=lenet", "--shift=0.1"], "line 7: --shift is given too; remove one of the two"),
    ],
)
def test_mistakes_are_one_line_before_tensorflow_is_imported(
    run_script, tmp_path, arguments, message
):
    write_dataset(tmp_path / "data")
    (tmp_path / "tensorflow.py").write_text("raise AssertionError", encoding="utf-8")
    done = run_script(
        "train/tune.py", "--data_dir=data", *arguments, cwd=tmp_path, env={"PYTHONPATH": tmp_path}
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_help_lists_the_spaces(run_script):
    done = run_script("train/tune.py", "--space=help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["bn_cnn", "lenet"]
