"""Whole searches in this process, on a tiny dataset: folders, files, report, errors."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
)

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.run_dir import load_run
from tests.train_fixtures import write_dataset
from train import loop, tune
from train.recipes import load_recipe
from train.search import search as search_module
from train.search.options import SearchOptions
from train.search.pruner import MedianPruner
from train.search.report import describe_search, print_report, write_report
from train.search.search import search
from train.search.settings import load_settings
from train.search.study import storage_errors_named

MODEL = "width = 3\nconv width 3x3\nmaxpool 2x2\nflatten\noutput\n"
SPACE = """
learning_rate  log      1e-3 1e-1
batch_size     choice   8 16
epochs         int      1 3
model.width    int      2 4
"""
DESCRIPTION = ["run.json", "model.txt", "history.json", "train", "validation", "train.log"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches")
    write_dataset(folder / "data")
    (folder / "mine.txt").write_text(MODEL, encoding="utf-8")
    return folder


def pretend_to_export(run, *_):
    run.export_path.parent.mkdir()
    run.export_path.touch()


@pytest.fixture(scope="module", autouse=True)
def no_export():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "export_litert", pretend_to_export)
        yield


@pytest.fixture(scope="module")
def run_search(folder):
    """Does what the script does, and returns the report."""

    def run_search(name, space=SPACE, *, trials=None, minutes=None, keep=2, seed=0, **given):
        path = folder / f"{name}.txt"
        path.write_text(space, encoding="utf-8")
        given = {"model": str(folder / "mine.txt"), **given}
        manifest = load_manifest(folder / "data")
        settings = load_settings(str(path), given, manifest)
        logdir = folder / name
        options = SearchOptions(folder / "data", logdir, None, seed, trials, minutes, keep)
        with storage_errors_named(None, logdir):
            result = search(settings, options, manifest)
            report = describe_search(result, settings, options)
            write_report(report, result, settings, logdir)
        return report, settings

    return run_search


@pytest.fixture(scope="module")
def done(run_search):
    """A search of six trials that came to its end."""
    return run_search("done", trials=6)


def test_each_trial_is_a_run_folder_with_its_flags(done):
    report, _ = done
    assert [outcome.place for outcome in report.outcomes] == list(range(6))
    for outcome in report.outcomes:
        trial = report.logdir / f"trial-{outcome.place:04d}"
        run = load_run(trial)
        assert run.config["learning_rate"] == outcome.drawn["learning_rate"]
        assert run.config["batch_size"] == outcome.drawn["batch_size"]
        assert run.config["epochs"] == outcome.drawn["epochs"]
        assert f"width = {outcome.drawn['model.width']}\n" in run.architecture_text
        history = json.loads((trial / "history.json").read_text(encoding="utf-8"))
        best = max(history, key=lambda score: (score["accuracy"], -score["loss"]))
        assert dict(outcome.score) == best
        assert "training" in (trial / "train.log").read_text(encoding="utf-8")
    drawn = [json.dumps(outcome.drawn) for outcome in report.outcomes]
    assert len(set(drawn)) == 6
    first = report.outcomes[0].drawn  # The defaults, where they are in range: 128 is not.
    assert (first["learning_rate"], first["epochs"], first["model.width"]) == (0.003, 3, 3)


def test_best_is_that_of_the_highest_accuracy_and_then_of_the_lowest_loss(done):
    report, _ = done
    finished = [outcome for outcome in report.outcomes if outcome.state == "finished"]
    order = sorted(finished, key=lambda one: (-one.score["accuracy"], one.score["loss"]))
    assert list(report.best) == order


def test_only_the_best_keep_their_checkpoints(done):
    report, _ = done
    kept = {outcome.place for outcome in report.best[:2]}
    for outcome in report.outcomes:
        trial = report.logdir / f"trial-{outcome.place:04d}"
        assert all((trial / name).exists() for name in DESCRIPTION)
        assert any(trial.glob("events.out.tfevents.*"))
        checkpoints = [*trial.glob("model.ckpt-*"), *trial.glob("checkpoint"), *trial.glob("best")]
        assert bool(checkpoints) == (outcome.place in kept), outcome.place


def test_best_recipe_is_the_best_trials_flags(done):
    report, settings = done
    known = tune_flags()
    text = report.recipe.read_text(encoding="utf-8")
    assert text.startswith("# The best of 6 trials: ")
    flags = load_recipe(str(report.recipe), known).flags
    assert dict(flags) == settings.flags(report.best[0].drawn)


def tune_flags():
    from absl import flags

    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        for name in dir(flags):
            if name.startswith("DEFINE_"):
                define = getattr(flags, name)
                patch.setattr(
                    flags,
                    name,
                    lambda *args, define=define: define(*args, flag_values=values),
                )
        tune.define_flags()
    values(["tune.py"])
    return values


def test_csv_has_every_trial(done):
    report, _ = done
    with (report.logdir / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(6))
    for row, outcome in zip(rows, report.outcomes, strict=True):
        assert row["state"] == outcome.state
        assert float(row["accuracy"]) == outcome.score["accuracy"]
        assert float(row["learning_rate"]) == outcome.drawn["learning_rate"]
        assert int(row["model.width"]) == outcome.drawn["model.width"]


def test_pictures_and_importances(done):
    report, _ = done
    assert set(report.importances) == {"learning_rate", "batch_size", "epochs", "model.width"}
    assert sum(report.importances.values()) == pytest.approx(1, abs=1e-3)
    from PIL import Image

    for name in ("history", "importances", "parallel_coordinates"):
        with Image.open(report.logdir / f"{name}.png") as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_hparams_dashboard_is_filled(done):
    report, _ = done
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(report.logdir)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(report.logdir))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = context.RequestContext()
    experiment = get_experiment.Handler(request, backend, "", api_pb2.GetExperimentRequest()).run()
    domains = {info.name: info for info in experiment.hparam_infos}
    assert set(domains) == {"learning_rate", "batch_size", "epochs", "model.width"}
    assert domains["learning_rate"].domain_interval.max_value == 0.1
    assert list(domains["batch_size"].domain_discrete) == [8, 16]
    groups = list_session_groups.Handler(
        request,
        backend,
        "",
        api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS]),
    ).run()
    found = {group.name: group for group in groups.session_groups}
    for outcome in report.outcomes:
        group = found[f"trial-{outcome.place:04d}"]
        assert {name: value.number_value for name, value in group.hparams.items()} == outcome.drawn
        metrics = {metric.name.tag: metric.value for metric in group.metric_values}
        assert metrics["best/accuracy"] == pytest.approx(outcome.score["accuracy"])
        assert metrics["best/loss"] == pytest.approx(outcome.score["loss"])


def test_report_is_one_table(done, capsys):
    report, _ = done
    print_report(report)
    out = capsys.readouterr().out
    assert out.startswith("trials: 6 of 6, ")
    best = report.best[0]
    assert f"  {best.place}  " in out
    assert f"{best.score['accuracy']:.2%}  {best.score['loss']:.4f}" in out
    assert "within the noise of 17 validation images" in out
    assert f"python train/train_lenet.py --recipe={report.recipe} --logdir=runs/best" in out
    document = json.loads(json.dumps(report.to_json()))
    assert document["best"]["trial"] == best.place
    assert [trial["trial"] for trial in document["trials"]] == list(range(6))
    assert document["stopped_by_signal"] is False


def test_limit_of_the_trials_is_told_where_the_recipe_has_it(done, run_search, capsys):
    print_report(done[0])
    assert "train_limit" not in capsys.readouterr().out + done[0].recipe.read_text(encoding="utf-8")
    limited, _ = run_search("limited", trials=1, train_limit=40)
    print_report(dataclasses.replace(limited, asked=1))
    out = capsys.readouterr().out
    assert "    # on 40 images, as the trials; on all without the recipe's line of --train" in out
    text = limited.recipe.read_text(encoding="utf-8")
    assert "# To train on all images, remove the line of --train_limit.\n" in text
    assert "\n--train_limit=40\n" in text
    print_report(dataclasses.replace(done[0], asked=1))
    assert capsys.readouterr().out.startswith("trials: 6, ")


def test_done_search_is_reported_again_and_more_trials_are_added(done, run_search, capsys):
    report, _ = done
    before = sorted(path for path in report.logdir.rglob("*") if "train.log" not in path.name)
    again, _ = run_search("done", trials=6)
    assert again.to_json() == report.to_json()
    assert sorted(p for p in report.logdir.rglob("*") if "train.log" not in p.name) == before
    more, _ = run_search("done", trials=7)
    assert more.outcomes[:6] == report.outcomes
    lines = capsys.readouterr().err.splitlines()
    assert next(line for line in lines if line.startswith("trial ")).startswith("trial 6  ")


def has_checkpoints(logdir, place):
    return any((logdir / f"trial-{place:04d}").glob("model.ckpt-*"))


def test_what_is_kept_no_longer_is_told_and_only_where_something_is_trained(run_search, capsys):
    space = "learning_rate log 1e-3 1e-1"
    report, _ = run_search("kept", space, trials=3, keep=3, epochs=1.0)
    places = [outcome.place for outcome in report.best]
    assert len(places) == 3
    run_search("kept", space, trials=3, keep=1, epochs=1.0)
    assert all(has_checkpoints(report.logdir, place) for place in places)
    # Of the other two, one was exported since.
    used, unused = sorted(places[1:])
    (report.logdir / f"trial-{used:04d}/export/used.onnx").touch()
    capsys.readouterr()
    report, _ = run_search("kept", space, trials=4, keep=1, epochs=1.0)
    lines = capsys.readouterr().err.splitlines()
    worse = [str(place) for place in sorted(places) if place not in (used, report.best[0].place)]
    assert str(unused) in worse
    assert (
        f"removed the checkpoints of trial {', '.join(worse)}, no longer among the best 1 (--keep)"
        in lines
    )
    told = f"kept trial {used}, not among the best 1 (--keep), for its export folder holds what "
    assert sum(line.startswith(told) for line in lines) == 1
    kept = {place for place in range(4) if has_checkpoints(report.logdir, place)}
    assert kept == {report.best[0].place, used}


def test_pruned_trial_stays_as_a_stopped_run(run_search, monkeypatch, capsys):
    monkeypatch.setattr(MedianPruner, "prune", lambda self, study, trial: trial.number == 1)
    report, _ = run_search("pruned", "learning_rate log 1e-3 1e-1", trials=2)
    assert [outcome.state for outcome in report.outcomes] == ["finished", "pruned"]
    trial = report.logdir / "trial-0001"
    assert len(json.loads((trial / "history.json").read_text(encoding="utf-8"))) == 1
    assert all((trial / name).exists() for name in DESCRIPTION)
    assert not any(trial.glob("model.ckpt-*"))
    assert "% pruned  learning_rate=" in capsys.readouterr().err


def test_diverged_trial_is_told_with_its_reason_and_the_search_goes_on(run_search, folder, capsys):
    linear = folder / "linear.txt"
    linear.write_text("flatten\ndense 7 activation=none\noutput\n", encoding="utf-8")
    report, _ = run_search(
        "diverged",
        "learning_rate choice 900000 0.01",
        trials=4,
        optimizer="sgd",
        schedule="constant",
        model=str(linear),
        max_steps=20,
    )
    states = {outcome.drawn["learning_rate"]: outcome.state for outcome in report.outcomes}
    assert states == {900_000.0: "failed", 0.01: "finished"}
    failed = next(outcome for outcome in report.outcomes if outcome.state == "failed")
    assert "not finite" in failed.failure or "the loss is" in failed.failure
    assert f"trial {failed.place}  failed: step " in capsys.readouterr().err
    rows = (report.logdir / "trials.csv").read_text(encoding="utf-8")
    assert failed.failure in rows
    assert not any((report.logdir / f"trial-{failed.place:04d}").glob("model.ckpt-*"))
    assert len(report.best) + sum(one.state == "failed" for one in report.outcomes) == 4


def test_other_error_ends_the_search_and_the_trial_goes_on_later(run_search, monkeypatch, folder):
    def fail(*args, **kwargs):
        raise UserError("the disk is full")

    space = "learning_rate log 1e-3 1e-1"
    for _ in range(4):  # more often than a trial may be killed
        with monkeypatch.context() as patch:
            patch.setattr("train.search.trial.train", fail)
            with pytest.raises(UserError, match="the disk is full"):
                run_search("mended", space, trials=1)
    report, _ = run_search("mended", space, trials=1)
    assert [(one.place, one.state) for one in report.outcomes] == [(0, "finished")]


def test_time_as_budget_begins_one_trial_at_least_and_none_that_would_not_end(
    run_search, monkeypatch
):
    space = "learning_rate log 1e-3 1e-1"
    report, _ = run_search("minutes", space, minutes=1e-6, epochs=1.0)
    assert [outcome.place for outcome in report.outcomes] == [0]
    # Trials take a minute, and there are one and a half.
    monkeypatch.setattr(search_module, "typical_seconds", lambda outcomes: 60.0)
    now = [0.0]
    monkeypatch.setattr(search_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    end_trial = search_module._Search._end_trial

    def end_after_a_minute(self, study, trial):
        now[0] += 60
        end_trial(self, study, trial)

    monkeypatch.setattr(search_module._Search, "_end_trial", end_after_a_minute)
    report, _ = run_search("minutes", space, minutes=2.5, epochs=1.0)
    assert [outcome.place for outcome in report.outcomes] == [0, 1, 2]


def test_without_validation_there_is_nothing_to_judge_by(run_search):
    with pytest.raises(
        UserError,
        match=r"^--train_splits=train\+validation --validate_on=validation: trials are judged on ",
    ):
        run_search("nothing", trials=1, train_splits="train+validation")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trials": 0}, "--trials=0: expected a number above 0 and below 1000000"),
        ({"minutes": -1.0}, "--minutes=-1.0: expected a number above 0"),
        ({"keep": 0}, "--keep=0: expected a number above 0"),
    ],
)
def test_budget_out_of_range_is_refused(folder, values, message):
    options = {"trials": None, "minutes": None, "keep": 1, **values}
    with pytest.raises(UserError, match=f"^{message}"):
        SearchOptions(folder / "data", folder / "x", None, 0, **options)
