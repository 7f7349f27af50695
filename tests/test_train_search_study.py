"""A study without training: what is drawn, pruned, tried again, dropped and refused."""

import sqlite3
import warnings

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from data_prep.command_line import UserError
from tests.train_fixtures import write_dataset
from train.search import study as study_module
from train.search.pruner import MedianPruner
from train.search.settings import load_settings
from train.search.study import (
    fail_killed_trials,
    is_one_too_many,
    open_study,
    queue_interrupted_trials,
    storage_errors_named,
)
from train.search.trial import draw
from train.search.trials import MOST_KILLS, list_outcomes, place_of, rank

SPACE = """
learning_rate log 1e-3 1e-1
optimizer choice adam momentum
momentum uniform 0.5 0.95
batch_size choice 64 128
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("study") / "tiny")


@pytest.fixture
def settings(tmp_path, manifest):
    (tmp_path / "space.txt").write_text(SPACE, encoding="utf-8")
    return load_settings(str(tmp_path / "space.txt"), {}, manifest)


@pytest.fixture(autouse=True)
def experiments_allowed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The tests ask and tell, where a process calls `optimize`.
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with")
        yield


@pytest.fixture
def open_(tmp_path, settings, manifest):
    """Opens the study of a folder as a new process would."""

    def open_(name="search", *, settings=settings, seed=0, storage=None):
        return open_study(
            settings, logdir=tmp_path / name, storage=storage, seed=seed, manifest=manifest
        )

    return open_


def begin(study, settings):
    """Begins a trial as a process does, up to its training."""
    trial = study.ask()
    trial.set_user_attr("place", place_of(study, study.trials[trial.number]))
    drawn = draw(trial, settings)
    trial.set_user_attr("begun", trial.number)
    return trial, drawn


def judge(drawn):
    return 0.9 - abs(drawn["learning_rate"] - 0.02) + 0.01 * (drawn["batch_size"] == 64)


def stop(study, trial):
    trial.set_user_attr("stopped", True)
    study.tell(trial, state=TrialState.FAIL)


def run_trials(study, settings, count):
    for _ in range(count):
        trial, drawn = begin(study, settings)
        study.tell(trial, judge(drawn))


def test_first_trial_has_the_defaults(open_, settings):
    _, drawn = begin(open_(), settings)
    assert drawn == {"learning_rate": 0.003, "optimizer": "adam", "batch_size": 128}


def test_interrupted_search_draws_what_an_uninterrupted_one_does(open_, settings):
    study = open_("whole")
    run_trials(study, settings, 13)
    whole = [(one.place, one.drawn) for one in list_outcomes(study, settings)]
    parts = open_("parts")
    for place in (2, 11):  # among the random ones, and among TPE's
        run_trials(parts, settings, place - len(list_outcomes(parts, settings)))
        trial, drawn = begin(parts, settings)
        assert drawn == whole[place][1]
        stop(parts, trial)
        parts = open_("parts")
        queue_interrupted_trials(parts)
    run_trials(parts, settings, 2)
    assert [(one.place, one.drawn) for one in list_outcomes(parts, settings)] == whole
    assert len(parts.trials) == 15
    momenta = ["momentum" in drawn for _, drawn in whole]
    assert [drawn["optimizer"] == "momentum" for _, drawn in whole] == momenta
    assert any(momenta)


def test_seed_decides(open_, settings):
    found = []
    for name, seed in (("a", 0), ("b", 1), ("c", 1)):
        study = open_(name, seed=seed)
        run_trials(study, settings, 3)
        found.append([one.drawn for one in list_outcomes(study, settings)])
    assert found[0] != found[1]
    assert found[1] == found[2]


def finished(*values, share=250):
    """A finished trial with validations at every so many thousandths of its run."""
    reports = {share * (i + 1): value for i, value in enumerate(values)}
    return create_trial(value=max(values), intermediate_values=reports)


def reports_pruned(study, reports):
    trial = study.ask()
    for share, value in reports.items():
        trial.report(value, share)
    return trial.should_prune()


def test_pruned_is_what_is_worse_than_the_median_at_the_same_share():
    study = optuna.create_study(direction="maximize", pruner=MedianPruner())
    for value in (0.1, 0.3, 0.5, 0.7):
        study.add_trial(finished(value, value + 0.2))
    assert not reports_pruned(study, {250: 0.0})  # There are too few to compare with.
    study.add_trial(finished(0.9, 0.95))
    assert reports_pruned(study, {250: 0.49})
    assert not reports_pruned(study, {250: 0.5})
    # Of trials that validate elsewhere, what they had reached by then counts.
    assert reports_pruned(study, {490: 0.49})
    assert not reports_pruned(study, {490: 0.51})
    assert reports_pruned(study, {510: 0.69})
    assert not reports_pruned(study, {200: 0.0})  # No other had been validated by then.
    assert not reports_pruned(study, {250: 0.8, 500: 0.1})  # Its best so far is what counts.
    assert not reports_pruned(study, {1000: 0.0})  # It has ended.


def test_stopped_trial_goes_on_first_with_its_values(open_, settings):
    study = open_()
    run_trials(study, settings, 1)
    trial, drawn = begin(study, settings)
    trial.report(0.4, 250)
    trial.set_user_attr("seconds", 7.5)
    stop(study, trial)
    assert [one.place for one in list_outcomes(study, settings)] == [0]
    for _ in range(2):  # It is queued once.
        queue_interrupted_trials(study)
    again, drawn_again = begin(study, settings)
    assert drawn_again == drawn
    assert again.user_attrs["place"] == 1
    assert again.user_attrs["seconds"] == 7.5
    assert study.trials[again.number].intermediate_values == {250: 0.4}
    study.tell(again, 0.6)
    assert [one.place for one in list_outcomes(study, settings)] == [0, 1]
    _, _ = trial, _ = begin(study, settings)
    assert trial.user_attrs["place"] == 2


def kill(study, trial_number, monkeypatch):
    """Lets Optuna take a trial's process for killed."""
    storage = study._storage._backend
    monkeypatch.setattr(
        storage, "_get_stale_trial_ids", lambda _: [study.trials[trial_number]._trial_id]
    )
    fail_killed_trials(study)
    monkeypatch.undo()


