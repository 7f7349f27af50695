"""Writes the results of a comparison, for people, spreadsheets and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.comparison.comparing import Comparison
from eval.comparison.document import make_document
from eval.comparison.output import CSV_NAME, JSON_NAME, PAGE_NAME, TEXT_NAME
from eval.comparison.page import write_page
from eval.comparison.table import format_rows, make_rows, write_csv
from eval.comparison.wording import (
    describe_difference,
    describe_methods,
    describe_tests,
    describe_what,
)


def write_results(folder: Path, comparison: Comparison) -> tuple[str, dict[str, Any]]:
    """Writes the files of a comparison.

    Args:
      folder: an empty folder.
      comparison: what to write.

    Returns:
      What results.txt and results.json hold.
    """
    text, document = format_text(comparison), make_document(comparison)
    for name, content in (
        (TEXT_NAME, text),
        (CSV_NAME, write_csv(make_rows(comparison.models))),
        (JSON_NAME, json.dumps(document, indent=1, ensure_ascii=False) + "\n"),
        (PAGE_NAME, write_page(comparison)),
    ):
        (folder / name).write_text(content, encoding="utf-8")
    return text, document


def format_text(comparison: Comparison) -> str:
    """Returns the table, the differences and how everything was measured, as lines of text."""
    disagreement = comparison.disagreement
    lines = [
        f"{comparison.name}: {describe_what(comparison)}",
        "",
        format_rows(make_rows(comparison.models)),
        "",
        describe_tests(comparison),
        *(f"  {describe_difference(each)}" for each in comparison.differences),
        "",
        f"different answers from the runs: {len(disagreement.disputed):,} images; "
        f"misread by every run: {len(disagreement.missed_by_all):,}",
        "",
        *describe_methods(comparison),
    ]
    return "\n".join(lines) + "\n"
