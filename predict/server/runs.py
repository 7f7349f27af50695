"""Which models are served, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from data_prep.command_line import UserError, log
from model_definition import run_dir
from model_definition.ensemble import Ensemble, is_ensemble, load_ensemble
from model_definition.run_dir import FIRST_VERSION, Run, read_current_version
from predict.averaged import load_averaged
from predict.classifier import Classifier, load_classifier


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragedRun(Run):
    """Several runs that are served as one, or one run with test-time shifts.

    What it says as a run is what is the same in all; its folder is the ensemble's. Its version is 1
    when serving begins, and each change of a member's version makes the next one.

    Attributes:
      ensemble: the runs, in the versions that answer.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.
    """

    ensemble: Ensemble
    test_time_shifts: int = 0


def find_runs(logdir: str, test_time_shifts: int = 0) -> Mapping[str, Run]:
    """Lists the models of a folder by name.

    A request names a model by its key here, so no text of a request ever becomes part of a path.

    Args:
      logdir: a run folder, an ensemble's folder, or runs joined by commas: one model; or a folder
        of run and ensemble folders: one model for each.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      That model alone, or all whose exported models are there. The name is the run's or ensemble's
      folder's; that of a list is its runs' names, joined by `+`.

    Raises:
      UserError: there is none, or runs of a list do not fit each other.
    """
    folder = Path(logdir)
    if run_dir.exists(folder) or is_ensemble(folder) or not folder.is_dir():
        ensemble = load_ensemble(logdir)
        return {ensemble.name: _as_run(ensemble, test_time_shifts)}
    runs: dict[str, Run] = {}
    for path in sorted(path for path in folder.iterdir() if _is_model(path)):
        try:
            ensemble = load_ensemble(str(path))
            for run in ensemble.runs:
                if not run.export_path.is_file():
                    raise UserError(
                        f"{run.export_path}: no such file; its training has not finished"
                    )
            runs[path.name] = _as_run(ensemble, test_time_shifts)
        except UserError as error:
            log(f"serve.py: left out: {error}")
    if not runs:
        raise UserError(
            f"{logdir}: expected a run folder, or a folder of finished runs, found neither; name "
            f"one with --logdir, or train one with python train/train_lenet.py --logdir={logdir}"
        )
    return runs


def load_served(run: Run) -> Classifier:
    """Loads what a model of `find_runs` answers with.

    Args:
      run: the model.

    Returns:
      Its classifier.

    Raises:
      UserError: an exported model is missing, damaged, or of another shape than its run.
    """
    if isinstance(run, AveragedRun):
        return load_averaged(run.ensemble, run.test_time_shifts)
    return load_classifier(run)


def in_current_versions(run: Run) -> Run:
    """Returns a model of `find_runs` in the versions that are in use now.

    Args:
      run: the model.

    Returns:
      The same one where nothing has changed.

    Raises:
      UserError: what says which version of a run is in use is damaged.
    """
    if not isinstance(run, AveragedRun):
        version = read_current_version(run.logdir)
        return run if version == run.version else replace(run, version=version)
    members = [replace(one, version=read_current_version(one.logdir)) for one in run.ensemble.runs]
    if [one.version for one in members] == [one.version for one in run.ensemble.runs]:
        return run
    ensemble = replace(run.ensemble, runs=tuple(members))
    return replace(run, ensemble=ensemble, version=run.version + 1)


def _is_model(folder: Path) -> bool:
    return run_dir.exists(folder) or is_ensemble(folder)


def _as_run(ensemble: Ensemble, test_time_shifts: int) -> Run:
    """Returns the run itself where it is one without shifts."""
    first = ensemble.first
    if ensemble.is_single and test_time_shifts == 0:
        return first
    facts = {field.name: getattr(first, field.name) for field in fields(first)}
    facts["version"] = FIRST_VERSION
    facts["logdir"] = ensemble.folder or Path(ensemble.name)
    facts["model"] = "+".join(dict.fromkeys(Path(run.model).stem for run in ensemble.runs))
    return AveragedRun(**facts, ensemble=ensemble, test_time_shifts=test_time_shifts)
