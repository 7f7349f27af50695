"""Several runs that answer as one: which they are, and whether they fit each other.

Their probabilities are averaged with equal weights, as in deep ensembles (Lakshminarayanan et al.
2017, https://arxiv.org/abs/1612.01474). `--logdir` names them in one of three ways: a run folder
alone, several joined by commas, or a folder that train/ensemble.py wrote:

    member-0/ member-1/ …   run folders
    ensemble.json           {"format_version": 1, "members": [{"folder": "member-0",
                            "validate_on": "1/12"}, …]}
    export/ test/ …         what belongs to all of them: exports, TensorBoard's event files

`ensemble.json` is written when all members are trained, so where it stands the ensemble is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError
from data_prep.schema import Manifest, load_manifest
from model_definition import run_dir
from model_definition.run_dir import Run, load_run, require_same_dataset, write_atomically

FORMAT_VERSION = 1
ENSEMBLE_NAME = "ensemble.json"
MAX_SHIFTS = 3  # pixels; 49 copies of an image


@dataclass(frozen=True)
class Member:
    """A run with the checkpoint that is used of it.

    Attributes:
      run: the run.
      checkpoint: the prefix of the checkpoint's files.
    """

    run: Run
    checkpoint: Path


@dataclass(frozen=True)
class Ensemble:
    """The runs that `--logdir` names; one alone is an ensemble of one.

    Attributes:
      runs: at least one; classes, image shape and image preparation are the same in all.
      folder: the run's or the ensemble's; None where several runs were listed.
    """

    runs: tuple[Run, ...]
    folder: Path | None

    @property
    def first(self) -> Run:
        """The run that tells of all what is the same in all: classes, images, preparation."""
        return self.runs[0]

    @property
    def is_single(self) -> bool:
        """Whether it is one run alone."""
        return len(self.runs) == 1

    @property
    def name(self) -> str:
        """The folder's name; of listed runs their names, joined by `+`."""
        if self.folder is not None:
            return self.folder.resolve().name
        return "+".join(run.logdir.resolve().name for run in self.runs)

    @property
    def logdir(self) -> str:
        """What `--logdir` may be to name it again."""
        return str(self.folder) if self.folder else ",".join(str(run.logdir) for run in self.runs)


def load_ensemble(logdir: str) -> Ensemble:
    """Reads the runs that `--logdir` names.

    Args:
      logdir: a run folder, an ensemble's folder, or several of either joined by commas, of which
        every run counts alike. A folder that has a comma in its name is that folder.

    Returns:
      The runs.

    Raises:
      UserError: a run is missing or damaged or named twice, or two of them do not fit each other.
    """
    if "," not in logdir or Path(logdir).exists():
        return load_folders([Path(logdir)])
    parts = logdir.split(",")
    if not all(parts):
        raise UserError(
            f"{logdir}: expected run folders joined by commas, found an empty name "
            "among them; leave it out"
        )
    return load_folders([Path(part) for part in parts])


def load_folders(folders: Sequence[Path]) -> Ensemble:
    """Reads the runs of folders, of which every run counts alike.

    Args:
      folders: at least one; each a run's or an ensemble's.

    Returns:
      The runs, in the order of the folders.

    Raises:
      UserError: a run is missing or damaged or there twice, or two of them do not fit each other.
    """
    runs = tuple(run for folder in folders for run in _load_folder(folder))
    _require_fit(runs)
    return Ensemble(runs, folders[0] if len(folders) == 1 else None)


def find_dataset(ensemble: Ensemble, data_dir: str | None) -> tuple[Path, Manifest]:
    """Finds the dataset that runs were trained on, or checks another one that is given.

    Args:
      ensemble: the runs.
      data_dir: another dataset's folder, whose classes and image shape must be the runs'; None for
        their own.

    Returns:
      The dataset folder and its manifest.

    Raises:
      UserError: it is not there, or does not fit every run.
    """
    run = ensemble.first
    folder = Path(data_dir or run.data_dir)
    if data_dir is None and not folder.is_dir():
        raise UserError(
            f"{folder}: the dataset that {run.logdir} was trained on is not there; name its "
            "folder with --data_dir"
        )
    manifest = load_manifest(folder)
    for one in ensemble.runs:
        require_same_dataset(one, manifest, exactly=data_dir is None)
    return folder, manifest


def is_ensemble(folder: Path) -> bool:
    """Tells whether a folder holds an ensemble that is trained to its end."""
    return (folder / ENSEMBLE_NAME).is_file()


def list_members(folder: Path) -> list[Path]:
    """Lists the members' run folders, as `ensemble.json` names them.

    Args:
      folder: the ensemble's.

    Raises:
      UserError: it is missing or damaged.
    """
    path = folder / ENSEMBLE_NAME
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version, members = facts["format_version"], facts["members"]
        if version != FORMAT_VERSION:
            raise ValueError(f"expected format_version {FORMAT_VERSION}, found {version!r}")
        folders = [folder / member["folder"] for member in members]
        if not folders:
            raise ValueError("it names no members")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: not an ensemble's description ({reason}); run the same train/ensemble.py "
            "command again, which writes it anew"
        ) from error
    return folders


def member_name(index: int) -> str:
    """Returns the name of a member's run folder within its ensemble's.

    Args:
      index: from 0.
    """
    return f"member-{index}"


def write_ensemble(folder: Path, folds: Mapping[str, str]) -> None:
    """Writes `ensemble.json`, whole or not at all.

    Args:
      folder: the ensemble's.
      folds: what each member was validated on, by its folder's name, in order.
    """
    members = [{"folder": name, "validate_on": fold} for name, fold in folds.items()]
    facts = {"format_version": FORMAT_VERSION, "members": members}
    write_atomically(folder / ENSEMBLE_NAME, json.dumps(facts, indent=2) + "\n")


def _load_folder(folder: Path) -> tuple[Run, ...]:
    """Reads a run, or the members of an ensemble."""
    if run_dir.exists(folder) or not is_ensemble(folder):
        if not run_dir.exists(folder) and run_dir.exists(folder / member_name(0)):
            raise UserError(
                f"{folder}: an ensemble whose training has not ended; run the same "
                "train/ensemble.py command again to go on with it, or name its members with "
                f"--logdir={folder / member_name(0)},…"
            )
        return (load_run(folder),)
    return tuple(load_run(member) for member in list_members(folder))


def _require_fit(runs: Sequence[Run]) -> None:
    """Refuses runs whose probabilities cannot be averaged, or that would count twice."""
    first = runs[0]
    seen: set[Path] = set()
    for run in runs:
        if run.logdir.resolve() in seen:
            raise UserError(f"{run.logdir}: named twice; it would count twice, so leave one out")
        seen.add(run.logdir.resolve())
        for what, expected, found in (
            ("classes", len(first.class_names), len(run.class_names)),
            ("class names", " ".join(first.class_names), " ".join(run.class_names)),
            ("image shape", first.image_shape, run.image_shape),
            ("image preparation", first.image_preparation, run.image_preparation),
        ):
            if expected != found:
                raise UserError(
                    f"{run.logdir}: this run's {what}: {found}; {first.logdir}'s: {expected}; "
                    "only runs in which they are the same can be averaged"
                )
