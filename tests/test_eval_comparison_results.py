"""What the results say of runs whose answers are made up."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from eval.comparison import page, pictures
from eval.comparison.charts import Line, draw_lines, series_classes
from eval.comparison.disagreement import find_disagreement
from eval.comparison.document import make_document
from eval.comparison.grouping import Model
from eval.comparison.matrices import show_confusion
from eval.comparison.page import write_page
from eval.comparison.records import LearningCurves
from eval.comparison.results import format_text
from eval.comparison.table import make_rows, write_csv
from eval.metrics import wilson_interval
from tests.comparison_fixtures import make_comparison, make_measured, make_run

EVIL = "<b>\"&'</script>"
_EMPTY = {"meta", "img", "br", "polyline", "circle", "path"}


class PageReader(HTMLParser):
    """Reads a page, insisting that its tags are closed; keeps texts, tags and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [v for k, v in attributes if k in ("src", "href", "srcset", "action", "data")]
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def make_runs():
    """A model of two runs and one of one run, on six images of two classes."""
    labels = [0, 0, 0, 1, 1, 1]
    curves = LearningCurves(((8, 1.0), (16, 0.5)), ((16, 0.6),), ((16, 0.75),))
    return [
        make_measured("solo", [0, 0, 0, 1, 1, 2], labels=labels, latency_seconds=0.00125),
        *(
            make_measured(
                f"twin-{seed}",
                [0, 0, seed, 1, 0, 0],
                labels=labels,
                run=make_run(f"runs/twin-{seed}", config={"seed": seed}),
                training_seconds=10.0 + seed,
                curves=curves,
            )
            for seed in range(2)
        ),
    ]


@pytest.fixture
def no_images(monkeypatch):
    monkeypatch.setattr(
        pictures, "read_images", lambda split, indices: np.zeros((len(indices), 5, 4, 1), np.uint8)
    )


def test_text_is_one_aligned_table_with_what_follows_from_it():
    lines = format_text(make_comparison(*make_runs())).splitlines()
    assert lines[0] == "zoo: 2 models, 3 runs, on tiny, test split, 6 images"
    table = lines[2:7]
    assert [line.split()[0] for line in table] == ["model", "solo", "twin", "twin-0", "twin-1"]
    # Right-aligned under titles: each column ends where its title ends.
    for title in ("runs", "accuracy", "95 % interval", "cross-entropy", "latency", "size"):
        end = table[0].index(title) + len(title)
        assert all(line[end : end + 1] in ("", " ") for line in table)
        assert all(line[end - 1] != " " for line in table[1:3])
    low, high = wilson_interval(5, 6)
    assert f" 83.33%  {100 * low:.2f} to {high:.2%}" in table[1]
    assert table[1].endswith("1.250 ms  2.00 MB")
    low, high = wilson_interval(3.5, 6)  # of the mean of 4 and 3 right
    assert f"  2  58.33 ± 11.79%  {100 * low:.2f} to {high:.2%}" in table[2]
    assert "10.5 ± 0.7 s" in table[2]
    assert lines[8].startswith("Tested on 6 images by McNemar's exact test, for models of several")
    assert lines[9] == (
        "  solo and twin: no difference is shown (25.00 points: 1.5 right that the other misreads, "
        "0 the other way, p = 0.5000)"
    )
    assert lines[11] == ("different answers from the runs: 3 images; misread by every run: 1")


def test_a_difference_that_means_something_is_said_so():
    runs = [make_measured("good", [0] * 30), make_measured("bad", [0] * 9 + [1] * 21)]
    text = format_text(make_comparison(*runs))
    line = "good is better than bad by 70.00 points: 21 right that the other misreads, 0 the other"
    assert f"  {line} way, p < 0.0001\n" in text
    assert "compare them with --split=validation" in text
    assert "Runs that differ" not in text


def test_what_is_not_known_is_said():
    runs = [
        make_measured("a", [0, 1], training_seconds=None, latency_seconds=None, model_bytes=None),
        make_measured(
            "b", [0, 0], run=make_run("runs/b", config={"train_splits": "train+validation"})
        ),
    ]
    comparison = make_comparison(*runs, split="validation")
    text = format_text(comparison)
    assert "\na: a run folder does not tell how long training took.\n" in text
    assert "\na: an exported model is missing, so no latency and no size; training writes" in text
    assert "\nb: trained on images of this split, so its numbers here say little about" in text
    assert "--split=validation" not in text  # It is what was done.
    row = next(line for line in text.splitlines() if line.startswith("a "))
    assert row.split()[-3:] == ["–", "–", "–"]  # noqa: RUF001
    found = {
        row["name"]: row for row in csv.DictReader(io.StringIO(write_csv(rows_of(comparison))))
    }
    assert (found["a"]["latency_seconds"], found["b"]["latency_seconds"]) == ("", "0.0005")


