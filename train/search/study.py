"""A study: where the trials of a search are kept, and how a search is taken up again."""

from __future__ import annotations

import datetime
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from data_prep.command_line import UserError
from data_prep.schema import MANIFEST_NAME, Manifest
from model_definition import run_dir
from model_definition.architecture import load_architecture
from train.search.pruner import MedianPruner
from train.search.sampler import PlacedSampler
from train.search.settings import Settings
from train.search.trials import is_dropped, is_interrupted, kills_of, place_of

DATABASE_NAME = "study.db"
STUDY_NAME = "search"  # in a folder's own database, which stays right where the folder is renamed
HEARTBEAT_SECONDS = 10  # between two signs of life of a trial
GRACE_SECONDS = 60  # without one, after which its process counts as killed

_LOCK_SECONDS = 60  # to wait for another process that writes into SQLite's file
_ASKED = "asked"  # the attribute of the study that holds what it was begun with
# What pip calls the drivers of databases that it has under another name than Python.
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}


@contextmanager
def storage_errors_named(storage: str | None, logdir: Path) -> Iterator[None]:
    """Turns an error of the database into one line.

    Args:
      storage: the URL that was given, if any.
      logdir: the search's folder.

    Yields:
      Nothing.
    """
    # A URL may hold a password, so it is not repeated.
    where = "--storage" if storage else str(logdir / DATABASE_NAME)
    try:
        with warnings.catch_warnings():
            # Heartbeats and groups have been experimental since 2021.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        ImportError,
    ) as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            module = error.__cause__.name or ""
            raise UserError(
                f"{where}: this kind of database needs a driver that is not installed, the module "
                f"{module}; pip install '{_PACKAGES.get(module, module)}' adds it"
            ) from error
        reason = " ".join(str(error.__cause__ or error).split("\n")[0].split())
        raise UserError(
            f"{where}: this database cannot be used ({reason}); name another with --storage, such "
            "as sqlite:////absolute/path.db, or mend it, and run the same command again"
        ) from error
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise UserError(f"{where}: written by another version of Optuna ({error})") from error


def open_study(
    settings: Settings, *, logdir: Path, storage: str | None, seed: int, manifest: Manifest
) -> Study:
    """Begins a study, or takes up the one of this folder; a refusal changes nothing.

    Args:
      settings: what to search.
      logdir: the search's folder; in a database that is given, its name is the study's.
      storage: an Optuna storage URL; None for SQLite in the folder.
      seed: of the draws.
      manifest: of the dataset.

    Returns:
      The study.

    Raises:
      UserError: the folder holds something else, or the study was begun with something else.
    """
    for name, what in ((MANIFEST_NAME, "a dataset"), (run_dir.RUN_NAME, "a run")):
        if (logdir / name).exists():
            raise UserError(f"{logdir}: the folder of {what}; name another folder with --logdir")
    # Looked for before the study is: another process may begin one in between.
    has_trials = any(logdir.glob("trial-*"))
    if has_trials and storage is None and not (logdir / DATABASE_NAME).exists():
        raise UserError(
            f"{logdir}: holds the trials of a search, but no {DATABASE_NAME}, which keeps what "
            "came of them; restore it, give the --storage that they were made with, or name "
            "another --logdir"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    database = _open_database(logdir, storage)
    begun = [one.study_name for one in database.get_all_studies() if _ASKED in one.user_attrs]
    name = _name_study(begun, logdir, storage)
    if has_trials and name not in begun:
        raise UserError(
            f"{logdir}: holds trials of another study than those in its database; give the "
            "--storage that they were made with, or name another --logdir"
        )
    logdir.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name,
        storage=database,
        sampler=PlacedSampler(settings, seed),
        pruner=MedianPruner(),
        direction="maximize",
        load_if_exists=True,
    )
    asked = _describe(settings, manifest)
    if _ASKED not in study.user_attrs:
        study.set_user_attr(_ASKED, asked)
    changed = _list_changes(study.user_attrs[_ASKED], asked)
    if changed:
        raise UserError(
            f"{logdir}: holds a search for something else ({'; '.join(changed)}); give the same "
            "space and flags to go on with it, or name another --logdir"
        )
    return study


