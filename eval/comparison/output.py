"""The folder of a comparison, which appears whole or not at all.

results.txt    for people
results.csv    for spreadsheets
results.json   for programs
report.html    for people, with pictures
"""

from __future__ import annotations

import json
from pathlib import Path

from data_prep.command_line import UserError

TEXT_NAME = "results.txt"
CSV_NAME = "results.csv"
JSON_NAME = "results.json"
PAGE_NAME = "report.html"
_NAMES = (TEXT_NAME, CSV_NAME, JSON_NAME, PAGE_NAME)
KIND = "comparison"  # what `kind` is in results.json, by which a comparison's folder is known


def output_folder(output_dir: Path, name: str) -> Path:
    """Checks that a comparison can be written without losing anything else.

    Args:
      output_dir: where comparisons are.
      name: the comparison's.

    Returns:
      Its folder: none yet, or that of an earlier comparison, which will be replaced.

    Raises:
      UserError: the name is no folder's name, or something else has it.
    """
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise UserError(
            f"--name={name}: expected a name for the comparison's folder, such as zoo, without "
            "slashes or a dot at its start; --output_dir says where it goes"
        )
    folder = output_dir / name
    if not folder.exists():
        return folder
    other = f"choose another --name, or move {folder} away"
    if not folder.is_dir():
        raise UserError(f"{folder}: a file; {other}")
    strange = sorted(path.name for path in folder.iterdir() if path.name not in _NAMES)
    if strange:
        raise UserError(f"{folder}: holds {strange[0]}, which no comparison writes; {other}")
    if any(folder.iterdir()) and not _is_comparison(folder / JSON_NAME):
        raise UserError(f"{folder}: its {JSON_NAME} is no comparison's; {other}")
    return folder


def _is_comparison(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        return False
