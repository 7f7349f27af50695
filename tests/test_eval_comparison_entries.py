from __future__ import annotations

import re
import shutil

import pytest

from data_prep.command_line import UserError
from eval.comparison.entries import load_entries
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
    message = f"^--runs: {folders[0]} and {tmp_path}/link are the same folder; name it once$"
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], folders[1], str(tmp_path / "link")])


@pytest.mark.parametrize("name", ["", "none"])
def test_a_folder_without_a_run(folders, name):
    message = rf"^--runs: expected run folders, found '{name}', which holds no run\.json; train_len"
    with pytest.raises(UserError, match=message):
        load_entries([folders[0], name])


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