def _open_database(logdir: Path, storage: str | None) -> optuna.storages.RDBStorage:
    """Opens the database that is given, or SQLite's file in the folder; either is made if need be.

    A folder is made only for its own file, so that a database that is down leaves none behind.
    """
    url = storage
    if url is None:
        logdir.mkdir(parents=True, exist_ok=True)
        path = str((logdir / DATABASE_NAME).absolute())
        # Quoted as a URL: a question mark of the path would begin its options.
        url = sqlalchemy.engine.URL.create("sqlite", database=path).render_as_string()
    is_sqlite = url.startswith("sqlite")
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": _LOCK_SECONDS}} if is_sqlite else None,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
    )


def _name_study(begun: Sequence[str], logdir: Path, storage: str | None) -> str:
    """Returns the name of a folder's study, which may be among those that were begun."""
    folder_name = logdir.absolute().name
    if storage is not None:
        return folder_name
    # Until it had a fixed name, it had that of the folder as it was called then.
    for name in (STUDY_NAME, folder_name):
        if name in begun:
            return name
    return begun[0] if len(begun) == 1 else STUDY_NAME


def _describe(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """Returns what decides a search's trials: each fact under the name it is told by."""
    facts = {"the dataset": f"{manifest.name} ({manifest.digest[:12]})"}
    for one in settings.dimensions:
        facts[one.name] = one.range
    for name, value in settings.given.items():
        facts[f"--{name}"] = " ".join(value) if isinstance(value, list) else str(value)
    for model in settings.named_values:
        text = load_architecture(
            model, image_shape=manifest.image_shape, num_classes=len(manifest.class_names)
        ).text
        facts[f"the text of {model}"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return facts


def _list_changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = [*old, *(name for name in new if name not in old)]
    return [
        f"{name}: {old.get(name, 'nothing')} in the study, {new.get(name, 'nothing')} now"
        for name in names
        if old.get(name) != new.get(name)
    ]


def fail_killed_trials(study: Study) -> None:
    """Fails the trials whose processes give no sign of life."""
    optuna.storages.fail_stale_trials(study)
    long_ago = datetime.datetime.now() - datetime.timedelta(seconds=GRACE_SECONDS)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # Optuna overlooks those that were killed before their first sign.
        has_begun = trial.user_attrs.get("begun") == trial.number
        if not has_begun and trial.datetime_start and trial.datetime_start < long_ago:
            study.tell(trial.number, state=TrialState.FAIL)


def queue_interrupted_trials(study: Study) -> None:
    """Queues the trials that were interrupted, with their values, unless they are queued already.

    Optuna's `RetryHeartbeatStaleTrialCallback` does so for a killed trial in the moment in which it
    is found, and never if that process is killed then. This one looks at what is there, so nothing
    can get lost; and it does the same for those that a signal stopped.
    """
    trials = study.get_trials(deepcopy=False)
    newest = {place_of(study, trial): trial for trial in trials if not is_dropped(trial)}
    for place, trial in newest.items():
        if is_interrupted(trial):
            kept = {"score", "total_steps", "seconds"} & set(trial.user_attrs)
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params=trial.params,
                    distributions=trial.distributions,
                    intermediate_values=trial.intermediate_values,
                    user_attrs={
                        "place": place,
                        "again": True,
                        "kills": kills_of(trial),
                        **{name: trial.user_attrs[name] for name in kept},
                    },
                )
            )


def is_one_too_many(study: Study, trial: FrozenTrial, most: int | None) -> bool:
    """Tells whether a trial that another process made needless should be dropped.

    Two processes may begin the last trial at the same time, or queue the same one.

    Args:
      study: the study.
      trial: a trial that has just been begun.
      most: how many trials there shall be; None for any number.
    """
    place = place_of(study, trial)
    if "again" not in trial.user_attrs:
        return most is not None and place >= most
    return any(
        place_of(study, other) == place and not is_dropped(other) and not is_interrupted(other)
        for other in study.get_trials(deepcopy=False)
        if other.number < trial.number
    )
