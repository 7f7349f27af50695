"""A search space is a text file: what to search, one a line, and where.

    # The first comment says what it is.
    learning_rate  log     1e-4 3e-2       between two numbers, evenly by their logarithms
    shift          uniform 0 0.1           between two numbers
    epochs         int     1 4             whole numbers, both ends included; step=2 for some
    batch_size     log_int 16 256          whole numbers, evenly by their logarithms
    optimizer      choice  adam momentum   one of these; a single one holds for every trial
    model.width    int     16 64           a named value of the model's text

Any training flag can be searched, by its name. Those that come with the project stand in `spaces/`.
This module knows the words of one line; how the lines go together is in `settings.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from model_definition.mistakes import (
    Mistake,
    MistakeFound,
    Place,
    TextError,
    did_you_mean,
    or_list,
    quote,
    split_lines,
)
from train.config import make_config, training_flags
from train.shipped_texts import ShippedTexts

SPACES = Path(__file__).resolve().parents[1] / "spaces"
MODEL_PREFIX = "model."

_SPACES = ShippedTexts(SPACES, "space", "what to search")
_USAGES = {
    "uniform": "uniform LOW HIGH",
    "log": "log LOW HIGH",
    "int": "int LOW HIGH [step=STEP]",
    "log_int": "log_int LOW HIGH",
    "choice": "choice A B …",
}
_KINDS_OF: Mapping[type, tuple[str, ...]] = {
    int: ("int", "log_int", "choice"),
    float: ("uniform", "log", "int", "choice"),
    str: ("choice",),
}
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "a word"}
_DIGITS = 4  # of a number that is drawn: more would say nothing, and make a recipe hard to read


@dataclass(frozen=True)
class Dimension:
    """One line of a space.

    Attributes:
      name: a training flag, or `model.` and a named value of the model's text.
      kind: `uniform`, `log`, `int`, `log_int` or `choice`.
      values: the choices; of the other kinds both ends, the lower one first.
      step: of `int`, how far its values lie apart; of the other kinds 1.
      places: where the name stands, and each value.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    step: int
    places: tuple[Place, ...]

    @property
    def is_model_value(self) -> bool:
        """Whether it is a named value of the model's text, and no flag."""
        return self.name.startswith(MODEL_PREFIX)

    @property
    def range(self) -> str:
        """What is searched, in the words of the text: `int 16 64 step=8`."""
        words = [self.kind, *map(str, self.values)]
        return " ".join(words if self.step == 1 else [*words, f"step={self.step}"])

    def settle(self, value: Any) -> Any:
        """Rounds a number that was drawn to what is trained with, within the range."""
        if self.kind not in ("uniform", "log"):
            return value
        low, high = self.values
        return min(max(float(f"{value:.{_DIGITS}g}"), low), high)

    def holds(self, value: Any) -> bool:
        """Tells whether a value can be drawn."""
        if self.kind == "choice":
            return value in self.values
        low, high = self.values
        whole = self.kind in ("int", "log_int")
        is_number = isinstance(value, int | float) and low <= value <= high
        return is_number and (not whole or (value - low) % self.step == 0)


def list_spaces() -> dict[str, str]:
    """Returns the first comment of each space that comes with the project, by name."""
    return _SPACES.describe()


def load_space(space: str) -> tuple[Path, str, tuple[Dimension, ...]]:
    """Reads a space and checks each of its lines.

    Args:
      space: the name of one that comes with the project, or a file's path.

    Returns:
      The file's path, its text, and its lines.

    Raises:
      TextError: it has mistakes; names all of them by line.
      UserError: there is no such file, or it is no text.
    """
    path, text = _SPACES.read(space)
    dimensions: list[Dimension] = []
    mistakes: list[Mistake] = []
    for number, line in enumerate(split_lines(text), start=1):
        words = [
            (found.group(), Place(number, found.start() + 1, len(found.group())))
            for found in re.finditer(r"\S+", line.partition("#")[0])
        ]
        if not words:
            continue
        try:
            dimension = _parse_line(words)
            _require_new(dimension, dimensions)
            dimensions.append(dimension)
        except _MistakeAt as error:
            mistakes.append(Mistake(error.place, str(error)))
    if not dimensions and not mistakes:
        message = "found nothing to search; a line is such as learning_rate log 1e-4 3e-2"
        mistakes.append(Mistake(Place(1), message))
    if mistakes:
        raise TextError(str(path), text, mistakes)
    return path, text, tuple(dimensions)


