from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from absl import flags

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.ensemble import load_ensemble, write_ensemble
from tests.train_fixtures import make_config, write_dataset, write_model
from train import ensemble
from train.config import TrainConfig
from train.loop import train
from train.members import is_trained

SIZES = {"train": 53, "validation": 17, "test": 11}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    write_dataset(folder / "tiny", sizes=SIZES)
    write_model(folder)
    return folder


def member_config(folder: Path, index: int, **changes: Any) -> TrainConfig:
    values = {"epochs": 2.0, "learning_rate": 0.003, "precision": "auto", **changes}
    values = {"seed": 7 + index, "validate_on": f"{index + 1}/4", **values}
    return make_config(values.pop("model", str(folder / "tiny.txt")), **values)


@pytest.fixture(scope="module")
def trained(folder, run_script):
    """An ensemble of two, of which the first was trained already, and what the script said."""
    train(member_config(folder, 0), data_dir=folder / "tiny", logdir=folder / "ens/member-0")
    before = (folder / "ens/member-0/export/model.tflite").stat().st_mtime_ns
    flags = ["--data_dir=tiny", "--model=tiny.txt", "--epochs=2", "--batch_size=8", "--seed=7"]
    own = ["--logdir=ens", "--members=2", "--parallel=2", "--folds=4", "--json"]
    done = run_script("train/ensemble.py", *flags, *own, cwd=folder, timeout=400)
    assert done.returncode == 0, done.stderr
    assert (folder / "ens/member-0/export/model.tflite").stat().st_mtime_ns == before
    return done


def test_members_have_their_own_seeds_and_folds(folder, trained):
    configs = [run.config for run in load_ensemble(str(folder / "ens")).runs]
    assert [(c["seed"], c["validate_on"]) for c in configs] == [(7, "1/4"), (8, "2/4")]
    assert {(c["epochs"], c["batch_size"]) for c in configs} == {(2.0, 8)}


def test_only_what_is_missing_is_trained(trained):
    assert "member-0: " not in trained.stderr
    lines = trained.stderr.splitlines()
    assert lines[0].startswith("member-1: train_lenet.py --data_dir=tiny --model=tiny.txt --batch")
    assert lines[0].endswith(" --logdir=ens/member-1 --seed=8 --validate_on=2/4")
    assert any(
        line.startswith("member-1: training tiny.txt on tiny: steps 0 to ") for line in lines
    )


def test_all_are_scored_on_images_that_none_has_seen(folder, trained):
    facts = json.loads(trained.stdout)
    assert facts["logdir"] == "ens"
    for number, member in enumerate(facts["members"]):
        assert member["logdir"] == f"ens/member-{number}"
        assert (member["seed"], member["validate_on"]) == (7 + number, f"{number + 1}/4")
        history = json.loads((folder / member["logdir"] / "history.json").read_text())
        assert member["best"] in history
        assert member["best"]["accuracy"] == max(score["accuracy"] for score in history)
    validation = facts["validation"]
    assert (validation["split"], validation["num_examples"]) == ("validation", SIZES["validation"])
    assert [one["logdir"] for one in validation["members"]] == ["ens/member-0", "ens/member-1"]


def test_table_has_a_row_for_each_and_for_all(trained):
    facts = json.loads(trained.stdout)
    lines = ensemble._format(facts).splitlines()
    accuracy = f"{facts['validation']['accuracy']:.2%}"
    assert lines[0] == "member      own fold  accuracy  on validation"
    assert lines[2].split()[:2] == ["member-1", "2/4"]
    assert lines[3] == f"ensemble{accuracy:>37}"
    assert lines[5] == "  python eval/evaluate.py --logdir=ens"
    unscored = ensemble._format({**facts, "validation": None}).splitlines()
    assert unscored[0] == "member      own fold  accuracy" and unscored[3] == "next:"


def test_a_member_is_trained_once_it_has_the_same_flags(folder, trained):
    manifest, logdir = load_manifest(folder / "tiny"), folder / "ens/member-1"
    assert is_trained(member_config(folder, 1), manifest, logdir)
    assert not is_trained(member_config(folder, 1), manifest, folder / "ens/member-9")
    for change in ({"seed": 9}, {"epochs": 3.0}, {"validate_on": "1/4"}, {"model": "lenet"}):
        assert not is_trained(member_config(folder, 1, **change), manifest, logdir), change


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--members=1", "--members=1: 1 is not an integer in the range [2, 100]; --help lists"),
        ("--validate_on=1/5", "--validate_on: every member has a fold of its own; leave it out, a"),
        ("--folds=3", "--folds=3: fewer than the 5 members, each of which holds out another one;"),
        ("--epochs=-1", "--epochs=-1.0: expected a number above 0 and below 1000000"),
        ("--decay_rate=0.5", "--decay_rate belongs to --schedule=exponential; leave it out"),
        ("--logdir=tiny.txt", "tiny.txt: a file; name a folder with --logdir"),
        ("--train_splits=tran", "split 'tran': the dataset tiny has train, validation, test;"),
        ("--data_dir=nowhere", "nowhere: no such dataset folder; python data_prep/convert.py"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(folder, run_script, tmp_path, flag, message):
    (tmp_path / "tensorflow.py").write_text("raise AssertionError", encoding="utf-8")
    arguments = ["--logdir=none", "--data_dir=tiny", flag]
    done = run_script("train/ensemble.py", *arguments, cwd=folder, env={"PYTHONPATH": tmp_path})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ensemble.py: {message}"), done.stderr
    assert not (folder / "none").exists()


@pytest.fixture
def make_configs(folder):
    """Gives each member of `ens` its flags, from the script's arguments."""
    before = set(flags.FLAGS)
    ensemble.define_flags()
    values = copy.deepcopy(flags.FLAGS)
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)

    def make_configs(*arguments, logdir=folder / "ens"):
        values(["ensemble.py", *arguments])
        return ensemble.make_member_configs(values, member_config(folder, 0), logdir)

    return make_configs


def test_added_member_has_the_next_of_the_folds_that_are_there(make_configs, trained, tmp_path):
    added = make_configs("--members=3")["member-2"]
    assert (added.seed, added.validate_on) == (9, "3/4")
    new = make_configs("--members=13", logdir=tmp_path / "new")
    assert new["member-12"].validate_on == "13/13"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members=5"], "--members=5: the members in ENS hold out folds of 4, so there can be"),
        (["--folds=5"], "--folds=5: the members in ENS hold out folds of 4; leave it out, or"),
        (["--members=2"], "ENS: has 3 members, more than --members=2; give --members=3, or name"),
    ],
)
def test_what_is_there_is_not_contradicted(make_configs, trained, folder, arguments, message):
    logdir, number = folder / "ens", 3 if "--members=2" in arguments else 2
    kept = (logdir / "ensemble.json").read_text(encoding="utf-8")
    write_ensemble(logdir, {f"member-{i}": f"{i + 1}/4" for i in range(number)})
    try:
        with pytest.raises(UserError) as error:
            make_configs(*arguments)
    finally:
        (logdir / "ensemble.json").write_text(kept, encoding="utf-8")
    assert str(error.value).startswith(message.replace("ENS", str(logdir)))
