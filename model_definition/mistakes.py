"""Mistakes in a text that a user wrote: where they are, and how they are told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from data_prep.command_line import UserError

_MOST_TOLD = 20  # mistakes with their lines; of more, only the lines' numbers are told
_WIDEST_LINE = 100


class MistakeFound(Exception):
    """Something wrong on a line; its text says what and what is allowed, its catcher where.

    Attributes:
      word: the argument or option that is wrong; empty where it is the layer itself.
    """

    def __init__(self, message: str, word: str = "") -> None:
        """Takes what is wrong, and in which word."""
        super().__init__(message)
        self.word = word


@dataclass(frozen=True)
class Place:
    """Where a word stands in a text: its line and its first column, counted from 1."""

    line: int
    column: int = 1
    length: int = 1


@dataclass(frozen=True)
class Mistake:
    """Where a mistake is, and what is wrong and allowed there."""

    place: Place
    message: str

    @property
    def line(self) -> int:
        """The number of the line, counted from 1."""
        return self.place.line


class TextError(UserError):
    """Mistakes in a user's text; its own text shows each with its line and carets under the word.

    Attributes:
      mistakes: all that were found, in the order of the text.
    """

    def __init__(self, filename: str, text: str, mistakes: Iterable[Mistake]) -> None:
        """Takes the text in which the mistakes were found, of which there is one at least."""
        self.mistakes = tuple(mistakes)
        lines = split_lines(text)
        told = [
            f"{filename}, line {mistake.line}: {mistake.message}{_show(mistake.place, lines)}"
            for mistake in self.mistakes[:_MOST_TOLD]
        ]
        untold = self.mistakes[_MOST_TOLD:]
        if untold:
            numbers = ", ".join(str(mistake.line) for mistake in untold[:10])
            more = ", …" if len(untold) > 10 else ""
            told.append(f"and {len(untold)} more: line {numbers}{more}")
        super().__init__("\n".join(told))


class ArchitectureError(TextError):
    """Mistakes in an architecture."""


def _show(place: Place, lines: list[str]) -> str:
    """Returns a line of the text with carets under the word that is meant; nothing if blank."""
    line = "".join(
        " " if letter.isspace() else letter if letter.isprintable() else "?"
        for letter in "".join(lines[place.line - 1 : place.line])
    )
    start = max(0, place.column - 1 - _WIDEST_LINE // 2)
    shown = line[start : start + _WIDEST_LINE]
    indent = place.column - 1 - start
    carets = "^" * min(place.length, len(shown) - indent)
    return f"\n    {shown.rstrip()}\n    {' ' * indent}{carets}" if carets.strip() else ""


def split_lines(text: str) -> list[str]:
    """Splits a text into its lines, whatever ends them; blank ones at the end do not count."""
    return re.split(r"\r\n?|\n", text.rstrip())


def quote(word: str) -> str:
    """Quotes a user's word, cut if it is long."""
    return repr(word if len(word) <= 40 else word[:39] + "…")


def or_list(words: Iterable[str]) -> str:
    """Joins words: `a, b or c`."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean …?)` with the known word that is most alike, or nothing."""
    others = [other for other in known if other != word]
    matches = difflib.get_close_matches(word[:40].lower(), others, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""
