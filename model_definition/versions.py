"""The versions of a run: 1 as it was trained, the others as train/update.py improved it.

    export/2/model.ckpt-N.*   the weights alone, as `best/` has those of version 1
    export/2/model.tflite     the LiteRT model that prediction runs, its sha256 beside it
    export/2/examples/        the dataset folder that the version learnt, and what was held out
    export/2/earlier/         what the versions that it comes from had learnt; absent in the first
    export/2/version.json     the `Version` below
    export/current            the number of the version in use; 1 without it

A version's folder appears by a rename, and nothing changes it later. The version in use is what
`current` says, one small file that is replaced by a rename: whoever reads it, and whenever a writer
is killed, finds the old number or the new one, and a whole folder behind either.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from model_definition.run_dir import (
    CURRENT_NAME,
    EXPORT_NAME,
    FIRST_VERSION,
    LITERT_NAME,
    write_atomically,
)

VERSION_NAME = "version.json"
EXAMPLES_NAME = "examples"
EARLIER_NAME = "earlier"
_STAGING_NAME = ".updating"


@dataclass(frozen=True)
class Version:
    """What `version.json` says of a version that was made by an update.

    Attributes:
      number: the version, from 2.
      base: the version whose weights it began with.
      created: when, in UTC, as ISO 8601 writes it.
      examples: where the new images came from.
      examples_digest: `Manifest.digest` of the dataset folder that was made of them.
      num_learnt: how many of them it was trained on.
      num_held_out: how many of them it was judged on without having seen them.
      training: the update's flags, by name.
      comparisons: how its base and it read the same images, in the order of judging.
    """

    number: int
    base: int
    created: str
    examples: str
    examples_digest: str
    num_learnt: int
    num_held_out: int
    training: Mapping[str, Any]
    comparisons: tuple[Mapping[str, Any], ...]


def list_versions(logdir: Path) -> list[Version]:
    """Lists the versions that updates made of a run, the oldest first.

    Args:
      logdir: the run folder.

    Raises:
      UserError: the description of one is damaged.
    """
    folders = _numbered_folders(logdir)
    numbers = sorted(n for n, folder in folders.items() if (folder / VERSION_NAME).is_file())
    return [_load_version(folders[number] / VERSION_NAME) for number in numbers]


def next_version(logdir: Path) -> int:
    """Returns the number of the version to be made next; none is ever used again."""
    return max([FIRST_VERSION, *_numbered_folders(logdir)]) + 1


@contextmanager
def staged_version(logdir: Path) -> Iterator[Path]:
    """Gives an empty folder to write a version to; it is removed unless it was published.

    Whoever calls it holds the run folder's lock, so what is there already is a killed update's.

    Args:
      logdir: the run folder.

    Yields:
      The folder.
    """
    staging = logdir / EXPORT_NAME / _STAGING_NAME
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish_version(logdir: Path, staging: Path, version: Version) -> None:
    """Makes a staged version the one in use.

    Args:
      logdir: the run folder.
      staging: from `staged_version`, everything written but `version.json`.
      version: describes it.
    """
    text = json.dumps(asdict(version), indent=1, ensure_ascii=False)
    write_atomically(staging / VERSION_NAME, text + "\n")
    staging.rename(logdir / EXPORT_NAME / str(version.number))
    _write_current(logdir, version.number)


def choose_version(logdir: Path, number: int) -> None:
    """Makes another version of a run the one in use.

    Args:
      logdir: the run folder.
      number: the version; 1 is the run as it was trained.

    Raises:
      UserError: there is no such version, or its model is damaged.
    """
    known = [FIRST_VERSION, *(version.number for version in list_versions(logdir))]
    if number not in known:
        raise UserError(
            f"{logdir}: expected one of its versions, {', '.join(map(str, known))}, found {number}"
        )
    folder = logdir / EXPORT_NAME
    model = (folder if number == FIRST_VERSION else folder / str(number)) / LITERT_NAME
    digest = model.with_name(f"{LITERT_NAME}.sha256")
    if not model.is_file():
        raise UserError(f"{model}: missing, so version {number} cannot be used; restore it")
    if digest.is_file():
        expected = digest.read_text(encoding="utf-8", errors="replace").partition(" ")[0]
        if hashlib.sha256(model.read_bytes()).hexdigest() != expected:
            raise UserError(
                f"{model}: damaged, for its sha256 is not the one in {digest.name}; restore it, or "
                "choose another version"
            )
    _write_current(logdir, number)


def _write_current(logdir: Path, number: int) -> None:
    write_atomically(logdir / EXPORT_NAME / CURRENT_NAME, f"{number}\n")


def _numbered_folders(logdir: Path) -> dict[int, Path]:
    folder = logdir / EXPORT_NAME
    paths = folder.iterdir() if folder.is_dir() else ()
    return {int(path.name): path for path in paths if path.name.isdecimal() and path.is_dir()}


def _load_version(path: Path) -> Version:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = Version(**{**facts, "comparisons": tuple(facts["comparisons"])})
        if version.number != int(path.parent.name):
            raise ValueError(f"it describes version {version.number}")
        return version
    except (ValueError, KeyError, TypeError) as error:
        folder = shlex.quote(str(path.parent))
        raise UserError(
            f"{path}: not a version's description ({error}); restore it, or remove the version "
            f"with rm -r {folder}"
        ) from error
