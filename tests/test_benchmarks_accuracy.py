"""The benchmark of accuracies, by the script, on a tiny dataset."""

import json
from pathlib import Path

import pytest

from benchmarks import accuracy
from benchmarks.accuracy import CLAIMS, format_table
from train.recipes import list_recipes


def test_trains_scores_and_does_not_train_again(make_dataset, run_script, tmp_path):
    folder = tmp_path / "tiny"
    make_dataset(folder, image_shape=(28, 28, 1), num_classes=10, num_train=70)
    results = tmp_path / "results.json"
    command = (
        *("benchmarks/accuracy.py", "--recipes=speed99", "--seeds=1"),
        *(f"--data_dir={folder}", f"--logdir={tmp_path / 'runs'}", f"--results={results}"),
    )
    done = run_script(*command, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(results.read_text())["runs"]["speed99"].values()
    # All 81 images that are not of the test split, in the recipe's batches.
    batch_size, epochs = run["config"]["batch_size"], run["config"]["epochs"]
    assert run["step"] == -(-81 * epochs // batch_size)
    assert run["config"]["train_splits"] == "train+validation"
    assert (run["validation_accuracy"], run["config"]["seed"]) == (None, 0)
    assert round(run["test_accuracy"] * 17) / 17 == pytest.approx(run["test_accuracy"], abs=1e-6)
    assert 0 < run["seconds"] < 300
    again = run_script(*command)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == done.stdout
    assert f"{100 * run['test_accuracy']:.2f} (1)" in again.stdout
    refused = "accuracy.py: no run of speed995 is there; give it to --recipes as well, before"
    for more in ("--ensembles=speed995", "--recipes=distilled_lenet"):
        assert run_script(*command, more).stderr.splitlines() == [refused]
    printed = run_script(*command, "--recipes=distilled_lenet", "--seeds=0")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "| `distilled_lenet` | LeNet taught by five | 99.60 % |  |  |" in printed.stdout


def test_an_unknown_recipe(run_script):
    done = run_script("benchmarks/accuracy.py", "--recipes=best_tiny,huge")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("accuracy.py: --recipes=huge: expected some of speed99_lenet, ")


def test_a_recipe_learns_from_all_runs_of_its_teacher():
    results: dict[str, dict] = {"speed995": {"0": {}, "4": {}}}
    assert accuracy._name_teachers("speed99", results, Path("runs")) == []
    assert accuracy._name_teachers("distilled_lenet", results, Path("runs")) == [
        "--teacher=runs/speed995-0,runs/speed995-4"
    ]


def test_an_ensemble_is_its_recipes_runs_together(monkeypatch):
    asked: list[tuple[str, ...]] = []

    def evaluate(*command):
        asked.append(command)
        return '{"accuracy": 0.5}'

    monkeypatch.setattr(accuracy, "run_script", evaluate)
    results = {"best_lenet": {"0": {"seconds": 3.0}, "1": {"seconds": 4.0}}, "tiny": {}}
    results["cnn9975"] = {"0": {"seconds": 5.0}}
    members = accuracy._list_members(["best_lenet", "cnn9975"], results)
    score = accuracy._score_ensemble("best_lenet", members, Path("runs"))
    assert score["members"] == ["best_lenet-0", "best_lenet-1", "cnn9975-0"]
    assert (score["seconds"], score["test_accuracy"]) == (12.0, 0.5)
    folders = "--logdir=runs/best_lenet-0,runs/best_lenet-1,runs/cnn9975-0"
    assert asked[0][:2] == ("eval/evaluate.py", folders)


def test_table():
    runs = {str(n): {"test_accuracy": 0.99 + n / 1000, "seconds": 10.0 * n} for n in (1, 2, 3)}
    score = {"members": ["best_lenet-0", "a-1"], "test_accuracy": 0.9976, "seconds": 900.0}
    lines = format_table({"speed99": runs, "best_tiny": {}}, {"best_lenet": score}).splitlines()
    assert lines[2:] == [
        "| `speed99` | `fast`, time to 99 % | 99.00 % in 5 s | 99.20 ± 0.10 (3) | 20 |",
        "| `best_tiny` | under 10,000 parameters | 99.50 % |  |  |",
        "| `best_lenet` | 2 runs as one, with test-time shifts "
        "| 99.80 % in 10,800 s | 99.76 | 900 |",
    ]


def test_every_claim_has_its_recipe():
    assert set(CLAIMS) <= set(list_recipes())
