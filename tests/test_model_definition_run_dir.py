import dataclasses
import json
import re

import pytest

from data_prep.command_line import UserError
from model_definition import run_dir
from model_definition.run_dir import Run, load_run, require_same_dataset, write_run
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE, MODEL, write_dataset


@pytest.fixture
def run(tmp_path):
    run = Run(
        logdir=tmp_path / "run",
        model="tiny",
        architecture_text=MODEL,
        data_dir="/data/tiny",
        dataset_name="tiny",
        dataset_digest="ab" * 32,
        image_shape=IMAGE_SHAPE,
        image_preparation="resize",
        class_names=(*CLASS_NAMES[:4], "élan"),
        config={"batch_size": 8, "augmentation": {"shift": 0.1}, "epochs": None},
        versions={"python": "3.11.0"},
    )
    write_run(run)
    return run


def test_what_is_written_is_read(run):
    assert load_run(run.logdir) == run
    assert run_dir.exists(run.logdir)
    assert run.export_path == run.logdir / "export/model.tflite"
    assert (run.logdir / "model.txt").read_text(encoding="utf-8") == MODEL
    assert sorted(path.name for path in run.logdir.iterdir()) == ["model.txt", "run.json"]


def test_moved_run_is_read_from_where_it_is(run, tmp_path):
    run.logdir.rename(tmp_path / "moved")
    assert load_run(tmp_path / "moved").logdir == tmp_path / "moved"


def test_missing_folder_is_named_with_the_remedy(tmp_path):
    logdir = tmp_path / "none"
    with pytest.raises(UserError) as error:
        load_run(logdir)
    assert str(error.value) == (
        f"{logdir}: no such run folder; name one that is there, or train one with "
        f"python train/train_lenet.py --logdir={logdir}"
    )


def test_folder_without_a_run_is_named(tmp_path):
    assert not run_dir.exists(tmp_path)
    with pytest.raises(UserError, match=r": holds no run\.json, so no run; name one that is there"):
        load_run(tmp_path)


def test_folder_of_runs_names_one_of_them(run):
    folder = run.logdir.parent
    with pytest.raises(UserError) as error:
        load_run(folder)
    assert str(error.value) == (
        f"{folder}: holds no run.json, so no run; name one of those in it, such as {run.logdir}"
    )


def test_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match="run: a file, no run folder; name one that is there"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: facts.pop("class_names"), "no 'class_names'"),
        (lambda facts: facts.pop("format_version"), "no 'format_version'"),
        (lambda facts: facts.pop("config"), ".*missing 1 required .*'config'"),
        (lambda facts: facts.update(colour="red"), ".*unexpected keyword argument 'colour'"),
        (lambda facts: facts.update(image_shape=[28, 28]), ".*expected 3, got 2.*"),
        (
            lambda facts: facts.update(image_preparation="crop"),
            "image_preparation is 'crop'",
        ),
    ],
)
def test_changed_description_is_refused(run, change, reason):
    path = run.logdir / "run.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(
        UserError,
        match=f"^{re.escape(str(path))}: not a run's description \\({reason}\\); restore it, or "
        "train again into another --logdir$",
    ):
        load_run(run.logdir)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"run"'])
def test_damaged_description_is_refused(run, text):
    (run.logdir / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"run\.json: not a run's description \(.+\); restore it"):
        load_run(run.logdir)


def test_missing_model_is_named(run):
    (run.logdir / "model.txt").unlink()
    with pytest.raises(UserError, match=r"not a run's description \(.*No such file.*model\.txt'\)"):
        load_run(run.logdir)


def test_other_version_is_refused(run):
    path = run.logdir / "run.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**facts, "format_version": 9}), encoding="utf-8")
    with pytest.raises(
        UserError,
        match="expected format_version 1, found 9; use the version of the project that trained it",
    ):
        load_run(run.logdir)


def test_dataset_must_fit(run, tmp_path):
    same = write_dataset(tmp_path / "same", class_names=run.class_names)
    require_same_dataset(run, same, exactly=False)
    with pytest.raises(
        UserError,
        match=r"this run was trained on another dataset \(tiny, digest abababababab\) than tiny, "
        f"digest {same.digest[:12]}; name that one with --data_dir, or another --logdir$",
    ):
        require_same_dataset(run, same, exactly=True)
    require_same_dataset(dataclasses.replace(run, dataset_digest=same.digest), same, exactly=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_names": ("a", "b")},
            "this run's classes: 5; the dataset tiny's: 2; name a dataset that fits with "
            "--data_dir, or another --logdir",
        ),
        (
            {"class_names": ("ant", "bee", "cow", "dog", "elk")},
            "this run's class names: ant bee cow dog élan; the dataset tiny's: ant bee cow dog "
            "elk; name a dataset that fits",
        ),
        (
            {"image_shape": (9, 13, 3)},
            "this run's image shape: (13, 9, 3); the dataset tiny's: (9, 13, 3); name a dataset",
        ),
    ],
)
def test_dataset_that_does_not_fit_is_refused(run, tmp_path, changes, message):
    manifest = write_dataset(tmp_path / "data", class_names=run.class_names)
    manifest = dataclasses.replace(manifest, **changes)
    for exactly in (False, True):
        with pytest.raises(UserError, match=re.escape(f"{run.logdir}: {message}")):
            require_same_dataset(run, manifest, exactly=exactly)
