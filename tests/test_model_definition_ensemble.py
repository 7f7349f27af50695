from __future__ import annotations

import dataclasses
import json
import re

import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.ensemble import (
    ENSEMBLE_NAME,
    Ensemble,
    find_dataset,
    load_ensemble,
    write_ensemble,
)
from model_definition.run_dir import write_run
from tests.predict_fixtures import write_test_run


@pytest.fixture
def runs(tmp_path):
    """Runs a, b and c; and an ensemble `ens` of two more."""
    found = {name: write_test_run(tmp_path / name) for name in "abc"}
    for name in ("member-0", "member-1"):
        found[name] = write_test_run(tmp_path / "ens" / name)
    write_ensemble(tmp_path / "ens", {"member-0": "1/12", "member-1": "2/12"})
    return found


def names_of(ensemble: Ensemble) -> list[str]:
    return [run.logdir.name for run in ensemble.runs]


def test_one_run_is_an_ensemble_of_one(runs, tmp_path):
    found = load_ensemble(str(tmp_path / "a"))
    assert found == Ensemble((runs["a"],), tmp_path / "a")
    assert (found.is_single, found.name, found.logdir) == (True, "a", str(tmp_path / "a"))
    assert found.first == runs["a"]


def test_runs_are_listed_in_the_order_given(runs, tmp_path):
    text = f"{tmp_path}/b,{tmp_path}/a"
    found = load_ensemble(text)
    assert names_of(found) == ["b", "a"]
    assert (found.folder, found.name, found.logdir) == (None, "b+a", text)
    assert not found.is_single


def test_an_ensemble_s_folder_stands_for_its_members(runs, tmp_path):
    found = load_ensemble(str(tmp_path / "ens"))
    assert names_of(found) == ["member-0", "member-1"]
    assert (found.folder, found.name) == (tmp_path / "ens", "ens")
    # Moved as a whole it still finds them; in a list its members count like any other run.
    (tmp_path / "ens").rename(tmp_path / "moved")
    found = load_ensemble(f"{tmp_path}/c,{tmp_path}/moved")
    assert names_of(found) == ["c", "member-0", "member-1"]
    facts = json.loads((tmp_path / "moved" / ENSEMBLE_NAME).read_text())
    assert facts["members"][1] == {"folder": "member-1", "validate_on": "2/12"}


def test_a_folder_with_a_comma_in_its_name_is_that_folder(tmp_path):
    write_test_run(tmp_path / "a,b")
    assert names_of(load_ensemble(str(tmp_path / "a,b"))) == ["a,b"]


def test_what_names_no_runs_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^a,,b: expected run folders joined by commas, f"):
        load_ensemble("a,,b")
    with pytest.raises(UserError, match=r"^z: no such run folder; name one that is there, or"):
        load_ensemble("a,z")
    with pytest.raises(UserError, match=r"^z: no such run folder; name one that is there, or"):
        load_ensemble("z")
    with pytest.raises(UserError, match=r"^a: named twice; it would count twice, so leave one out"):
        load_ensemble("a,b,./a")
    with pytest.raises(UserError, match=r"^ens/member-1: named twice"):
        load_ensemble("ens/member-1,ens")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": tuple("01")}, "classes: 2; a's: 10; only runs in which they are the same"),
        ({"class_names": tuple("1234567890")}, "class names: 1 2 3 4 5 6 7 8 9 0; a's: 0 1 2 3 4"),
        ({"image_shape": (28, 20, 1)}, "image shape: (28, 20, 1); a's: (28, 28, 1); only runs"),
        ({"image_preparation": "resize"}, "image preparation: resize; a's: mnist; only runs in"),
    ],
)
def test_runs_that_do_not_fit_are_refused(runs, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    write_run(dataclasses.replace(runs["b"], **change))
    with pytest.raises(UserError, match=re.escape(f"b: this run's {message}")):
        load_ensemble("a,b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices must be"),
        ('{"members": []}', "no 'format_version'"),
        ('{"format_version": 2, "members": []}', "expected format_version 1, found 2"),
        ('{"format_version": 1, "members": []}', "it names no members"),
        ('{"format_version": 1, "members": [{}]}', "no 'folder'"),
    ],
)
def test_a_damaged_description_is_named(runs, tmp_path, text, reason):
    (tmp_path / "ens" / ENSEMBLE_NAME).write_text(text)
    message = rf"ensemble.json: not an ensemble's description \({reason}.*; run the same train/ens"
    with pytest.raises(UserError, match=message):
        load_ensemble(str(tmp_path / "ens"))


def test_an_ensemble_in_the_making_is_none_yet(runs, tmp_path):
    (tmp_path / "ens" / ENSEMBLE_NAME).unlink()
    with pytest.raises(UserError, match=r"ens: an ensemble whose training has not ended; run the"):
        load_ensemble(str(tmp_path / "ens"))


def test_the_dataset_must_be_that_of_every_run(runs, tmp_path, make_dataset):
    manifest = make_dataset(tmp_path / "tiny", image_shape=(28, 28, 1), num_classes=10)
    class_names = manifest.class_names
    own = {"data_dir": str(tmp_path / "tiny"), "dataset_digest": manifest.digest}
    for name in "ab":
        write_run(dataclasses.replace(runs[name], class_names=class_names, **own))
    both = load_ensemble(f"{tmp_path}/a,{tmp_path}/b")
    assert find_dataset(both, None) == (tmp_path / "tiny", load_manifest(tmp_path / "tiny"))
    write_run(dataclasses.replace(runs["b"], class_names=class_names))
    both = load_ensemble(f"{tmp_path}/a,{tmp_path}/b")
    with pytest.raises(UserError, match=r"/b: this run was trained on another dataset \(drawn"):
        find_dataset(both, None)
    assert find_dataset(both, str(tmp_path / "tiny"))[1] == manifest
