"""The runs that are compared, and whether they can be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError
from model_definition import run_dir
from model_definition.run_dir import Run, load_run


@dataclass(frozen=True)
class Entry:
    """One of the things that are compared.

    Attributes:
      name: the end of its folder's path, as long as it must be to be unlike the others'.
      run: the run.
    """

    name: str
    run: Run


def load_entries(folders: Sequence[str]) -> tuple[Entry, ...]:
    """Reads the runs to compare.

    Args:
      folders: the run folders, at least two.

    Returns:
      One entry for each, in the same order.

    Raises:
      UserError: there are fewer, a folder is there twice or holds no run, or two runs have
        different classes, images or datasets.
    """
    if len(folders) < 2:
        raise UserError(
            f"--runs: expected at least two run folders, joined by commas; found {len(folders)}"
        )
    places: dict[str, str] = {}
    for folder in folders:
        if not folder or not run_dir.exists(Path(folder)):
            raise UserError(
                f"--runs: expected run folders, found {folder!r}, which holds no "
                f"{run_dir.RUN_NAME}; train_lenet.py --logdir makes such a folder"
            )
        place = os.path.realpath(folder)
        if place in places:
            raise UserError(
                f"--runs: {places[place]} and {folder} are the same folder; name it once"
            )
        places[place] = folder
    names = _shortest_names(folders)
    entries = [
        Entry(name, load_run(Path(folder))) for name, folder in zip(names, folders, strict=True)
    ]
    for entry in entries[1:]:
        _require_comparable(entries[0].run, entry.run)
    return tuple(entries)


def _shortest_names(folders: Sequence[str]) -> list[str]:
    """Returns the shortest ends of the paths that tell them apart: `lenet`, or `old/lenet`."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(p[-length:]) for p, length in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        if max(counts.values()) == 1:
            return names
        lengths = [length + (counts[name] > 1) for name, length in zip(names, lengths, strict=True)]


def _require_comparable(first: Run, other: Run) -> None:
    """Refuses two runs whose answers to one split would not mean the same."""
    if first.image_shape != other.image_shape:
        shapes = ["x".join(map(str, run.image_shape)) for run in (first, other)]
        reason = f"the first reads images of {shapes[0]}, the second of {shapes[1]}"
    elif len(first.class_names) != len(other.class_names):
        counts = [len(run.class_names) for run in (first, other)]
        reason = f"the first knows {counts[0]} classes, the second {counts[1]}"
    elif first.class_names != other.class_names:
        pairs = list(zip(first.class_names, other.class_names, strict=True))
        label = next(number for number, (a, b) in enumerate(pairs) if a != b)
        reason = (
            f"class {label} is {pairs[label][0]!r} for the first and {pairs[label][1]!r} for the "
            "second"
        )
    elif first.dataset_digest != other.dataset_digest:
        found = [f"{run.dataset_name} (digest {run.dataset_digest[:12]})" for run in (first, other)]
        reason = f"the first was trained on {found[0]}, the second on {found[1]}"
    else:
        return
    raise UserError(
        f"{first.logdir} and {other.logdir} cannot be compared: {reason}; leave one of them out"
    )
