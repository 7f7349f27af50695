from __future__ import annotations

import re
import shutil

import pytest

from data_prep.command_line import UserError
from eval.comparison.entries import load_entries
from model_definition.ensemble import write_ensemble
from model_definition.run_dir import write_run
from tests.comparison_fixtures import make_run


@pytest.fixture
def folders(tmp_path):
    """Two folders of runs that can be compared."""
    paths = [tmp_path / "runs/a", tmp_path / "runs/b"]
    for path in paths:
        write_run(make_run(str(path), config={}))
    return [str(path) for path in paths]


def test_runs_are_named_by_their_folders(folders):
    assert [entry.name for entry in load_entries([f"{folders[0]}/", folders[1]])] == ["a", "b"]


def test_names_are_as_long_as_they_must_be(folders, tmp_path):
    other = shutil.copytree(folders[0], tmp_path / "old/a")
    entries = load_entries([*folders, str(other)])
    assert [entry.name for entry in entries] == ["runs/a", "b", "old/a"]


@pytest.mark.parametrize("count", [0, 1])
def test_one_run_is_no_comparison(folders, count):
    with pytest.raises(
        UserError, match=f"^--runs: expected at least two run folders.*found {count}"
    ):
        load_entries(folders[:count])


def test_a_folder_that_is_there_twice(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders[0])
    message = f"^--runs: {folders[0]} and {tmp_path}/link name the same run; leave one of them out$"
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], folders[1], str(tmp_path / "link")])


@pytest.mark.parametrize("name", ["", "none"])
def test_a_folder_without_a_run(folders, name):
    message = (
        rf"^--runs: expected run folders, found '{name}', which holds no run\.json and no ense"
    )
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], name])
    joined = f"{folders[0]}+{name}"
    message = f"^--runs: expected run folders, found '{name}' in '{re.escape(joined)}', which holds"
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], joined])


@pytest.fixture
def ensemble(tmp_path):
    """The folder of an ensemble of two runs."""
    path = tmp_path / "runs/ens"
    for name in ("member-0", "member-1"):
        write_run(make_run(str(path / name), config={}))
    write_ensemble(path, {"member-0": "1/9", "member-1": "2/9"})
    return str(path)


def names_of(entry):
    return [run.logdir.name for run in entry.ensemble.runs]


def test_an_entry_may_be_an_average_of_others(folders, ensemble):
    texts = [*folders, "+".join(folders), ensemble, f"{ensemble}+{folders[1]}"]
    entries = load_entries(texts)
    assert [entry.name for entry in entries] == ["a", "b", "a+b", "ens", "ens+b"]
    assert [entry.seed for entry in entries] == [0, 0, None, None, None]
    assert [names_of(entry) for entry in entries[2:]] == [
        ["a", "b"],
        ["member-0", "member-1"],
        ["member-0", "member-1", "b"],
    ]


def test_a_folder_with_a_plus_in_its_name_is_that_folder(folders, tmp_path, monkeypatch):
    shutil.copytree(folders[0], tmp_path / "runs/a+b")
    monkeypatch.chdir(tmp_path / "runs")
    entries = load_entries(["a+b", "./a+./b"])
    assert [entry.name for entry in entries] == ["runs/a+b", "runs/a+runs/b"]
    assert [names_of(entry) for entry in entries] == [["a+b"], ["a", "b"]]


def test_averages_of_the_same_runs_are_refused(folders, ensemble):
    a, b = folders
    for first, second in (
        (f"{a}+{b}", f"{b}+{a}"),
        (ensemble, f"{ensemble}/member-1+{ensemble}/member-0"),
    ):
        message = f"--runs: {first} and {second} name the same runs; leave one of them out"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            load_entries([first, second])
    with pytest.raises(UserError, match=r"a: named twice; it would count twice, so leave one out$"):
        load_entries([b, f"{a}+{a}"])


def test_an_ensemble_whose_training_has_not_ended_is_refused(folders, ensemble, tmp_path):
    (tmp_path / "runs/ens/ensemble.json").unlink()
    with pytest.raises(UserError, match=r"ens', which holds no run\.json and no ensemble\.json; "):
        load_entries([folders[0], ensemble])


def test_every_member_must_be_comparable(folders, ensemble):
    write_run(make_run(f"{ensemble}/member-1", config={}, dataset_digest="e" * 64))
    message = f"^{folders[0]} and {ensemble}/member-1 cannot be compared: the first was trained on"
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], ensemble])
    write_run(make_run(f"{ensemble}/member-1", config={}, class_names=("ant", "bat", "cow")))
    with pytest.raises(UserError, match="member-1: this run's class names: ant bat cow; "):
        load_entries([folders[0], ensemble])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_shape": (4, 5, 1)}, "the first reads images of 5x4x1, the second of 4x5x1"),
        ({"class_names": ("ant", "bee")}, "the first knows 3 classes, the second 2"),
        (
            {"class_names": ("ant", "bat", "cow")},
            "class 1 is 'bee' for the first and 'bat' for the second",
        ),
        (
            {"dataset_name": "other", "dataset_digest": "e" * 64},
            "the first was trained on tiny (digest dddddddddddd), the second on other (digest "
            "eeeeeeeeeeee)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(folders, changes, reason):
    write_run(make_run(folders[1], config={}, **changes))
    message = f"{folders[0]} and {folders[1]} cannot be compared: {reason}; leave one of them out"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        load_entries(folders)
