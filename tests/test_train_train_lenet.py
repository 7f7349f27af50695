"""The script as a process: signals, kills, exit codes, and what it prints."""

import json
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from input_pipeline.augmentation import Augmentation
from model_definition.checkpoints import list_checkpoints
from model_definition.run_dir import load_run
from tests.train_fixtures import ROOT, flip_bit, make_config, write_dataset, write_model
from train import loop
from train.config import TrainConfig
from train.loop import train

# The real script in a process that does something to itself on the way.
DRIVER = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from data_prep import command_line
command_line.import_tensorflow()
from train import hooks, train_lenet

after_run = hooks.SummaryHook.after_run

def kill_after_step_13(self, *args):
    after_run(self, *args)
    if self._current_step == 13:
        os.kill(os.getpid(), signal.SIGKILL)

def save_slowly(self, session):
    command_line.log("saving slowly")
    time.sleep(300)

if {what!r} == "kill":
    hooks.SummaryHook.after_run = kill_after_step_13
else:
    hooks.CheckpointHook.end = save_slowly
command_line.run(train_lenet.main, train_lenet.define_flags)
"""
FLAGS = ["--batch_size=8", "--precision=float32", "--learning_rate=0.01"]
ENDLESS = [*FLAGS, "--schedule=constant", "--max_steps=100000", "--validate_every_steps=20"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "tiny"
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def no_export(monkeypatch):
    monkeypatch.setattr(loop, "export_litert", lambda *_: None)


@pytest.fixture
def start(data_dir, model, tmp_path):
    """Starts the script, or a driver of it; none outlives the test."""
    started = []

    def start(*arguments, driver=None):
        script = ROOT / "train/train_lenet.py"
        if driver:
            script = tmp_path / f"{driver}.py"
            script.write_text(DRIVER.format(root=str(ROOT), what=driver), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(script), f"--data_dir={data_dir}", f"--model={model}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process, text):
    """Reads stderr up to the line that holds the text; returns what was read."""
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            watchdog.cancel()
            return read
    raise AssertionError(f"{text!r} did not come: {read}")


def assert_same_weights(logdir, expected):
    [found, *_], [wanted, *_] = list_checkpoints(logdir), list_checkpoints(expected)
    assert found.name == wanted.name
    readers = [tf.train.load_checkpoint(str(path)) for path in (found, wanted)]
    names = readers[0].get_variable_to_shape_map()
    assert names == readers[1].get_variable_to_shape_map()
    for name in names:
        assert np.array_equal(*(reader.get_tensor(name) for reader in readers)), name
    assert (logdir / "history.json").read_bytes() == (expected / "history.json").read_bytes()


def test_killed_process_started_again_ends_with_the_same_weights(
    data_dir, model, start, tmp_path, no_export
):
    flags = [*FLAGS, "--epochs=3", "--shift=0.1", "--elastic=5"]
    killed = start(*flags, f"--logdir={tmp_path / 'run'}", driver="kill")
    stdout, stderr = killed.communicate(timeout=120)
    assert (killed.returncode, stdout) == (-signal.SIGKILL, ""), stderr
    [checkpoint] = list_checkpoints(tmp_path / "run")
    assert checkpoint.name == "model.ckpt-7"

    recipe = tmp_path / "recipe.txt"  # The same flags in another place.
    recipe.write_text("\n".join(flags), encoding="utf-8")
    again = start(f"--recipe={recipe}", f"--logdir={tmp_path / 'run'}", "--json")
    stdout, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    facts = json.loads(stdout)
    assert stdout.count("\n") == 1
    assert (facts["step"], facts["total_steps"], facts["dataset"]) == (20, 20, "tiny")
    assert facts["logdir"] == str(tmp_path / "run")
    assert facts["stopped_by_signal"] is False
    assert set(facts["best"]) == {"step", "accuracy", "loss", "mean_squared_error"}
    assert "\r" not in stderr and "\033" not in stderr
    assert f"going on from {checkpoint}\n" in stderr
    # Two validations are left, each with its line, 17 images are too few to calibrate on, and
    # there is nothing of TensorFlow's own.
    printed, lines = stderr.splitlines()[: 1 + len(flags)], stderr.splitlines()[1 + len(flags) :]
    assert printed == [f"recipe {recipe}:", *flags]
    assert [line[:5] for line in lines] == ["going", "train", "epoch", "epoch", "not c"], stderr
    assert (tmp_path / "run/export/model.tflite").stat().st_size > 1000

    config = make_config(model, augmentation=Augmentation(shift=0.1, elastic=5.0))
    train(config, data_dir=data_dir, logdir=tmp_path / "straight")
    assert_same_weights(tmp_path / "run", tmp_path / "straight")
    # The flags' defaults are those of TrainConfig.
    run = load_run(tmp_path / "run")
    assert run.config == json.loads(json.dumps(config.to_json()))
    manifest = load_manifest(data_dir)
    assert (run.dataset_name, run.dataset_digest) == (manifest.name, manifest.digest)
    assert (run.data_dir, run.class_names) == (str(data_dir), manifest.class_names)


def test_sigterm_saves_and_a_second_trainer_is_refused(data_dir, model, start, tmp_path, no_export):
    logdir = tmp_path / "run"
    trainer = start(*ENDLESS, f"--logdir={logdir}")
    wait_for(trainer, "step 20/")
    trainer.send_signal(signal.SIGSTOP)  # Only to save time.
    second = start(*ENDLESS, f"--logdir={logdir}")
    stdout, stderr = second.communicate(timeout=120)
    assert (second.returncode, stdout) == (1, "")
    assert stderr == (
        f"train_lenet.py: {logdir}: another process is training in this folder now; wait until it "
        "has finished, or name another --logdir\n"
    )
    trainer.send_signal(signal.SIGCONT)
    trainer.send_signal(signal.SIGTERM)
    stdout, stderr = trainer.communicate(timeout=60)
    assert trainer.returncode == 42, stderr
    assert "SIGTERM: saving after this step; once more quits at once\n" in stderr
    assert "\r" not in stderr and "Traceback" not in stderr
    step = int(list_checkpoints(logdir)[0].name.rpartition("-")[2])
    assert stdout == (
        f"stopped at step {step:,} of 100,000; saved in {logdir}\nrun the same command again to go "
        "on\n"
    )

    # The steps that are left are made here, and all of them anew: no difference is left.
    config = make_config(
        model,
        schedule="constant",
        epochs=None,
        max_steps=step + 5,
        validate_every_steps=20,
    )
    train(config, data_dir=data_dir, logdir=logdir)
    train(config, data_dir=data_dir, logdir=tmp_path / "straight")
    assert_same_weights(logdir, tmp_path / "straight")


def test_ctrl_c_saves_and_a_second_one_quits_at_once(start, tmp_path):
    process = start(*ENDLESS, f"--logdir={tmp_path / 'run'}", driver="slow")
    wait_for(process, "step 20/")
    process.send_signal(signal.SIGINT)
    wait_for(process, "SIGINT: saving after this step; once more quits at once")
    wait_for(process, "saving slowly")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - begun < 10
    assert (stdout, stderr) == ("", "")


def test_damaged_record_is_one_line_and_exit_code_1(tmp_path, run_script, model):
    manifest = write_dataset(tmp_path / "data")
    shard = tmp_path / "data" / manifest.splits["train"].shards[1].name
    flip_bit(shard, 100)
    done = run_script(
        "train/train_lenet.py",
        f"--data_dir={tmp_path / 'data'}",
        f"--logdir={tmp_path / 'run'}",
        f"--model={model}",
        *FLAGS,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "DataLoss" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"train_lenet.py: {shard}: record 0 (at byte 0): the checksum of its data does not match; "
        f"python data_prep/verify.py --data_dir={tmp_path / 'data'} lists all damage, and "
        "convert.py --overwrite makes the dataset anew"
    )
    assert len(done.stderr.splitlines()) == 2  # It had said what it was about to do.


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=0", "--batch_size=0: expected a whole number from 1 to 100000"),
        ("--batch_size=many", "--batch_size=many: invalid literal for int"),
        (
            "--optimizer=lion",
            "--optimizer=lion: value should be one of <adam|momentum|sgd|rms",
        ),
        ("--learning_rat=1", "Unknown command line flag 'learning_rat'"),
        ("fast", r"expected no positional argument(s), found: fast; options start with two dashes"),
        ("--rotation=nan", "--rotation=nan: expected a number from 0 to 180.0"),
        ("--momentum=0.5", "--momentum belongs to --optimizer=momentum or rmsprop; leave it out"),
        ("--model_set=width", "--model_set=width: expected NAME=VALUE without spaces, such as wid"),
        ("--recipe=lenett", "--recipe=lenett: found neither a recipe of that name nor a file (did"),
    ],
)
def test_bad_flag_is_one_message_before_tensorflow_is_imported(run_script, tmp_path, flag, message):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "tensorflow.py").write_text("raise AssertionError", encoding="utf-8")
    done = run_script(
        "train/train_lenet.py", flag, cwd=tmp_path / "cwd", env={"PYTHONPATH": tmp_path}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"train_lenet.py: {message}")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("folder", "data: no such dataset folder; python data_prep/convert.py makes a dataset"),
        ("manifest", r"manifest\.json: missing, so this is not a complete dataset folder; python"),
        ("json", r"manifest\.json: not a manifest \(.*\); restore it"),
        (
            "shard",
            r"00000-of-00003: expected [0-9,]+ bytes, found no file; python data_prep/verify",
        ),
        ("split", "split 'tran': the dataset tiny has train, validation, test; join several with"),
        ("model", "model 'lenett': found neither a network of the zoo nor a file of that name"),
        ("file", r"run: a file; name a folder with --logdir$"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(tmp_path, model, harm, message):
    data_dir, logdir = tmp_path / "data", tmp_path / "run"
    values = {"model": model}
    if harm != "folder":
        manifest = write_dataset(data_dir)
    if harm == "manifest":
        (data_dir / "manifest.json").unlink()
    elif harm == "json":
        (data_dir / "manifest.json").write_text("{", encoding="utf-8")
    elif harm == "shard":
        (data_dir / manifest.splits["train"].shards[0].name).unlink()
    elif harm == "split":
        values["train_splits"] = "tran"
    elif harm == "model":
        values["model"] = "lenett"
    elif harm == "file":
        logdir.touch()
    with pytest.raises(UserError, match=message) as error:
        train(
            TrainConfig(epochs=1.0, precision="float32", **values), data_dir=data_dir, logdir=logdir
        )
    assert "\n" not in str(error.value)
    assert harm == "file" or not logdir.exists()


def test_run_that_never_began_does_not_stand_in_the_way(tmp_path, data_dir, model, no_export):
    values = {"epochs": 1.0, "validate_every_steps": 7}
    logdir = tmp_path / "run"
    with pytest.raises(UserError, match=r"^--train_limit=54: there are 53 training images; lower"):
        config = make_config(model, train_limit=54, **values)
        train(config, data_dir=data_dir, logdir=logdir)
    config = make_config(model, train_limit=50, **values)
    assert train(config, data_dir=data_dir, logdir=logdir).step == 7


def test_named_values_of_the_model_are_kept_and_the_text_decides(tmp_path, data_dir, no_export):
    text = "width = 4\nconv width 3x3\nmaxpool 2x2\nflatten\noutput\n"
    logdir, values = tmp_path / "run", {"epochs": 1.0, "model_set": (("width", "6"),)}
    model = write_model(tmp_path, text)
    train(make_config(model, **values), data_dir=data_dir, logdir=logdir)
    assert load_run(logdir).config["model_set"] == {"width": "6"}
    assert (logdir / "model.txt").read_text(encoding="utf-8") == text.replace("4", "6", 1)

    # Without it, or with another value, it is another model; with the text as it was set, the same.
    with pytest.raises(UserError, match=r"another model: its model\.txt has `width = 6`"):
        train(make_config(model, epochs=1.0), data_dir=data_dir, logdir=logdir)
    with pytest.raises(UserError, match=r"depth"):
        config = make_config(model, epochs=1.0, model_set=(("depth", "6"),))
        train(config, data_dir=data_dir, logdir=logdir)
    config = make_config(str(logdir / "model.txt"), epochs=2.0)
    assert train(config, data_dir=data_dir, logdir=logdir).step == 14
    assert load_run(logdir).config["model_set"] == {}


def test_run_from_before_a_flag_was_there_goes_on(tmp_path, data_dir, model, no_export):
    logdir = tmp_path / "run"
    train(make_config(model, epochs=1.0), data_dir=data_dir, logdir=logdir)
    facts = json.loads((logdir / "run.json").read_text(encoding="utf-8"))
    for name in ("beta1", "beta2", "model_set"):
        del facts["config"][name]
    (logdir / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError, match=r"other flags \(beta1: 0\.9 in the run, 0\.8 now\); give"):
        train(make_config(model, epochs=1.0, beta1=0.8), data_dir=data_dir, logdir=logdir)
    assert train(make_config(model, epochs=2.0), data_dir=data_dir, logdir=logdir).step == 14


def test_a_file_where_the_event_files_would_be_is_named(run_script, data_dir, model, tmp_path):
    logdir = tmp_path / "run"
    logdir.mkdir()
    (logdir / "train").touch()
    done = run_script(
        "train/train_lenet.py", *ENDLESS, f"--model={model}", f"--data_dir={data_dir}",
        f"--logdir={logdir}",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        f"train_lenet.py: {logdir}/train: file exists; a folder is expected where a file is"
    )
