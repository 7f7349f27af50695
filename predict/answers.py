"""Prints answers: as text for a person, or as CSV for a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from predict.many import Answer
    from predict.reader import ReadDigit, Reading

MOST_ROWS = 10  # of the bars; where there are more classes, the most likely are printed
BAR_WIDTH = 40  # characters for a probability of 1
CSV_COLUMNS = (
    "url", "line", "digit", "class_name", "probability", "score", "is_digit",
    "x", "y", "width", "height", "error",
)  # fmt: skip


def printable(name: str) -> str:
    """Spells what a terminal would obey instead of showing, such as ESC and line breaks."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in name
    )


def format_text(url: str, reading: Reading, class_names: Sequence[str]) -> str:
    """Draws a picture's reading.

    Args:
      url: where the picture was.
      reading: what stands on it.
      class_names: the name of each label.

    Returns:
      Several lines: for one digit a bar for each class, for several the text and a row for each.
    """
    if len(reading.digits) == 1:
        lines = _draw_bars(reading.digits[0], class_names)
    else:
        lines = [*reading.text.split("\n"), "", *_tabulate(reading.digits)]
    return "\n".join([url, *(f"  {line}".rstrip() for line in lines)]) + "\n"


def _draw_bars(digit: ReadDigit, class_names: Sequence[str]) -> list[str]:
    labels = list(range(len(class_names)))
    if len(labels) > MOST_ROWS:
        labels = sorted(labels, key=lambda label: -digit.probabilities[label])[:MOST_ROWS]
    width = max(len(class_names[label]) for label in labels)
    lines = []
    for label in labels:
        share = digit.probabilities[label]
        lines.append(
            f"{class_names[label]:>{width}}  {share:7.2%}  {'█' * round(share * BAR_WIDTH)}"
        )
    if len(labels) < len(class_names):
        lines.append(f"(the {MOST_ROWS} likeliest of {len(class_names)} classes)")
    lines.append(f"This is {digit.class_name}, with a probability of {digit.probability:.2%}.")
    return lines


def _tabulate(digits: Sequence[ReadDigit]) -> list[str]:
    names = [digit.class_name if digit.is_digit else "not a digit" for digit in digits]
    width = max(map(len, ("digit", *names)))
    lines = [f"line  {'digit':<{width}}  probability    score  box (x y width height)"]
    for name, digit in zip(names, digits, strict=True):
        probability = f"{digit.probability:.2%}" if digit.is_digit else ""
        score = "" if digit.score is None else f"{digit.score:.2f}"
        box = " ".join(map(str, digit.box))
        lines.append(f"{digit.line:>4}  {name:<{width}}  {probability:>11}  {score:>7}  {box}")
    return lines


def format_csv(answer: Answer) -> str:
    """Writes a picture's answer as lines of CSV.

    Args:
      answer: to write.

    Returns:
      A line for each digit with the columns `CSV_COLUMNS`; where the picture could not be read, one
      that has but the URL and the error before those of the digits that were rejected.
    """
    import csv  # Imported here, since only this needs it.
    import io

    rows: list[dict[str, object]] = []
    if answer.error is not None:
        rows.append({"url": answer.url, "error": answer.error})
    for digit in answer.reading.digits if answer.reading else ():
        facts = digit.to_json()
        facts["probability"] = digit.probability
        facts["is_digit"] = int(digit.is_digit)
        x, y, width, height = digit.box
        rows.append({"url": answer.url, **facts, "x": x, "y": y, "width": width, "height": height})
    lines = io.StringIO()
    writer = csv.DictWriter(lines, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writerows(rows)
    return lines.getvalue()
