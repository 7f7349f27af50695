"""What a learning curve keeps and says, without training."""

import csv
import dataclasses
import json
import struct

import pytest

from data_prep.command_line import UserError
from train.config import TrainConfig
from train.curve import (
    FOLDS,
    Curve,
    Point,
    PointKey,
    format_table,
    load_points,
    run_config,
    summarize,
    write_curve,
)
from train.curve_chart import draw_chart
from train.learning_curve import list_keys

CONFIG = TrainConfig(validate_on="none")
CURVE = Curve("tiny", "d" * 64, "flatten\noutput\n", "test", CONFIG.to_json())


def point(images, seed, accuracy, fold=None, measured_images=100):
    return Point(images, seed, fold, accuracy, 0.5, 0.1, measured_images, 40)


def test_runs_are_listed_with_the_fewest_images_first():
    keys = list_keys(["600", "60"], seeds=2, folds=None)
    assert keys == [PointKey(60, 0), PointKey(60, 1), PointKey(600, 0), PointKey(600, 1)]
    folds = list_keys(["60"], seeds=1, folds=2)
    assert folds == [PointKey(60, 0, "1/2"), PointKey(60, 0, "2/2")]
    names = [key.folder for key in (*keys[:2], *folds)]
    assert names == [
        "60-images-seed-0",
        "60-images-seed-1",
        "60-images-seed-0-fold-1-of-2",
        "60-images-seed-0-fold-2-of-2",
    ]


@pytest.mark.parametrize("text", ["0", "-1", "6e2", "", " 60", "60.0", "9" * 30, "²"])
def test_size_that_is_no_number_of_images_is_refused(text):
    with pytest.raises(UserError, match=r"^--sizes: found .*, expected whole numbers from 1 on"):
        list_keys(["60", text], seeds=1, folds=None)


def test_sizes_differ():
    for sizes in (["60", "060"], []):
        with pytest.raises(UserError, match=r"^--sizes=.*: expected different numbers, at least"):
            list_keys(sizes, seeds=1, folds=None)


def test_a_run_has_its_own_images_and_seed():
    config = run_config(CONFIG, PointKey(60, 7))
    assert (config.train_limit, config.seed, config.validate_on) == (60, 7, "none")
    assert run_config(CONFIG, PointKey(60, 7, "2/5")).validate_on == "2/5"


def test_runs_of_one_size_are_summed_up():
    found = summarize([point(600, 0, 0.96), point(60, 0, 0.8), point(600, 1, 0.98)])
    assert [(entry.images, entry.runs, entry.deviation is None) for entry in found] == [
        (60, 1, True),
        (600, 2, False),
    ]
    assert found[1].mean == pytest.approx(0.97)
    assert found[1].deviation == pytest.approx(0.02 / 2**0.5)  # of a sample
    assert (found[1].lowest, found[1].highest) == (0.96, 0.98)
    assert format_table(found).splitlines() == [
        "  images  runs  accuracy  deviation   lowest  highest",
        "      60     1    80.00%              80.00%   80.00%",
        "     600     2    97.00%      1.41%   96.00%   98.00%",
    ]


def test_folds_of_a_seed_are_one_run_over_all_their_images():
    folds = [point(5, 0, 1.0, "1/2", 2), point(5, 0, 1 / 3, "2/2", 3), point(5, 1, 0.5, "1/2", 2)]
    [found] = summarize(folds)
    assert (found.runs, found.lowest, found.highest) == (2, 0.5, pytest.approx(0.6))


