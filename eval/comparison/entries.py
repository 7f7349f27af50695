"""The runs and ensembles that are compared, and whether they can be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError
from model_definition import run_dir
from model_definition.ensemble import ENSEMBLE_NAME, Ensemble, is_ensemble, load_folders
from model_definition.run_dir import Run


@dataclass(frozen=True)
class Entry:
    """One of the things that are compared.

    Attributes:
      name: the end of its folder's path, as long as it must be to be unlike the others'; of several
        folders their ends, joined by `+`.
      ensemble: the run, or several that are averaged.
    """

    name: str
    ensemble: Ensemble

    @property
    def seed(self) -> int | None:
        """That it was trained with; None for an ensemble, and where a run does not tell."""
        return self.ensemble.first.config.get("seed") if self.ensemble.is_single else None


def load_entries(texts: Sequence[str]) -> tuple[Entry, ...]:
    """Reads what is to be compared.

    Args:
      texts: at least two; each a run's or an ensemble's folder, or several of them joined by `+`,
        which are averaged. A folder that has a `+` in its name is that folder.

    Returns:
      One entry for each, in the same order.

    Raises:
      UserError: there are fewer, one is there twice or holds no run, or two runs have different
        classes, images or datasets.
    """
    if len(texts) < 2:
        raise UserError(
            f"--runs: expected at least two run folders, joined by commas; found {len(texts)}"
        )
    folders = [_split(text) for text in texts]
    ensembles = [load_folders(paths) for paths in folders]
    places: dict[frozenset[Path], str] = {}
    for text, ensemble in zip(texts, ensembles, strict=True):
        place = frozenset(run.logdir.resolve() for run in ensemble.runs)
        if place in places:
            what = "run" if ensemble.is_single else "runs"
            raise UserError(
                f"--runs: {places[place]} and {text} name the same {what}; leave one of them out"
            )
        places[place] = text
        for run in ensemble.runs:
            _require_comparable(ensembles[0].first, run)
    names = _shortest_names(folders)
    return tuple(Entry(name, ensemble) for name, ensemble in zip(names, ensembles, strict=True))


def _split(text: str) -> list[Path]:
    """Returns the folders that an entry of `--runs` names."""
    parts = [text] if Path(text).exists() else text.split("+")
    for part in parts:
        if not part or not (run_dir.exists(Path(part)) or is_ensemble(Path(part))):
            where = f" in {text!r}" if part != text else ""
            raise UserError(
                f"--runs: expected run folders, found {part!r}{where}, which holds no "
                f"{run_dir.RUN_NAME} and no {ENSEMBLE_NAME}; train/train_lenet.py writes the one, "
                "train/ensemble.py the other at its end"
            )
    return [Path(part) for part in parts]


def _shortest_names(entries: Sequence[Sequence[Path]]) -> list[str]:
    """Returns the shortest ends of the paths that tell them apart: `lenet`, or `old/lenet`."""
    parts = [[Path(os.path.abspath(path)).parts for path in paths] for paths in entries]
    lengths = [1] * len(parts)
    while True:
        names = [
            "+".join("/".join(part[-length:]) for part in paths)
            for paths, length in zip(parts, lengths, strict=True)
        ]
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