def test_where_the_weights_come_from_is_said():
    runs = [
        make_measured("own", [0, 1], run=make_run("runs/own", config={})),
        make_measured("fold", [0, 1], run=make_run("runs/fold", config={"validate_on": "1/5"})),
        make_measured("last", [0, 0], checkpoint="model.ckpt-20"),
        make_measured(
            "updated", [1, 1], run=dataclasses.replace(make_run("runs/updated"), version=2)
        ),
    ]
    text = format_text(make_comparison(*runs, split="validation"))
    assert "\nlast: the last checkpoint, as there is none that was best on validation.\n" in text
    assert "\nupdated: in a version that train/update.py made.\n" in text
    assert "\nown: its checkpoint was chosen on this split, which flatters it a little.\n" in text
    on_test = make_comparison(*runs)
    assert "chosen on this split" not in format_text(on_test)
    versions = {
        run["name"]: run["versions"]
        for model in make_document(on_test)["models"]
        for run in model["runs"]
    }
    assert versions == {"own": [1], "fold": [1], "last": [1], "updated": [2]}


def test_ensembles_are_said_to_be_averages():
    seen, unseen = (
        make_run(f"runs/{name}", config={"train_splits": splits})
        for name, splits in (("seen", "train+test"), ("unseen", "train"))
    )
    both = make_measured(
        "both", [0, 0], members=[unseen, seen], training_seconds=None, model_bytes=None
    )
    comparison = make_comparison(both, make_measured("unseen", [0, 1], run=unseen))
    text = format_text(comparison)
    assert text.startswith("zoo: 2 models, 2 runs, ")
    assert "\nboth: the mean of several runs' probabilities, counted as one run; parameters" in text
    assert "\nboth: a run folder does not tell how long training took.\n" in text
    assert "\nboth: an exported model is missing, so no latency and no size; " in text
    assert "\nboth: trained on images of this split, so its numbers here say little" in text
    [average], [alone] = (model["runs"] for model in make_document(comparison)["models"])
    assert (average["seed"], alone["seed"]) == (None, 0)
    assert (average["logdir"], alone["logdir"]) == ("runs/unseen,runs/seen", "runs/unseen")
    paths = "runs/unseen/best/model.ckpt-20,runs/seen/best/model.ckpt-20"
    assert average["checkpoint"] == paths
    assert [row.seed for row in rows_of(comparison)] == [None, 0]


def rows_of(comparison):
    return make_rows(comparison.models)


def test_csv_has_plain_numbers_for_models_and_runs():
    text = write_csv(rows_of(make_comparison(*make_runs())))
    solo, twin, *runs = csv.DictReader(io.StringIO(text))
    assert [row["name"] for row in runs] == ["twin-0", "twin-1"]
    assert [row["kind"] for row in (solo, twin, *runs)] == ["model", "model", "run", "run"]
    assert {row["model"] for row in (twin, *runs)} == {"twin"}
    assert (solo["runs"], twin["runs"], twin["seed"], runs[1]["seed"]) == ("1", "2", "", "1")
    assert float(twin["accuracy"]) == pytest.approx(3.5 / 6)
    assert float(twin["accuracy_sd"]) == pytest.approx(0.5**0.5 / 6)
    assert (solo["accuracy_sd"], twin["parameters"]) == ("", "63")
    assert float(solo["accuracy_95_low"]) == pytest.approx(wilson_interval(5, 6)[0])


def test_json_is_plain_and_complete():
    facts = json.loads(json.dumps(make_document(make_comparison(*make_runs()))))
    assert (facts["kind"], facts["num_examples"], facts["split"]) == ("comparison", 6, "test")
    solo, twin = facts["models"]
    assert twin["accuracy"] == {
        "mean": pytest.approx(3.5 / 6),
        "sd": pytest.approx(0.5**0.5 / 6),
    }
    assert solo["accuracy"]["sd"] is None
    assert (twin["parameters"], twin["model_bytes"]) == (63, 2_000_000)
    assert [run["seed"] for run in twin["runs"]] == [0, 1]
    assert [run["training_seconds"] for run in twin["runs"]] == [10.0, 11.0]
    assert solo["runs"][0]["confusion_matrix"] == [[3, 0, 0], [0, 2, 1], [0, 0, 0]]
    [difference] = facts["differences"]
    assert (difference["better"], difference["better_alone"]) == ("solo", 1.5)
    assert (difference["p_value"], difference["is_significant"]) == (0.5, False)
    assert facts["disputed"] == {"count": 3, "indices": [4, 2, 5]}
    assert facts["missed_by_all"] == {"count": 1, "indices": [5]}


def test_which_images_are_shown_first():
    # Image 0: all right; 1: one model of two wrong; 2: one run of four; 3: all wrong, surely;
    # 4: all wrong, in two ways and less surely.
    runs = [
        make_measured("a", [0, 1, 0, 1, 1], confidence=0.9),
        make_measured("b", [0, 0, 0, 1, 2], confidence=0.8),
        make_measured("c", [0, 0, 1, 1, 2], confidence=0.8),
        make_measured("d", [0, 1, 0, 1, 2], confidence=0.8),
    ]
    runs[0].answers.confidences[3] = 0.99
    found = find_disagreement([Model(run.entry.name, (run,)) for run in runs])
    assert found.disputed.tolist() == [1, 2, 4]
    assert found.missed_by_all.tolist() == [3, 4]