def test_points_are_read_as_they_were_written(tmp_path):
    assert load_points(tmp_path / "new", CURVE) == []
    points = [point(600, 1, 0.98), point(60, 0, 0.8), point(600, 0, 0.25)]
    write_curve(tmp_path, CURVE, points)
    assert load_points(tmp_path, CURVE) == points
    with (tmp_path / "curve.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["images"], row["seed"], row["accuracy"], row["fold"]) for row in rows] == [
        ("60", "0", "0.8", ""),
        ("600", "0", "0.25", ""),
        ("600", "1", "0.98", ""),
    ]
    assert rows[0]["measured_on"] == "test"
    assert rows[0]["folder"] == "60-images-seed-0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"config": dataclasses.replace(CONFIG, batch_size=64).to_json()},
            "batch_size: 128 in the run, 64 now",
        ),
        (
            {"config": dataclasses.replace(CONFIG, epochs=4.0).to_json()},
            "epochs: 3.0 in the run, 4.0 now",
        ),
        ({"measured_on": FOLDS}, "measured on: test in the curve, folds now"),
        ({"dataset_digest": "e" * 64}, "dataset: d{12} in the curve, e{12} now"),
        ({"architecture_text": "output\n"}, "the model's text is another"),
    ],
)
def test_another_curve_is_not_gone_on_with(tmp_path, change, message):
    write_curve(tmp_path, CURVE, [point(60, 0, 0.8)])
    with pytest.raises(
        UserError, match=rf"^{tmp_path}: holds another curve \({message}\); give the same flags to"
    ):
        load_points(tmp_path, dataclasses.replace(CURVE, **change))
    same = dataclasses.replace(CONFIG, keep_checkpoints=1).to_json()
    assert len(load_points(tmp_path, dataclasses.replace(CURVE, config=same))) == 1


@pytest.mark.parametrize("harm", ["{", "[]", '{"format_version": 2}', "point", "curve"])
def test_damaged_curve_is_refused(tmp_path, harm):
    write_curve(tmp_path, CURVE, [point(60, 0, 0.8)])
    path = tmp_path / "curve.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    if harm == "point":
        facts["points"][0]["colour"] = "red"
    if harm == "curve":
        facts["curve"] = 5
    text = json.dumps(facts) if harm in ("point", "curve") else harm
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"^{path}: not a learning curve \(.+\); restore it, or"):
        load_points(tmp_path, CURVE)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", "x", "a number from 0 to 1"),
        ("accuracy", None, "a number from 0 to 1"),
        ("accuracy", 1.5, "a number from 0 to 1"),
        ("loss", float("nan"), "a number from 0 on"),
        ("images", "sixty", "a whole number from 1 on"),
        ("images", 60.0, "a whole number from 1 on"),
        ("measured_images", 0, "a whole number from 1 on"),
        ("seed", True, "a whole number from 0 on"),
        ("step", -1, "a whole number from 0 on"),
        ("fold", "3/2", "a fold such as 1/5, or null"),
        ("fold", 5, "a fold such as 1/5, or null"),
    ],
)
def test_damaged_point_is_told_with_what_was_expected(tmp_path, name, value, expected):
    write_curve(tmp_path, CURVE, [point(60, 0, 0.8), point(60, 1, 0.8, "1/2")])
    path = tmp_path / "curve.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["points"][1][name] = value
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_points(tmp_path, CURVE)
    reason = f"point 2: {name} is {json.dumps(value)}, expected {expected}"
    assert str(error.value).startswith(f"{path}: not a learning curve ({reason}); restore it, or")


@pytest.mark.parametrize(("name", "what"), [("run.json", "run"), ("manifest.json", "dataset")])
def test_folder_of_something_else_is_refused(tmp_path, name, what):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"^{tmp_path}: a {what} folder; name another folder"):
        load_points(tmp_path, CURVE)


@pytest.mark.parametrize(
    "points",
    [
        [point(60, 0, 0.8), point(600, 0, 0.9), point(600, 1, 0.95), point(55000, 0, 0.999)],
        [point(60, 0, 1.0), point(600, 0, 0.0)],  # no logarithm of no error
        [point(60, 0, 0.8)],
    ],
)
def test_chart_is_a_picture(points):
    png = draw_chart(summarize(points), title="tiny", measured_on="the test split")
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert 700 < width < 1000
    assert 400 < height < 700