class _MistakeAt(MistakeFound):
    """Something wrong in a word of a line."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


_Words = list[tuple[str, Place]]


def _require_new(dimension: Dimension, others: list[Dimension]) -> None:
    for other in others:
        if other.name == dimension.name:
            raise _MistakeAt(
                f"{dimension.name} stands in line {other.places[0].line} already; keep one of them",
                dimension.places[0],
            )


def _parse_line(words: _Words) -> Dimension:
    (name, place), *rest = words
    value_type = _type_of(name, place)
    if not rest:
        raise _MistakeAt(f"{name} lacks its range; write {name} {or_list(_USAGES.values())}", place)
    (kind, kind_place), *rest = rest
    known = list(_USAGES) if value_type is None else list(_KINDS_OF[value_type])
    if kind not in _USAGES:
        message = f"unknown kind of range {quote(kind)}{did_you_mean(kind, known)}; "
        usages = or_list(_USAGES[one] for one in known)
        raise _MistakeAt(f"{message}expected {usages}", kind_place)
    if value_type is not None and kind not in known:
        raise _MistakeAt(
            f"{name} is {_TYPE_NAMES[value_type]}, so its range is not {kind}; expected "
            f"{or_list(_USAGES[one] for one in known)}",
            kind_place,
        )
    step, rest = _parse_step(kind, rest)
    if kind == "choice":
        values = _parse_choices(name, value_type or str, rest, kind_place)
    else:
        values = _parse_ends(kind, rest, kind_place)
    dimension = Dimension(name, kind, values, step, (place, *(place for _, place in rest)))
    _check_step(dimension)
    _check_range(dimension, value_type)
    return dimension


def _type_of(name: str, place: Place) -> type | None:
    """Returns the type of what is searched; None for a named value, which may be anything."""
    if name.startswith(MODEL_PREFIX):
        if name == MODEL_PREFIX:
            raise _MistakeAt("model. lacks the value's name; write model.width", place)
        return None
    flags = training_flags()
    if name.startswith("--"):
        raise _MistakeAt(f"write {name.lstrip('-').partition('=')[0]} without its dashes", place)
    if name not in flags:
        raise _MistakeAt(
            f"unknown training flag {quote(name)}{did_you_mean(name, flags)}; a line begins with "
            "one, or with model. and a named value of the model's text",
            place,
        )
    value_type = flags[name][0]
    if value_type is tuple:
        raise _MistakeAt(f"{name} cannot be searched; write model.width for its width", place)
    return value_type


def _parse_step(kind: str, words: _Words) -> tuple[int, _Words]:
    """Returns the step, 1 where none is written, and the other words."""
    options = [(text, place) for text, place in words if "=" in text and kind != "choice"]
    for text, place in options:
        found = re.fullmatch("step=([1-9][0-9]{0,8})", text)
        if kind != "int" or not found or len(options) > 1:
            raise _MistakeAt(f"found {quote(text)}, expected {_USAGES[kind]}", place)
    step = int(options[0][0].partition("=")[2]) if options else 1
    return step, [word for word in words if word not in options]


def _parse_choices(name: str, value_type: type, words: _Words, place: Place) -> tuple[Any, ...]:
    values: list[Any] = []
    for text, word_place in words:
        try:
            value = value_type(text)
        except ValueError:
            raise _MistakeAt(
                f"{name} is {_TYPE_NAMES[value_type]}, found {quote(text)}", word_place
            ) from None
        if value in values:
            raise _MistakeAt(f"{text} is there twice; keep one of them", word_place)
        values.append(value)
    if not values:
        raise _MistakeAt(f"{name} has nothing to choose from; expected {_USAGES['choice']}", place)
    return tuple(values)


def _parse_ends(kind: str, words: _Words, place: Place) -> tuple[Any, ...]:
    number_type = int if kind in ("int", "log_int") else float
    if len(words) != 2:
        raise _MistakeAt(f"found {len(words)} number(s), expected {_USAGES[kind]}", place)
    ends: list[float] = []
    for text, word_place in words:
        try:
            ends.append(number_type(text))
        except ValueError:
            ends.append(math.nan)
        if not math.isfinite(ends[-1]):
            raise _MistakeAt(
                f"found {quote(text)}, expected {_TYPE_NAMES[number_type]}", word_place
            )
        if kind.startswith("log") and ends[-1] <= 0:
            raise _MistakeAt(f"{kind} has no {text}: its ends are above 0", word_place)
    if ends[0] >= ends[1]:
        raise _MistakeAt(
            f"LOW is {words[0][0]} and HIGH is {words[1][0]}; expected the lower one first",
            words[1][1],
        )
    return tuple(ends)


def _check_step(dimension: Dimension) -> None:
    if dimension.step > 1:
        low, high = dimension.values
        if (high - low) % dimension.step:
            last = high - (high - low) % dimension.step
            raise _MistakeAt(
                f"steps of {dimension.step} from {low} do not reach {high}; the last one is {last}",
                dimension.places[2],
            )


def _check_range(dimension: Dimension, value_type: type | None) -> None:
    """Lets the configuration check both ends, or every choice."""
    if value_type is None:
        return
    for value, place in zip(dimension.values, dimension.places[1:], strict=True):
        try:
            make_config({dimension.name: value_type(value)})
        except UserError as error:
            raise _MistakeAt(str(error), place) from None
