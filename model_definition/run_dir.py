"""A run folder describes itself: what was trained, on what, how, and what came of it.

    model.txt                  the architecture as trained
    run.json                   dataset, class names, seed, flags and versions: the `Run` below
    history.json               every validation so far
    training_time.json         the seconds that its steps took, up to every checkpoint
    checkpoint, model.ckpt-N.* the last checkpoints, with the optimiser's state
    best/                      the best checkpoint on validation, weights alone
    train/ validation/ test/   TensorBoard's event files
    export/model.tflite        the LiteRT model that prediction runs, its sha256 beside it
    export/2/, export/3/, …    versions that train/update.py made of it; see `versions.py`
    export/current             the number of the version in use; 1, the trained run, without it
    export/…                   what predict/export.py made, unless it was told another folder

Evaluation and prediction take everything from here, so no flag has to be repeated.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from data_prep.schema import IMAGE_PREPARATIONS, Manifest

FORMAT_VERSION = 1
RUN_NAME = "run.json"
MODEL_NAME = "model.txt"
HISTORY_NAME = "history.json"
TRAINING_TIME_NAME = "training_time.json"
BEST_NAME = "best"
EXPORT_NAME = "export"
LITERT_NAME = "model.tflite"
CURRENT_NAME = "current"
FIRST_VERSION = 1  # the run as it was trained


@dataclass(frozen=True)
class Run:
    """What a run folder says of itself.

    Attributes:
      logdir: the folder.
      model: the name or path that `--model` gave.
      architecture_text: the text of `model.txt`.
      data_dir: the dataset folder trained on, an absolute path.
      dataset_name: the dataset's name.
      dataset_digest: `Manifest.digest` of the dataset trained on.
      image_shape: height, width, channels.
      image_preparation: how an image from elsewhere becomes an input: `mnist` or `resize`.
      class_names: the name of each label, label 0 first.
      config: the training flags, by name.
      versions: of Python and of the libraries that trained it.
      teacher_digest: SHA-256 of the weights that it learns from, in hex; empty without a teacher.
      version: which version of its weights is meant: 1 as trained, those from 2 on as updated.
    """

    logdir: Path
    model: str
    architecture_text: str
    data_dir: str
    dataset_name: str
    dataset_digest: str
    image_shape: tuple[int, int, int]
    image_preparation: str
    class_names: tuple[str, ...]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    teacher_digest: str = ""
    version: int = FIRST_VERSION

    def __hash__(self) -> int:
        """Lets a loaded model be kept under the run that it is of."""
        return hash((self.logdir, self.version))

    @property
    def is_imported(self) -> bool:
        """Whether the weights came from elsewhere, so that nothing tells how they were trained."""
        return not self.config

    @property
    def export_dir(self) -> Path:
        """Where exports and versions are."""
        return self.logdir / EXPORT_NAME

    @property
    def best_dir(self) -> Path:
        """Where the version's weights are, alone: best on validation, or updated."""
        if self.version == FIRST_VERSION:
            return self.logdir / BEST_NAME
        return self.export_dir / str(self.version)

    @property
    def export_path(self) -> Path:
        """Where the version's LiteRT model is; training or updating writes it at its end."""
        if self.version == FIRST_VERSION:
            return self.export_dir / LITERT_NAME
        return self.export_dir / str(self.version) / LITERT_NAME


def exists(logdir: Path) -> bool:
    """Tells whether the folder holds a run."""
    return (logdir / RUN_NAME).is_file()