def test_killed_trial_is_tried_again_but_not_for_ever(open_, settings, monkeypatch):
    study = open_()
    for kills in range(MOST_KILLS):
        trial, _ = begin(study, settings)
        assert trial.user_attrs.get("kills", 0) == kills
        assert trial.user_attrs["place"] == 0
        kill(study, trial.number, monkeypatch)
        queue_interrupted_trials(study)
    (outcome,) = list_outcomes(study, settings)
    assert (outcome.state, outcome.failure) == ("failed", "its process was killed 3 times")
    trial, _ = begin(study, settings)
    assert trial.user_attrs["place"] == 1


def test_trial_that_was_killed_before_its_first_heartbeat_is_found(open_, settings, monkeypatch):
    study = open_()
    study.ask()
    fail_killed_trials(study)
    assert study.trials[0].state == TrialState.RUNNING  # It may be about to begin.
    monkeypatch.setattr(study_module, "GRACE_SECONDS", -1)
    trial, _ = begin(study, settings)
    fail_killed_trials(study)
    assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.RUNNING]
    queue_interrupted_trials(study)
    assert begin(study, settings)[0].user_attrs["place"] == 0
    assert trial.user_attrs["place"] == 1


def test_one_too_many_is_dropped(open_, settings):
    study = open_()
    run_trials(study, settings, 1)
    trials = [study.ask(), study.ask()]
    frozen = [study.trials[trial.number] for trial in trials]
    assert [is_one_too_many(study, one, 2) for one in frozen] == [False, True]
    assert not is_one_too_many(study, frozen[1], None)
    trials[1].set_user_attr("dropped", True)
    for trial in trials:
        study.tell(trial, state=TrialState.FAIL)
    # Two processes that look at the same time queue the same trial.
    queue_interrupted_trials(study)
    twin = study.trials[-1]
    study.add_trial(twin)
    first, second = study.ask(), study.ask()
    assert [place_of(study, study.trials[one.number]) for one in (first, second)] == [1, 1]
    assert not is_one_too_many(study, study.trials[first.number], 2)
    assert is_one_too_many(study, study.trials[second.number], 2)
    second.set_user_attr("dropped", True)
    study.tell(second, state=TrialState.FAIL)
    # Neither takes the place of the next one.
    next_one = study.ask()
    assert place_of(study, study.trials[next_one.number]) == 2


def test_best_is_first_and_equal_ones_in_order(open_, settings):
    study = open_()
    for value in (0.5, 0.7, None, 0.7):
        trial, _ = begin(study, settings)
        trial.set_user_attr("failure", "why" if value is None else "")
        study.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
    outcomes = list_outcomes(study, settings)
    assert [one.place for one in rank(outcomes)] == [1, 3, 0]
    assert (outcomes[2].state, outcomes[2].failure) == ("failed", "why")


@pytest.mark.parametrize(
    ("old", "new", "given", "told"),
    [
        ("batch_size choice 64 128", "batch_size choice 32 64", {}, "batch_size: choice 64 128 in"),
        ("batch_size choice 64 128", "", {}, "batch_size: choice 64 128 in the study, nothing now"),
        ("", "", {"epochs": 2.0}, "--epochs: nothing in the study, 2.0 now"),
        ("", "seed int 0 9", {}, "seed: nothing in the study, int 0 9 now"),
    ],
)
def test_search_for_something_else_is_refused(
    open_, settings, manifest, tmp_path, old, new, given, told
):
    open_()
    path = tmp_path / "space.txt"
    path.write_text(f"{SPACE.replace(old, '')}\n{new}\n", encoding="utf-8")
    other = load_settings(str(path), given, manifest)
    with pytest.raises(UserError) as error:
        open_(settings=other)
    assert str(error.value).startswith(f"{tmp_path / 'search'}: holds a search for something else")
    assert told in str(error.value)


