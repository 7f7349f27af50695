from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from data_prep.schema import load_manifest
from model_definition.ensemble import load_ensemble
from model_definition.run_dir import load_run
from tests.train_fixtures import make_config, write_dataset, write_model
from train.members import is_trained

SIZES = {"train": 53, "validation": 17, "test": 11}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    write_dataset(folder / "tiny", sizes=SIZES)
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def flags() -> list[str]:
    return ["--data_dir=tiny", "--model=tiny.txt", "--epochs=2", "--batch_size=8", "--seed=7"]


@pytest.fixture(scope="module")
def trained(folder, flags, run_script):
    """An ensemble of two, trained side by side, and what the script said."""
    done = run_script(
        "train/ensemble.py",
        *flags,
        "--logdir=ens",
        "--members=2",
        "--parallel=2",
        "--folds=4",
        "--json",
        cwd=folder,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_members_have_their_own_seeds_and_folds(folder, trained):
    ensemble = load_ensemble(str(folder / "ens"))
    configs = [run.config for run in ensemble.runs]
    assert [(c["seed"], c["validate_on"]) for c in configs] == [(7, "1/4"), (8, "2/4")]
    assert {(c["epochs"], c["batch_size"]) for c in configs} == {(2.0, 8)}
    assert "member-1: trained" not in trained.stderr  # Results are no log lines.
    assert re.search(
        r"^member-0: training tiny.txt on tiny: steps 0 to 10 of 8", trained.stderr, re.M
    )


def test_all_are_scored_on_images_that_none_has_seen(folder, trained, run_script):
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


def test_the_same_command_again_adds_what_is_missing(folder, trained, flags, run_script):
    before = {
        path: path.stat().st_mtime_ns for path in (folder / "ens/member-1").rglob("model.tflite")
    }
    assert before
    command = ["train/ensemble.py", *flags, "--logdir=ens", "--folds=4", "--members=3"]
    done = run_script(*command, cwd=folder, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "member-0: " not in done.stderr and "member-1: " not in done.stderr
    assert "member-2: train_lenet.py --data_dir=tiny --model=tiny.txt" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["member", "own", "fold", "accuracy", "on", "validation"]
    assert [line.split()[0] for line in lines[1:5]] == [f"member-{i}" for i in range(3)] + [
        "ensemble"
    ]
    assert lines[3].split()[1] == "3/4"
    assert lines[6] == "  python eval/evaluate.py --logdir=ens"
    assert len(load_ensemble(str(folder / "ens")).runs) == 3


def test_a_member_is_trained_once_it_has_the_same_flags(folder, trained):
    manifest, model = load_manifest(folder / "tiny"), str(folder / "tiny.txt")
    config = make_config(
        model, epochs=2.0, learning_rate=0.003, precision="auto", seed=8, validate_on="2/4"
    )
    logdir = folder / "ens/member-1"
    assert load_run(logdir).config["seed"] == 8
    assert is_trained(config, manifest, logdir)
    assert not is_trained(config, manifest, folder / "ens/member-9")
    for change in ({"seed": 9}, {"epochs": 3.0}, {"validate_on": "1/4"}, {"model": "lenet"}):
        values = {"epochs": 2.0, "learning_rate": 0.003, "seed": 8, "validate_on": "2/4", **change}
        other = make_config(str(values.pop("model", model)), **values)
        assert not is_trained(other, manifest, logdir), change


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--members=1", "--members=1: 1 is not an integer in the range [2, 100]; --help lists"),
        ("--validate_on=1/5", "--validate_on: every member has a fold of its own; leave it out, a"),
        ("--folds=3", "--folds=3: fewer than the 5 members, each of which holds out another one;"),
        ("--epochs=-1", "--epochs=-1.0: expected a number above 0 and below 1000000"),
        ("--decay_rate=0.5", "--decay_rate belongs to --schedule=exponential; leave it out"),
        ("--data_dir=nowhere", "nowhere: no such dataset folder; python data_prep/convert.py"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(folder, run_script, flag, message):
    done = run_script("train/ensemble.py", "--logdir=none", "--data_dir=tiny", flag, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ensemble.py: {message}"), done.stderr
    assert not (folder / "none").exists()
