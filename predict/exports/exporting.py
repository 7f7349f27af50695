"""Writes exports, compares each with its checkpoint, and only then gives it its name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data_prep.command_line import UserError, log, signals_deferred
from model_definition.checkpoints import checkpoint_step, find_damage
from model_definition.ensemble import Member
from model_definition.run_dir import Run, write_atomically
from predict.exports.check import Comparison, compare, predict_apart
from predict.exports.formats import ExportSource, Format
from predict.exports.table import find_format


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
      format: its format's name.
      file: its path within the output folder.
      run: tells its run from others, from `identify_runs`.
      num_bytes: the size of the file, or of all files in the folder.
      step: the checkpoint's training step; of several the last.
      compared_on: the split whose images it was compared on.
      comparison: with the checkpoint; None for a format that holds no weights.
    """

    format: str
    file: str
    run: str
    num_bytes: int
    step: int
    compared_on: str
    comparison: Comparison | None


@dataclass(frozen=True)
class Reference:
    """What the exports are compared with.

    Attributes:
      split: where the images come from.
      images: uint8 [n, height, width, channels].
      probabilities: float32 [n, num_classes], the checkpoint's.
    """

    split: str
    images: np.ndarray
    probabilities: np.ndarray


def export(source: ExportSource, format: Format, staging: Path, reference: Reference) -> Export:
    """Writes one export, checks it, and puts it into the folder around the staging folder.

    Args:
      source: what to export.
      format: the format to write.
      staging: from `open_output`.
      reference: what to compare it with.

    Returns:
      The export.

    Raises:
      UserError: it cannot be opened, or differs by more than the format's tolerance, or the
        checkpoint is gone. Then it is removed, and an export that was there before stays.
    """
    folder = staging / format.name
    folder.mkdir()
    written = folder / format.filename(source.name)
    try:
        with _full_disk_named(staging.parent), _lost_checkpoint_named(source.members):
            # Compiled converters crash where Ctrl-C raises an exception amid them.
            with signals_deferred():
                format.write(source, written)
            comparison = _check(source, format, written, reference)
        final = _publish(written, staging.parent / written.name, versioned=format.is_versioned)
    finally:
        shutil.rmtree(folder)
    return Export(
        format=format.name,
        file=str(final.relative_to(staging.parent)),
        run=identify_runs([member.run for member in source.members]),
        num_bytes=_size_of(final),
        step=max(checkpoint_step(member.checkpoint) for member in source.members),
        compared_on=reference.split,
        comparison=comparison,
    )


@contextmanager
def _full_disk_named(output_dir: Path) -> Iterator[None]:
    """Turns every library's own error about a full disk into Python's, which says where."""
    try:
        yield
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(output_dir)) from error
        raise


@contextmanager
def _lost_checkpoint_named(members: Sequence[Member]) -> Iterator[None]:
    """Turns the error about a checkpoint that a run in progress has just replaced into words."""
    try:
        yield
    except (ValueError, tf.errors.OpError) as error:
        for member in members:
            if find_damage(member.checkpoint):
                raise UserError(
                    f"{member.checkpoint}: gone, as a run in progress keeps only its last and "
                    "best; export again"
                ) from error
        raise


def _check(
    source: ExportSource, format: Format, written: Path, reference: Reference
) -> Comparison | None:
    if format.load is None or format.tolerance is None:
        return None
    beside = None
    if format.checked_with is not None:
        other = find_format(format.checked_with)
        beside = written.parent / other.filename(source.name)
        other.write(source, beside)
    found = predict_apart(format, written, beside, reference.images)
    comparison = compare(reference.probabilities, found, format.tolerance)
    tolerance = format.tolerance
    if comparison.share_beyond > tolerance.share:
        raise UserError(
            f"{format.name}: its probabilities differ from the checkpoint's, by up to "
            f"{comparison.largest_difference:.2g}, and by more than {tolerance.difference:g} in "
            f"{comparison.share_beyond:.1%} of {comparison.num_images:,} images, of which "
            f"{tolerance.share:.0%} may ({tolerance.reason}); the file is removed"
        )
    return comparison


def _publish(written: Path, final: Path, *, versioned: bool) -> Path:
    """Moves an export to where it belongs, a folder as the next version; returns the place."""
    if versioned:
        final.mkdir(exist_ok=True)
        versions = [int(path.name) for path in final.iterdir() if path.name.isdecimal()]
        final = final / str(max(versions, default=0) + 1)
    try:
        written.replace(final)
    except OSError as error:
        error.filename = str(final)  # The user knows this one.
        raise
    return final


def _size_of(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def identify_runs(runs: Sequence[Run]) -> str:
    """Returns a digest of what was trained, on what and how, wherever the run folders are."""
    found = [[run.architecture_text, run.dataset_digest, dict(run.config)] for run in runs]
    facts = found[0] if len(found) == 1 else found
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_exports(output_dir: Path, runs: Sequence[Run], name: str) -> list[Export]:
    """Reads the list of the exports of a run, or of several together, in a folder.

    Args:
      output_dir: the folder.
      runs: the runs; what others of the same name left there is named in the log and left out.
      name: what their names begin with.

    Returns:
      Those that are still there, in the order in which they came.

    Raises:
      UserError: the list is damaged.
    """
    path = output_dir / _list_name(name)
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        listed = [_read_export(entry) for entry in entries["exports"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a list of exports; remove it, and export again") from error
    present = [export for export in listed if (output_dir / export.file).exists()]
    identity = identify_runs(runs)
    for export in present:
        if export.run != identity:
            log(f"{output_dir / export.file}: of another run; it leaves the card of this one")
    return [export for export in present if export.run == identity]


def _read_export(entry: dict[str, Any]) -> Export:
    comparison = entry.pop("comparison")
    found = Export(**entry, comparison=Comparison(**comparison) if comparison else None)
    find_format(found.format)  # ValueError where a later version knew more of them
    numbers = (found.num_bytes, found.step)
    if not isinstance(found.file, str) or not all(isinstance(number, int) for number in numbers):
        raise TypeError(found)
    return found


def record_exports(output_dir: Path, name: str, exports: list[Export]) -> list[Export]:
    """Writes the list of a run's exports in a folder.

    Args:
      output_dir: the folder.
      name: what their names begin with.
      exports: those that were there and the new ones.

    Returns:
      Of each format the last one, in the order in which formats came.
    """
    present = list({export.format: export for export in exports}.values())
    document = {"exports": [asdict(export) for export in present]}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    write_atomically(output_dir / _list_name(name), text + "\n")
    return present


def _list_name(name: str) -> str:
    return f"{name}-exports.json"
