"""The report: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from eval.comparison.charts import Line, draw_lines, series_classes
from eval.comparison.comparing import Comparison
from eval.comparison.grouping import Model
from eval.comparison.matrices import show_confusion
from eval.comparison.pictures import MOST_PICTURES, show_images
from eval.comparison.significance import Difference
from eval.comparison.table import Row, make_rows, titles
from eval.comparison.wording import (
    describe_methods,
    describe_tests,
    describe_what,
    format_p_value,
)

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(comparison: Comparison) -> str:
    """Returns the report of a comparison as HTML."""
    name = html.escape(comparison.name)
    rows = make_rows(comparison.models)
    sections = [
        _section("Results", _show_table(rows) + _show_ranges(comparison.models, rows)),
        _section("Which differences mean something", _show_differences(comparison)),
        _section("Learning curves", _show_curves(comparison.models)),
        _section("Confusion matrices", _show_matrices(comparison)),
        _section("Images on which the models disagree", _show_disputed(comparison)),
        _section("Errors common to all", _show_missed(comparison)),
        _section("How this was measured", _list(describe_methods(comparison))),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: comparison</title>\n"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header><h1>{name}</h1><p>{html.escape(describe_what(comparison))}</p></header>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>"


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"


def _scrollable(label: str, table: str) -> str:
    """Lets what is wider than a phone scroll, by touch and by keyboard."""
    return f'<div class="wide" role="region" aria-label="{label}" tabindex="0">{table}</div>'


def _swatch(series: int) -> str:
    return (
        f'<svg class="swatch line {series_classes(series)}" viewBox="0 0 22 8" aria-hidden="true">'
        '<polyline points="0,4 22,4"/></svg>'
    )


def _show_table(rows: Sequence[Row]) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in ["model", "runs", *titles()])
    lines = []
    for row in rows:
        kind = ' class="run"' if row.is_run else ""
        cells = "".join(f"<td>{text.replace(' ± ', '<br>± ')}</td>" for text in row.texts())
        runs = "" if row.is_run else row.runs
        name = html.escape(row.name)
        lines.append(f'<tr{kind}><th scope="row">{name}</th><td>{runs}</td>{cells}</tr>')
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return _scrollable("Results", table)


def _show_ranges(models: Sequence[Model], rows: Sequence[Row]) -> str:
    """Draws each model's accuracy with its interval, and its runs as rings."""
    bounds = [row.accuracy_95 for row in rows]
    low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
    scale = 100 / max(high - low, 1e-9)
    intervals = [row.accuracy_95 for row in rows if not row.is_run]
    lines = []
    for series, (model, (start, end)) in enumerate(zip(models, intervals, strict=True)):
        accuracies = [run.answers.evaluation.accuracy for run in model.runs]
        mean = sum(accuracies) / len(accuracies)
        rings = "".join(
            f'<i class="ring" style="left:{(each - low) * scale:.2f}%"></i>'
            for each in accuracies
            if len(accuracies) > 1
        )
        lines.append(
            f'<div class="{series_classes(series)}"><span>{html.escape(model.name)}</span>'
            '<div class="track">'
            f'<i class="bar" style="left:{(start - low) * scale:.2f}%;'
            f'width:{(end - start) * scale:.2f}%"></i>{rings}'
            f'<i class="dot" style="left:{(mean - low) * scale:.2f}%"></i></div></div>'
        )
    return (
        f'<figure class="ranges" aria-hidden="true">{"".join(lines)}<figcaption><span></span>'
        f"<span>{low:.2%}</span><span>accuracy, 95 % interval</span><span>{high:.2%}</span>"
        "</figcaption></figure>"
    )


def _show_differences(comparison: Comparison) -> str:
    tests = f"<p>{html.escape(describe_tests(comparison))}</p>"
    if not comparison.differences:
        return tests
    columns = (
        "more accurate",
        "less accurate",
        "by",
        "only one right : only the other",
        "p",
        "p corrected",
        "so",
    )
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    rows = "".join(_show_difference(each) for each in comparison.differences)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return tests + _scrollable("Differences", table)


def _show_difference(difference: Difference) -> str:
    better = html.escape(difference.better.name)
    verdict = f"<b>{better} is better</b>" if difference.is_significant else "no difference shown"
    kind = "good" if difference.is_significant else "none"
    alone = f"{difference.better_alone:,.4g} : {difference.worse_alone:,.4g}"
    return (
        f'<tr><th scope="row">{better}</th><td class="name">{html.escape(difference.worse.name)}'
        f"</td><td>{100 * difference.points:.2f} points</td><td>{alone}</td>"
        f"<td>{_write_p_value(difference.p_value)}</td>"
        f"<td>{_write_p_value(difference.corrected_p_value)}</td>"
        f'<td class="name {kind}">{verdict}</td></tr>'
    )


def _write_p_value(p_value: float) -> str:
    return html.escape(format_p_value(p_value).removeprefix("p ").removeprefix("= "))


def _show_curves(models: Sequence[Model]) -> str:
    errors, losses = [], []
    for series, model in enumerate(models):
        for run in model.runs:
            name, curves = run.entry.name, run.curves
            wrong = [(x, 100 * (1 - accuracy)) for x, accuracy in curves.validation_accuracy]
            errors.append(Line(name, series, wrong))
            losses.append(Line(f"{name}, validation", series, curves.validation_loss))
            losses.append(Line(f"{name}, training", series, curves.training_loss, is_faint=True))
    x_title = "training images seen"
    charts = [
        (title, draw_lines(lines, title=title, x_title=x_title, y_unit=unit))
        for title, lines, unit in (
            ("Errors on the validation split", errors, " %"),
            ("Cross-entropy: validation (dotted lines), training (faint)", losses, ""),
        )
    ]
    figures = [
        f"<figure><figcaption>{title}</figcaption>{chart}</figure>"
        for title, chart in charts
        if chart
    ]
    if not figures:
        return "<p>No run folder tells how its run was trained.</p>"
    legend = "".join(
        f"<li>{_swatch(series)}{html.escape(model.name)}</li>"
        for series, model in enumerate(models)
    )
    return f'<ul class="legend">{legend}</ul><div class="charts">{"".join(figures)}</div>'


def _show_matrices(comparison: Comparison) -> str:
    names = comparison.split.manifest.class_names
    matrices = [show_confusion(model, names) for model in comparison.models]
    return (
        "<p>Rows are labels, columns are predictions.</p>"
        f'<div class="matrices">{"".join(matrices)}</div>'
    )


def _show_disputed(comparison: Comparison) -> str:
    indices = comparison.disagreement.disputed
    if not len(indices):
        return "<p>None: all runs give the same answer to every image.</p>"
    shown = min(len(indices), MOST_PICTURES)
    return (
        f"<p>Different answers from the runs: {len(indices):,} of "
        f"{comparison.split.num_examples:,} images. {_which(shown, len(indices))} on which the "
        "models are most evenly divided.</p>"
        + show_images(indices, comparison.models, comparison.split)
    )


def _show_missed(comparison: Comparison) -> str:
    indices = comparison.disagreement.missed_by_all
    if not len(indices):
        return "<p>None: every image is read right by at least one run.</p>"
    shown = min(len(indices), MOST_PICTURES)
    return (
        f"<p>Misread by every run: {len(indices):,} of {comparison.split.num_examples:,} images. "
        f"{_which(shown, len(indices))} of which the runs are surest.</p>"
        + show_images(indices, comparison.models, comparison.split)
    )


def _which(shown: int, total: int) -> str:
    return "First come those" if shown == total else f"These are the {shown}"
