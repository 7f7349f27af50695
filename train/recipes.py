"""A recipe is a text file of training flags, one a line: a run that somebody thought through.

    # The first comment says what it is.
    --model=lenet
    --rotation=15  # degrees

Those that come with the project stand in `recipes/`; a path names any other. What is given on the
command line takes the place of a recipe's flag.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.command_line import UserError, log
from model_definition.mistakes import did_you_mean, split_lines
from train.config import make_config, training_flags, unused_flags
from train.shipped_texts import ShippedTexts

RECIPES = Path(__file__).resolve().parent / "recipes"

_RECIPES = ShippedTexts(RECIPES, "recipe", "flags")
_MOST_MISTAKES = 10  # told of one file
# Where one of these is given, what the recipe says of the other one no longer holds.
_TAKES_THE_PLACE_OF = {"epochs": "max_steps", "max_steps": "epochs", "model": "model_set"}


@dataclass(frozen=True)
class Recipe:
    """What a recipe's file holds.

    Attributes:
      text: the whole file, comments included.
      flags: the flags' values by name; `model_set` as a list of texts such as `width=64`.
    """

    text: str
    flags: Mapping[str, Any]


def list_recipes() -> dict[str, str]:
    """Returns the first comment of each recipe that comes with the project, by name."""
    return _RECIPES.describe()


def describe_recipes() -> str:
    """Returns a line for each recipe that comes with the project: its name and what it is."""
    recipes = list_recipes()
    width = max(map(len, recipes))
    return "\n".join(f"{name:<{width}}  {what}" for name, what in recipes.items())


def load_recipe(recipe: str, known: flags.FlagValues) -> Recipe:
    """Reads and checks a recipe.

    Args:
      recipe: the name of one that comes with the project, or a file's path.
      known: the script's flags, whose parsers read the values.

    Returns:
      The recipe.

    Raises:
      UserError: there is no such recipe, or it has mistakes; names all of them by line.
    """
    path, text = _RECIPES.read(recipe)
    values, mistakes = _parse(text, known)
    if mistakes:
        told = [f"line {line}: {message}" for line, message in mistakes[:_MOST_MISTAKES]]
        if len(mistakes) > _MOST_MISTAKES:
            told.append(f"and {len(mistakes) - _MOST_MISTAKES} more")
        raise UserError(f"{path}, {'; '.join(told)}")
    return Recipe(text, values)


def override_recipe(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the flags of the command line in the place of a recipe's, and logs what that changes.

    A recipe's flag that has no effect beside those is left out; one of the command line stays.

    Args:
      recipe: the recipe.
      given: the flags of the command line, by name.

    Returns:
      The flags of both, by name.
    """
    kept, given = dict(recipe.flags), dict(given)
    for name, value in given.items():
        moot = _TAKES_THE_PLACE_OF.get(name)
        if moot in kept and kept.get(name) != value:
            _log_loss(moot, kept.pop(moot), f"gives way to --{name}={value}")
    if "model_set" in kept and "model_set" in given:
        given["model_set"] = _merge_model_sets(kept.pop("model_set"), given["model_set"])
    for name, value in given.items():
        if kept.pop(name, value) != value:
            _log_loss(name, recipe.flags[name], f"gives way to --{name}={value}")
    merged = {**kept, **given}
    for name, where in unused_flags(merged).items():
        if name in kept:
            _log_loss(name, merged.pop(name), f"belongs to {where}, and is left out")
    return merged


def _log_loss(name: str, value: Any, reason: str) -> None:
    for one in value if isinstance(value, list) else [value]:
        log(f"the recipe's --{name}={one} {reason}")


def _merge_model_sets(old: list[str], given: list[str]) -> list[str]:
    """Puts named values of the command line in the place of a recipe's of the same names."""
    names = {text.partition("=")[0] for text in given}
    kept = [text for text in old if text.partition("=")[0] not in names]
    lost = [text for text in old if text not in kept and text not in given]
    _log_loss("model_set", lost, "gives way to the command line's")
    return [*kept, *given]


def _parse(text: str, known: flags.FlagValues) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """Returns the flags of a recipe, and what is wrong with it: lines and messages."""
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}  # where each flag stands
    mistakes: list[tuple[int, str]] = []
    for number, line in enumerate(split_lines(text), start=1):
        flag = re.split(r"(?:^|\s)#", line)[0].strip()
        if not flag:
            continue
        try:
            name, value = _parse_flag(flag, known)
            if name in lines and not isinstance(value, list):
                raise UserError(f"--{name} stands in line {lines[name]} already; keep one of them")
            make_config({name: value})  # Checks its range.
        except UserError as error:
            mistakes.append((number, str(error)))
            continue
        lines[name] = number
        values[name] = values[name] + value if name in values else value
    if not lines and not mistakes:
        mistakes.append((1, "found no flag; a recipe has one a line, such as --batch_size=64"))
    if not mistakes:  # Each flag is right, now all of them together.
        for name, where in unused_flags(values).items():
            mistakes.append((lines[name], f"--{name} belongs to {where}; leave it out"))
        try:
            make_config(values)
        except UserError as error:
            mistakes.append((max(lines.values()), str(error)))
    return values, sorted(mistakes)


def _parse_flag(text: str, known: flags.FlagValues) -> tuple[str, Any]:
    """Reads `--name=value` with the flag's own parser; a repeatable flag's value is a list."""
    match = re.fullmatch(r"--(\w+)=(.*)", text)
    if not match:
        raise UserError(f"found {text!r}, expected a flag such as --batch_size=64")
    name, value = match.groups()
    training = training_flags()
    if name not in training:
        if name in known:
            raise UserError(f"--{name} is not about training; give it on the command line")
        hint = did_you_mean(f"--{name}", [f"--{flag}" for flag in training])
        raise UserError(f"unknown flag --{name}{hint}")
    try:
        parsed = known[name].parser.parse(value)
    except ValueError as error:
        raise UserError(f"--{name}={value}: {error}") from None
    return name, [parsed] if isinstance(known[name], flags.MultiFlag) else parsed