def test_changed_text_of_a_model_is_refused(open_, manifest, tmp_path):
    model = tmp_path / "mine.txt"
    (tmp_path / "space.txt").write_text("seed int 0 9\n", encoding="utf-8")
    for text in ("flatten\noutput\n", "flatten\ndense 7\noutput\n"):
        model.write_text(text, encoding="utf-8")
        settings = load_settings(str(tmp_path / "space.txt"), {"model": str(model)}, manifest)
        if "dense" not in text:
            open_(settings=settings)
            continue
        with pytest.raises(UserError, match=rf"the text of {model}: \w+ in the study, \w+ now"):
            open_(settings=settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("manifest.json", "the folder of a dataset; name another folder with --logdir"),
        ("run.json", "the folder of a run; name another folder with --logdir"),
        ("trial-0000", "holds the trials of a search, but no study.db, which keeps what came of"),
    ],
)
def test_folder_of_something_else_is_refused(open_, tmp_path, name, message):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / name).touch()
    with pytest.raises(UserError, match=f"^{tmp_path / 'search'}: {message}"):
        open_()


@pytest.mark.parametrize("name", ["what?a=1", "50%20", "{0} #x", "à:b@c"])
def test_database_is_in_the_folder_whatever_that_is_called(open_, tmp_path, settings, name):
    run_trials(open_(name), settings, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "space.txt"])
    assert (tmp_path / name / "study.db").is_file()
    assert len(list_outcomes(open_(name), settings)) == 1


def rename_study(path, name):
    with sqlite3.connect(path) as database:
        database.execute("update studies set study_name = ?", (name,))


@pytest.mark.parametrize("earlier_name", [None, "search"])
def test_folder_may_be_renamed(open_, tmp_path, settings, earlier_name):
    run_trials(open_(), settings, 1)
    (tmp_path / "search/trial-0000").mkdir()
    if earlier_name:  # as earlier versions called it
        rename_study(tmp_path / "search/study.db", earlier_name)
    (tmp_path / "search").rename(tmp_path / "moved")
    study = open_("moved")
    assert len(list_outcomes(study, settings)) == 1
    assert len(study._storage.get_all_studies()) == 1


def test_study_is_found_beside_one_that_a_refusal_left(open_, tmp_path, settings):
    run_trials(open_(), settings, 1)
    rename_study(tmp_path / "search/study.db", "before")
    (tmp_path / "search/trial-0000").mkdir()
    with sqlite3.connect(tmp_path / "search/study.db") as database:
        database.execute("insert into studies (study_name) values ('search')")
    assert len(list_outcomes(open_(), settings)) == 1


def test_refusal_changes_nothing(open_, tmp_path, settings):
    storage = f"sqlite:///{tmp_path}/shared.db"
    run_trials(open_("other", storage=storage), settings, 1)
    (tmp_path / "search/trial-0000").mkdir(parents=True)
    before = (tmp_path / "shared.db").read_bytes()
    with pytest.raises(UserError, match="holds trials of another study than those in its datab"):
        open_(storage=storage)
    assert (tmp_path / "shared.db").read_bytes() == before
    with pytest.raises(UserError, match=r"the trials of a search, but no study\.db"):
        open_()
    assert not (tmp_path / "search/study.db").exists()


def test_driver_that_is_missing_is_named(open_, tmp_path):
    with (
        pytest.raises(UserError) as error,
        storage_errors_named("x", tmp_path),
    ):
        open_(storage="mysql://me:secret@localhost:1/x")
    assert str(error.value) == (
        "--storage: this kind of database needs a driver that is not installed, the module "
        "MySQLdb; pip install 'mysqlclient' adds it"
    )
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("storage", "where"),
    [
        ("nonsense", "--storage"),
        ("sqlite:////nowhere/at/all.db", "--storage"),
        (None, "LOGDIR/study.db"),
    ],
)
def test_database_that_cannot_be_used_is_named(open_, tmp_path, storage, where):
    logdir = tmp_path / "search"
    logdir.mkdir()
    (logdir / "study.db").write_bytes(b"This is no database, but long enough to look at." * 99)
    with (
        pytest.raises(UserError) as error,
        storage_errors_named(storage, logdir),
    ):
        open_(storage=storage)
    text = str(error.value)
    assert text.startswith(f"{where.replace('LOGDIR', str(logdir))}: this database cannot be used")
    assert "secret" not in text
    assert "\n" not in text


def test_database_of_another_program_is_refused(open_, tmp_path):
    logdir = tmp_path / "search"
    logdir.mkdir()
    with sqlite3.connect(logdir / "study.db") as database:
        database.execute("create table studies (name text)")
    with pytest.raises(UserError, match="this database cannot be used"):
        with storage_errors_named(None, logdir):
            open_()
