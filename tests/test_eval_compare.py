"""Comparing runs that are on the disk, by the script's main and by the script."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf1
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from tensorflow.compat.v1.summary import FileWriter

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from data_prep.staging import staging_folder
from eval import compare
from eval.comparison import latency, results
from eval.comparison.records import LearningCurves, load_learning_curves, load_training_seconds
from model_definition.litert import export_litert
from model_definition.run_dir import BEST_NAME, Run, load_run, write_run
from tests import eval_fixtures

N = 17
FILES = {"results.txt", "results.csv", "results.json", "report.html"}


def make_run(logdir: Path, data_dir: Path, *, weights: int, **config: Any) -> Run:
    """Makes a run with a best checkpoint, whose weights are of that seed."""
    manifest = load_manifest(data_dir)
    run = eval_fixtures.make_run(logdir, data_dir, manifest)
    run = dataclasses.replace(run, config={"batch_size": 4, "train_splits": "train", **config})
    write_run(run)
    values = eval_fixtures.make_weights(run, seed=weights)
    eval_fixtures.write_checkpoint(logdir / BEST_NAME, 20, values)
    return run


@pytest.fixture(scope="module")
def template(tmp_path_factory, make_dataset) -> Path:
    """A folder with the dataset `tiny` and the runs a, and b-0 and b-1 of one configuration."""
    folder = tmp_path_factory.mktemp("compare")
    make_dataset(folder / "tiny", num_test=N)
    runs = [
        make_run(folder / "a", folder / "tiny", weights=1, seed=0, epochs=1.0),
        make_run(folder / "b-0", folder / "tiny", weights=2, seed=0, epochs=2.0),
        make_run(folder / "b-1", folder / "tiny", weights=3, seed=1, epochs=2.0),
    ]
    export_litert(runs[0], folder / "a/best/model.ckpt-20")
    shutil.copytree(folder / "a/export", folder / "b-0/export")
    history = [{"step": 20, "accuracy": 0.5, "loss": 0.75, "mean_squared_error": 0.1}]
    (folder / "a/history.json").write_text(json.dumps(history), encoding="utf-8")
    times = [{"step": 10, "seconds": 1.5}, {"step": 20, "seconds": 3.25}]
    (folder / "a/training_time.json").write_text(json.dumps(times), encoding="utf-8")
    return folder


@pytest.fixture
def folder(template, tmp_path) -> Path:
    """A copy of the runs, for one test; the dataset is shared."""
    for name in ("a", "b-0", "b-1"):
        shutil.copytree(template / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def flags_defined():
    before = set(flags.FLAGS)
    compare.define_flags()
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def run_main(folder: Path, *names: str, **changes: Any) -> Path:
    """Compares runs of a folder; returns the folder of the comparison."""
    flags.FLAGS.mark_as_parsed()
    values: dict[str, Any] = {
        "name": "zoo",
        "runs": [str(folder / name) for name in names or ("a", "b-0", "b-1")],
        "output_dir": str(folder / "out"),
        **changes,
    }
    with flagsaver.flagsaver(**values):
        compare.main([])
    return Path(values["output_dir"]) / str(values["name"])


def read(results: Path) -> dict[str, Any]:
    return json.loads((results / "results.json").read_text(encoding="utf-8"))


def list_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def compared(template) -> tuple[Path, str]:
    """The folder of a comparison of all three runs, and what was printed."""
    out = io.StringIO()
    before = [list_files(template / name) for name in ("a", "b-0", "b-1")]
    with contextlib.redirect_stdout(out):
        results = run_main(template)
    # The run folders are only read.
    assert [list_files(template / name) for name in ("a", "b-0", "b-1")] == before
    return results, out.getvalue()


def test_every_number_is_right(template, compared):
    results, out = compared
    assert {path.name for path in results.iterdir()} == FILES
    text = (results / "results.txt").read_text(encoding="utf-8")
    assert out == f"{text}\nwritten to {results}; next: open {results}/report.html\n"
    facts = read(results)
    images, labels = eval_fixtures.read_split(
        template / "tiny", load_manifest(template / "tiny"), "test"
    )
    right = {}
    runs = {run["name"]: run for model in facts["models"] for run in model["runs"]}
    for name, seed in (("a", 1), ("b-0", 2), ("b-1", 3)):
        weights = eval_fixtures.make_weights(load_run(template / name), seed=seed)
        probabilities = eval_fixtures.predict(images, weights)
        right[name] = probabilities.argmax(axis=1) == labels
        for key, value in eval_fixtures.score(probabilities, labels).items():
            assert runs[name][key] == pytest.approx(value, rel=1e-4), (name, key)
        assert np.trace(runs[name]["confusion_matrix"]) == right[name].sum()
        assert runs[name]["parameters"] == 13 * 9 * 3 * 5 + 5
        assert runs[name]["multiply_adds"] == 13 * 9 * 3 * 5
        assert runs[name]["checkpoint"] == str(template / name / "best/model.ckpt-20")
    assert facts["num_examples"] == N
    models = {model["name"]: model for model in facts["models"]}
    assert set(models) == {"a", "b"}
    mean = np.mean([right["b-0"].mean(), right["b-1"].mean()])
    assert models["b"]["accuracy"]["mean"] == pytest.approx(mean)
    wrong = [~answers for answers in right.values()]
    assert facts["missed_by_all"]["count"] == np.logical_and.reduce(wrong).sum()
    shares = right["a"] - (right["b-0"] + right["b-1"].astype(int)) / 2
    [difference] = facts["differences"]
    assert difference["accuracy_difference"] == pytest.approx(abs(shares.mean()))
    # Of what only some runs tell.
    assert [runs[name]["training_seconds"] for name in ("a", "b-0", "b-1")] == [3.25, None, None]
    size = (template / "a/export/model.tflite").stat().st_size
    assert [runs[name]["model_bytes"] for name in ("a", "b-0", "b-1")] == [size, size, None]
    assert 0 < runs["a"]["latency_seconds"] < 0.1
    assert runs["b-1"]["latency_seconds"] is models["b"]["latency_seconds"] is None
    assert "\nb-1: an exported model is missing, so no latency and no size;" in text


def test_report_shows_the_images_of_the_split(template, compared):
    facts = read(compared[0])
    shown = facts["disputed"]["indices"] + facts["missed_by_all"]["indices"]
    assert shown
    page = (compared[0] / "report.html").read_text(encoding="utf-8")
    urls = re.findall(r"data:image/png;base64,([^\"]+)", page)
    images, _ = eval_fixtures.read_split(
        template / "tiny", load_manifest(template / "tiny"), "test"
    )
    for url, index in zip(urls, shown, strict=True):
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))
        np.testing.assert_array_equal(found, images[index])


def test_the_order_of_the_runs_changes_nothing(folder, template, compared, capsys):
    names = ("b-1", "a", "b-0")
    first, second = read(compared[0]), read(run_main(template, *names, output_dir=str(folder)))
    for facts in (first, second):
        for measured in [*facts["models"], *(r for m in facts["models"] for r in m["runs"])]:
            del measured["latency_seconds"]
    assert first == second


def test_shifted_copies(folder, template, compared, capsys):
    results = run_main(folder, test_time_shifts=1)
    assert "17 images, 9 shifts each\n" in capsys.readouterr().out.split("\n\n")[0] + "\n"
    facts = read(results)
    assert (facts["test_time_shifts"], read(compared[0])["test_time_shifts"]) == (1, 0)
    assert any("9 copies of the image, shifted by up to 1 pixel both" in n for n in facts["notes"])
    images, labels = eval_fixtures.read_split(
        template / "tiny", load_manifest(template / "tiny"), "test"
    )
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
    copies = [padded[:, y : y + 13, x : x + 9] for y in range(3) for x in range(3)]
    [run] = [run for model in facts["models"] for run in model["runs"] if run["name"] == "a"]
    weights = eval_fixtures.make_weights(load_run(template / "a"), seed=1)
    mean = np.mean([eval_fixtures.predict(copy, weights) for copy in copies], axis=0)
    for key, value in eval_fixtures.score(mean, labels).items():
        assert run[key] == pytest.approx(value, rel=1e-4), key
    assert run["multiply_adds"] == 9 * 13 * 9 * 3 * 5
    assert run["parameters"] == 13 * 9 * 3 * 5 + 5
    assert run["latency_seconds"] > 0


def test_an_average_costs_the_sum_of_its_members(folder, template, capsys):
    shutil.copytree(folder / "a/export", folder / "b-1/export", dirs_exist_ok=True)
    shutil.copy(folder / "a/training_time.json", folder / "b-0")
    texts = [f"{folder}/a", f"{folder}/b-1", f"{folder}/a+{folder}/b-0", f"{folder}/a+{folder}/b-1"]
    facts = read(run_main(folder, runs=texts))
    runs = {model["name"]: model["runs"][0] for model in facts["models"]}
    assert set(runs) == {"a", "b-1", "a+b-0", "a+b-1"}
    images, labels = eval_fixtures.read_split(
        template / "tiny", load_manifest(template / "tiny"), "test"
    )
    answers = [
        eval_fixtures.predict(
            images, eval_fixtures.make_weights(load_run(folder / name), seed=weights)
        )
        for name, weights in (("a", 1), ("b-1", 3))
    ]
    average = runs["a+b-1"]
    for key, value in eval_fixtures.score(np.mean(answers, axis=0), labels).items():
        assert average[key] == pytest.approx(value, rel=1e-4), key
    for key in ("parameters", "multiply_adds", "latency_seconds", "model_bytes"):
        assert average[key] == runs["a"][key] + runs["b-1"][key], key
    assert [runs[name]["training_seconds"] for name in ("a", "a+b-0", "a+b-1")] == [3.25, 6.5, None]
    checkpoints = [str(folder / name / "best/model.ckpt-20") for name in ("a", "b-1")]
    assert average["checkpoint"] == ",".join(checkpoints)
    page = (folder / "out/zoo/report.html").read_text(encoding="utf-8")
    assert "a, validation</title>" in page
    assert "a+b-1, validation</title>" not in page
    assert "a+b-1, a+b-0: the mean of several runs" in page


def test_json_alone_is_on_stdout(folder, capsys):
    results = run_main(folder, "a", "b-1", json=True, split="train+validation")
    assert json.loads(capsys.readouterr().out) == read(results)
    assert (read(results)["split"], read(results)["num_examples"]) == ("train+validation", 72)


def test_an_earlier_comparison_is_replaced_and_nothing_else(folder, compared, capsys):
    results = Path(shutil.copytree(compared[0], folder / "out/zoo"))
    run_main(folder, "b-0", "b-1")
    assert [model["name"] for model in read(results)["models"]] == ["b"]
    (results / "notes.md").write_text("mine", encoding="utf-8")
    before = list_files(folder)
    with pytest.raises(UserError, match=r"out/zoo: holds notes\.md, which no comparison writes"):
        run_main(folder)
    assert list_files(folder) == before


def test_what_came_while_it_was_measured_is_kept(folder, capsys, monkeypatch):
    def write_results(staging, comparison):
        (folder / "out/zoo").mkdir()
        (folder / "out/zoo/notes.md").write_text("mine", encoding="utf-8")
        return "", {}

    monkeypatch.setattr(results, "write_results", write_results)
    with pytest.raises(UserError, match=r"out/zoo: holds notes\.md"):
        run_main(folder, "a", "b-0")
    assert sorted(path.name for path in (folder / "out").rglob("*")) == ["notes.md", "zoo"]


def test_two_of_one_name_at_once(folder, capsys):
    with staging_folder(folder / "out/zoo"):
        with pytest.raises(UserError, match="another process is writing this folder now"):
            run_main(folder)
    assert not (folder / "out").exists()


def test_another_dataset_with_the_same_classes(folder, make_dataset, capsys):
    make_dataset(folder / "other", num_test=23, seed=1)
    facts = read(run_main(folder, "a", "b-1", data_dir=str(folder / "other")))
    assert (facts["dataset"], facts["num_examples"]) == ("other", 23)


def test_a_dataset_that_is_not_there(folder, template, capsys, monkeypatch):
    for name in ("a", "b-0"):
        run = dataclasses.replace(load_run(folder / name), data_dir=str(folder / "gone"))
        write_run(run)
    with pytest.raises(UserError, match=r"gone: the dataset that the runs were trained on is not"):
        run_main(folder, "a", "b-0")
    # The third one still knows where it is, so only the split is wrong.
    with pytest.raises(UserError, match="split 'tset': the dataset tiny has"):
        run_main(folder, split="tset")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": None}, "^--name: expected a value, such as --name=zoo$"),
        ({"name": "a/b"}, "^--name=a/b: expected a name for the comparison's folder"),
        ({"runs": None}, "^--runs: expected a value, such as --runs=runs/a,runs/b$"),
        ({"split": "tset"}, "^split 'tset': the dataset tiny has train, validation, test"),
        ({"data_dir": "none"}, "^none: no such dataset folder"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(folder, capsys, values, message):
    with pytest.raises(UserError, match=message):
        run_main(folder, **values)
    assert not (folder / "out").exists()


def test_a_copy_of_a_run_is_refused(folder, capsys):
    shutil.copytree(folder / "b-1", folder / "b-2")
    with pytest.raises(UserError, match=r"b-1 and .*b-2: the same configuration with"):
        run_main(folder, "a", "b-1", "b-2")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("export/model.tflite", "model.tflite: damaged, for its sha256 is not the one in"),
        ("history.json", "history.json: cannot be read .*; restore it, or remove it to do without"),
        ("training_time.json", "training_time.json: cannot be read .*; restore it, or remove"),
        ("best/model.ckpt-20.index", "model.ckpt-20: this checkpoint cannot be read"),
    ],
)
def test_damaged_runs_leave_no_results(folder, capsys, damage, message):
    (folder / "a" / damage).write_bytes(b"[damaged")
    with pytest.raises(UserError, match=message):
        run_main(folder)
    assert not (folder / "out").exists()


def test_a_model_that_cannot_be_run(folder, capsys):
    (folder / "a/export/model.tflite.sha256").unlink()
    (folder / "a/export/model.tflite").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"model of images \[13, 9, 3\], found a file that cannot"):
        run_main(folder)


def test_a_missing_shard_is_named(folder, template, capsys):
    data_dir = shutil.copytree(template / "tiny", folder / "tiny")
    shard = data_dir / load_manifest(data_dir).splits["test"].shards[1].name
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name}: expected .* bytes, found no file"):
        run_main(folder, data_dir=str(data_dir))


def test_latencies_end_soon_for_slow_models(folder, monkeypatch):
    counts = {"a": 0, "b": 0}
    names: Any = {name: name for name in counts}
    monkeypatch.setattr(latency, "_load", lambda run, image: run)
    monkeypatch.setattr(latency, "_SECONDS_A_MODEL", 0.0)

    def predict(name, image):
        assert image.shape == (1, 2, 2, 1)
        counts[name] += 1

    monkeypatch.setattr(latency, "_predict", predict)
    found = latency.measure_latencies(names, np.zeros((4, 2, 2, 1), np.uint8))
    assert set(found) == {"a", "b"}
    assert counts == {"a": 33, "b": 33}  # three rounds, each with one more that does not count
    assert latency.measure_latencies({}, np.zeros((4, 2, 2, 1), np.uint8)) == {}


def test_learning_curves_and_times(folder, template):
    run = load_run(folder / "a")
    with tf1.Graph().as_default():
        writer = FileWriter(str(folder / "a/train"))
    for step in (5, 10):
        value = tf1.Summary.Value(tag="loss", simple_value=step / 4)
        writer.add_summary(tf1.Summary(value=[value]), step)
    writer.close()
    found = load_learning_curves(run)
    assert found == LearningCurves(((20, 1.25), (40, 2.5)), ((80, 0.75),), ((80, 0.5),))
    assert load_learning_curves(dataclasses.replace(run, config={})) == LearningCurves()
    assert load_learning_curves(load_run(folder / "b-0")) == LearningCurves()
    assert load_training_seconds(run) == 3.25
    # A checkpoint after the last time: nobody knows how long it took.
    weights = eval_fixtures.make_weights(run, seed=1)
    for step, expected in ((10, 1.5), (20, 3.25), (30, None)):
        eval_fixtures.write_checkpoint(run.logdir, step, weights)
        assert load_training_seconds(run) == expected


def test_script_from_elsewhere_and_stopped(folder, run_script, start_script, tmp_path):
    names = ",".join(str(folder / name) for name in ("a", "b-0", "b-1"))
    done = run_script("eval/compare.py", "--name=zoo", f"--runs={names}", cwd=folder, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("zoo: 2 models, 3 runs, on tiny, test split, 17 images\n")
    before = list_files(folder / "comparisons")
    stopped = start_script("eval/compare.py", "--name=zoo", f"--runs={names}", cwd=folder)
    while not (folder / "comparisons/.zoo.converting").exists():
        assert stopped.poll() is None
        time.sleep(0.02)
    stopped.send_signal(signal.SIGINT)
    out, errors = stopped.communicate(timeout=300)
    assert (stopped.returncode, out, errors) == (130, "", "compare.py: stopped by Ctrl-C\n")
    assert list_files(folder / "comparisons") == before