def test_models_count_alike_however_many_runs_they_have():
    # Image 0 divides the models evenly, image 1 three runs of one of them.
    many = Model("many", tuple(make_measured(f"m{n}", [0, n > 0]) for n in range(3)))
    one = Model("one", (make_measured("one", [1, 0]),))
    assert find_disagreement([many, one]).disputed.tolist() == [0, 1]


def test_page_is_whole_and_loads_nothing(no_images):
    reader = PageReader(write_page(make_comparison(*make_runs())))
    assert {"table", "svg", "img"} <= set(reader.tags)
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert reader.loads
    assert all(str(load).startswith("data:image/png;base64,") for load in reader.loads)
    text = " ".join(reader.texts)
    for expected in (
        "2 models, 3 runs, on tiny, test split, 6 images",
        "58.33 ± 11.79%",
        "no difference shown",
        "Different answers from the runs: 3 of 6 images.",
        "Misread by every run: 1 of 6 images.",
        "twin, 2 runs added up",
    ):
        assert expected in text
    # The one that all misread: 2 by one model, 0 by both runs of the other.
    assert reader.texts.count("image 5") == 2
    assert "0 of 2" in reader.texts
    assert "ant (2)" in reader.texts


def test_page_takes_any_name_as_text(no_images):
    classes = (EVIL, "bee", "cow")
    runs = [
        make_measured(name, predictions, class_names=classes)
        for name, predictions in ((f"{EVIL}1", [0, 1]), (f"{EVIL}2", [0, 0]))
    ]
    text = write_page(make_comparison(*runs))
    reader = PageReader(text)
    assert not {"b\"&'<", "script"} & set(reader.tags)
    assert f"{EVIL}1" in reader.texts
    assert EVIL in reader.texts
    assert EVIL not in text


def test_page_says_so_where_there_is_nothing_to_show(no_images):
    runs = [make_measured(name, [0, 0], run=None) for name in ("a", "b")]
    text = " ".join(PageReader(write_page(make_comparison(*runs))).texts)
    assert "None: all runs give the same answer to every image." in text
    assert "None: every image is read right by at least one run." in text
    assert "No run folder tells how its run was trained." in text


def test_page_of_one_configuration_has_no_test(no_images):
    comparison = make_comparison(*make_runs()[1:])
    text = " ".join(PageReader(write_page(comparison)).texts)
    assert "All runs are of one configuration: there are no two models to compare." in text


def test_page_shows_at_most_so_many_images_and_says_how_many_there_are(no_images, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PICTURES", 3)
    monkeypatch.setattr(page, "MOST_PICTURES", 3)
    runs = [make_measured("a", [0] * 9), make_measured("b", [1] * 5 + [0] * 4)]
    reader = PageReader(write_page(make_comparison(*runs)))
    text = " ".join(reader.texts)
    assert "Different answers from the runs: 5 of 9 images. These are the 3 on which" in text
    assert reader.tags.count("img") == 3


def test_matrix_of_many_classes_becomes_a_list():
    names = tuple(f"c{number}" for number in range(70))
    read = [1, 1, 2, *range(70)]
    run = make_measured("a", read, labels=[0, 0, 1, *range(70)], class_names=names)
    reader = PageReader(show_confusion(Model("a", (run,)), names))
    cells = reader.texts[reader.texts.index("times") + 1 :]
    assert cells == ["c0", "c1", "2", "c1", "c2", "1"]


def test_chart_has_a_line_for_each_series_and_skips_empty_ones():
    lines = [
        Line("a", 0, [(100, 2.0), (200, 0.02)]),
        Line("b", 9, [(100, 1.0)] * 150, is_faint=True),
        Line("c", 2, []),
    ]
    text = draw_lines(lines, title="t", x_title="images")
    reader = PageReader(text)
    assert reader.tags.count("polyline") == 2
    assert reader.tags.count("circle") == 2  # faint lines have no marks
    ticks = [number for number in reader.texts if number in ("0.02", "0.05", "0.1", "1", "2")]
    assert ticks == ["0.02", "0.05", "0.1", "1", "2"]
    faint = text[text.index("faint") :]
    assert len(faint[: faint.index("/>")].split()) <= 65  # thinned to at most 60 points
    assert series_classes(9) == "s1 d1"


@pytest.mark.parametrize("points", [[], [(10, 0.0)]])
def test_chart_without_anything_to_draw_is_empty(points):
    assert draw_lines([Line("a", 0, points)], title="t", x_title="x") == ""


def test_chart_draws_zero_at_the_lower_edge():
    text = draw_lines([Line("a", 0, [(10, 1.0), (20, 0.0)])], title="t", x_title="x")
    way = text[text.index("polyline points=") :].split('"')[1]
    assert [point.split(",")[1] for point in way.split()][1] == "258.0"