def write_run(run: Run) -> None:
    """Writes `model.txt` and `run.json`, each whole or not at all.

    Args:
      run: what to write, and where.
    """
    run.logdir.mkdir(parents=True, exist_ok=True)
    facts = asdict(run)
    del facts["logdir"], facts["architecture_text"], facts["version"]
    facts["format_version"] = FORMAT_VERSION
    write_atomically(run.logdir / MODEL_NAME, run.architecture_text)
    # Last, because a folder counts as a run once this is there.
    write_atomically(run.logdir / RUN_NAME, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file under a temporary name and renames it; text becomes UTF-8."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        if error.errno:
            error.filename = str(path)  # The user knows this one.
        raise
    finally:
        temporary.unlink(missing_ok=True)


def load_run(logdir: Path) -> Run:
    """Reads what a run folder says of itself.

    Args:
      logdir: the folder.

    Returns:
      The run, in its current version.

    Raises:
      UserError: there is no run, or its files are damaged or of another version.
    """
    path = logdir / RUN_NAME
    if not path.is_file():
        runs = sorted(found.parent for found in logdir.glob(f"*/{RUN_NAME}"))
        if runs:
            raise UserError(
                f"{logdir}: holds no {RUN_NAME}, so no run; name one of those in it, such as "
                f"{runs[0]}"
            )
        what = "no such run folder"
        if logdir.exists():
            what = f"holds no {RUN_NAME}, so no run" if logdir.is_dir() else "a file, no run folder"
        raise UserError(
            f"{logdir}: {what}; name one that is there, or train one with "
            f"python train/train_lenet.py --logdir={shlex.quote(str(logdir))}"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts.pop("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}; use the "
                "version of the project that trained it, or train again"
            )
        height, width, channels = facts.pop("image_shape")
        run = Run(
            logdir=logdir,
            architecture_text=(logdir / MODEL_NAME).read_text(encoding="utf-8"),
            image_shape=(height, width, channels),
            class_names=tuple(facts.pop("class_names")),
            version=read_current_version(logdir),
            **facts,
        )
        if run.image_preparation not in IMAGE_PREPARATIONS:
            raise ValueError(f"image_preparation is {run.image_preparation!r}")
        return run
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path}: not a run's description ({reason}); restore it, or train again into another "
            "--logdir"
        ) from error


def read_current_version(logdir: Path) -> int:
    """Returns which version of a run is in use, from 1.

    Args:
      logdir: the run folder.

    Raises:
      UserError: the file that says it is damaged.
    """
    path = logdir / EXPORT_NAME / CURRENT_NAME
    try:
        text = path.read_text(encoding="ascii")
        version = int(text)
        if version < FIRST_VERSION or text != f"{version}\n":
            raise ValueError(text)
        return version
    except (FileNotFoundError, NotADirectoryError):
        return FIRST_VERSION
    except ValueError as error:
        raise UserError(
            f"{path}: expected the number of a version; python train/update.py "
            f"--logdir={shlex.quote(str(logdir))} --rollback=1 writes it anew"
        ) from error


def find_misfit(run: Run, manifest: Manifest) -> str | None:
    """Tells in what a dataset is of other classes or images than a run.

    Args:
      run: the run.
      manifest: of the dataset.

    Returns:
      What each of them has, such as `this run's classes: 5; the dataset mnist's: 10`; None where
      they fit.
    """
    for what, trained, found in (
        ("classes", len(run.class_names), len(manifest.class_names)),
        ("class names", " ".join(run.class_names), " ".join(manifest.class_names)),
        ("image shape", run.image_shape, manifest.image_shape),
    ):
        if trained != found:
            return f"this run's {what}: {trained}; the dataset {manifest.name}'s: {found}"
    return None


def require_same_dataset(run: Run, manifest: Manifest, *, exactly: bool) -> None:
    """Checks that a dataset fits a run.

    Args:
      run: the run.
      manifest: of the dataset.
      exactly: whether it must be the very dataset that the run was trained on; else the classes
        and the image shape decide.

    Raises:
      UserError: it does not fit; says in what.
    """
    if misfit := find_misfit(run, manifest):
        raise UserError(
            f"{run.logdir}: {misfit}; name a dataset that fits with --data_dir, or another --logdir"
        )
    if exactly and run.dataset_digest != manifest.digest:
        raise UserError(
            f"{run.logdir}: this run was trained on another dataset ({run.dataset_name}, digest "
            f"{run.dataset_digest[:12]}) than {manifest.name}, digest {manifest.digest[:12]}; "
            "name that one with --data_dir, or another --logdir"
        )
