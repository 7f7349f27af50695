"""A model's confusion matrix as a table in HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from eval.comparison.grouping import Model

_WIDEST = 64  # classes; beyond that the most frequent mistakes are listed instead
_MOST_MISTAKES = 30


def show_confusion(model: Model, class_names: Sequence[str]) -> str:
    """Shows how often images of each class were taken for each class.

    Args:
      model: of several runs all are added up.
      class_names: the name of each class.

    Returns:
      A `figure`: the matrix, or with more than 64 classes the most frequent mistakes.
    """
    counts, names = model.confusion, [html.escape(name) for name in class_names]
    runs = f", {len(model.runs)} runs added up" if len(model.runs) > 1 else ""
    table = _tabulate(counts, names) if len(names) <= _WIDEST else _list_mistakes(counts, names)
    label = html.escape(f"Confusion matrix of {model.name}")
    return (
        f"<figure><figcaption>{html.escape(model.name)}{runs}</figcaption>"
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">{table}</div></figure>'
    )


def _tabulate(counts: np.ndarray, names: Sequence[str]) -> str:
    """Fills cells the more, the larger their share of the row; zeros stay empty."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Mistakes have a scale of their own: beside the diagonal they would vanish.
    largest = np.max(shares, where=~np.eye(len(counts), dtype=bool), initial=0.0)
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for label, name in enumerate(names):
        cells = []
        for prediction, count in enumerate(counts[label].tolist()):
            share, is_hit = float(shares[label, prediction]), label == prediction
            depth = 0.9 * share if is_hit else 0.7 * math.sqrt(share / max(float(largest), 1e-9))
            kind = ("hit" if is_hit else "miss") + " deep" * (depth > 0.5)
            cells.append(
                f'<td class="{kind}" style="--depth:{100 * depth:.0f}%" '
                f'title="{name} read as {names[prediction]}: {count:,}">{count}</td>'
                if count
                else "<td></td>"
            )
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="matrix"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _list_mistakes(counts: np.ndarray, names: Sequence[str]) -> str:
    mistakes = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_MOST_MISTAKES]
    lines = []
    for label, prediction in zip(*np.unravel_index(order, counts.shape), strict=True):
        if mistakes[label, prediction]:
            count = mistakes[label, prediction]
            lines.append(
                f'<tr><th scope="row">{names[label]}</th><td class="name">{names[prediction]}</td>'
                f"<td>{count:,}</td></tr>"
            )
    head = "".join(f'<th scope="col">{title}</th>' for title in ("label", "read as", "times"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
