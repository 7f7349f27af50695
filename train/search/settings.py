"""What the trials of a search train with: the given flags, and what is drawn from the space.

A flag may depend on another: momentum counts only where the optimiser drawn uses it, and a named
value only where the model drawn has it. Elsewhere it is neither drawn nor passed on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from model_definition.architecture import ArchitectureError, load_architecture, parse_model_set
from model_definition.mistakes import Mistake, TextError, did_you_mean, or_list
from train.config import TrainConfig, make_config, missing_validation, training_flags, unused_flags
from train.search.space import MODEL_PREFIX, Dimension, load_space

# What decides whether others count, so that it is drawn before them.
_DECIDING = ("model", "optimizer", "schedule")


@dataclass(frozen=True)
class Settings:
    """A space and the flags that every trial has.

    Attributes:
      space_path: the space's file.
      dimensions: what is searched; what decides about others stands first.
      given: the training flags of the command line, by name; they hold for every trial.
      named_values: the named values of each model that may be trained, with the model's own texts.
    """

    space_path: Path
    dimensions: tuple[Dimension, ...]
    given: Mapping[str, Any]
    named_values: Mapping[str, Mapping[str, str]]

    def is_active(self, dimension: Dimension, drawn: Mapping[str, Any]) -> bool:
        """Tells whether a dimension counts.

        Args:
          dimension: the dimension.
          drawn: what was drawn before it, by name.
        """
        flags = self.flags(drawn)
        if dimension.is_model_value:
            return _value_name(dimension) in self.named_values[_model_of(flags)]
        return dimension.name not in unused_flags({**flags, dimension.name: None})

    def flags(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the training flags of a trial, without those that would have no effect.

        Args:
          drawn: the values of the dimensions that count, by name.

        Returns:
          The values by the flag's name; `model_set` as texts such as `width=64`.
        """
        flags, known = dict(self.given), training_flags()
        sets = list(flags.pop("model_set", []))
        for name, value in drawn.items():
            if name.startswith(MODEL_PREFIX):
                sets.append(f"{name.removeprefix(MODEL_PREFIX)}={value}")
            else:
                flags[name] = known[name][0](value)
        if sets:
            flags["model_set"] = sets
        for name in unused_flags(flags):
            del flags[name]
        return flags

    def config(self, drawn: Mapping[str, Any]) -> TrainConfig:
        """Returns the configuration of a trial.

        Args:
          drawn: the values of the dimensions that count, by name.

        Raises:
          UserError: they contradict each other.
        """
        return make_config(self.flags(drawn))

    def split_configs(self) -> list[TrainConfig]:
        """Returns a configuration for each of the --train_splits that trials train on."""
        searched = [one.values for one in self.dimensions if one.name == "train_splits"]
        return [
            self.config({"train_splits": splits} if splits else {})
            for splits in (searched[0] if searched else [None])
        ]

    def default(self, dimension: Dimension, drawn: Mapping[str, Any]) -> Any:
        """Returns what a dimension is where nothing is searched, or None if that is not in range.

        Args:
          dimension: one that counts.
          drawn: what was drawn before it, by name.
        """
        if dimension.is_model_value:
            text = self.named_values[_model_of(self.flags(drawn))][_value_name(dimension)]
            value: Any = text if dimension.kind == "choice" else _number(text)
        else:
            value = training_flags()[dimension.name][1]
        return value if dimension.holds(value) else None


def load_settings(space: str, given: Mapping[str, Any], manifest: Manifest) -> Settings:
    """Reads a space and checks it with the given flags and the models that may be trained.

    Args:
      space: the name of one that comes with the project, or a file's path.
      given: the training flags of the command line, by name.
      manifest: of the dataset, whose images the models must fit.

    Returns:
      What to search.

    Raises:
      TextError: the space has mistakes; names all of them by line.
      UserError: a given flag is wrong or has no effect, there is no such space, or trials have no
        images to be judged on.
    """
    make_config(given)
    path, text, dimensions = load_space(space)
    dimensions = tuple(sorted(dimensions, key=lambda one: one.name not in _DECIDING))
    models = next((one.values for one in dimensions if one.name == "model"), (_model_of(given),))
    named_values = {model: _read_named_values(model, given, manifest) for model in models}
    settings = Settings(path, dimensions, given, named_values)
    mistakes = list(_find_misfits(settings)) or list(_find_wrong_values(settings, manifest))
    if mistakes:
        raise TextError(str(path), text, sorted(mistakes, key=lambda mistake: mistake.line))
    unused = [unused_flags({**given, **case}) for case in _deciding_cases(settings)]
    for name in given:
        if all(name in case for case in unused):
            raise UserError(f"--{name} belongs to {unused[0][name]}; leave it out")
    _require_validation(settings, manifest)
    return settings


def _require_validation(settings: Settings, manifest: Manifest) -> None:
    for config in settings.split_configs():
        if missing_validation(config, manifest):
            raise UserError(
                f"--train_splits={config.train_splits} --validate_on={config.validate_on}: trials "
                "are judged on images that are not trained on, and there are none; leave "
                "--train_splits out, convert the dataset with a validation split, or hold out a "
                "fold with --validate_on=1/10"
            )


def _model_of(flags: Mapping[str, Any]) -> str:
    return flags.get("model", TrainConfig.model)


def _value_name(dimension: Dimension) -> str:
    return dimension.name.removeprefix(MODEL_PREFIX)


def _number(text: str) -> float | None:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return None


def _read_named_values(
    model: str, given: Mapping[str, Any], manifest: Manifest
) -> Mapping[str, str]:
    return load_architecture(
        model,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
        values=parse_model_set(given.get("model_set", ())),
    ).values


def _deciding_cases(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yields every combination of those choices on which it depends what else counts."""
    deciding = [one for one in settings.dimensions if one.name in _DECIDING]
    for values in itertools.product(*(one.values for one in deciding)):
        yield dict(zip((one.name for one in deciding), values, strict=True))


def _find_misfits(settings: Settings) -> Iterator[Mistake]:
    """Finds lines that do not go with the given flags, or never count."""
    given_values = parse_model_set(settings.given.get("model_set", ()))
    for one in settings.dimensions:
        place = one.places[0]
        if one.is_model_value and _value_name(one) in given_values:
            message = f"--model_set={_value_name(one)} is given too; remove one of the two"
            yield Mistake(place, message)
        elif one.name in settings.given:
            yield Mistake(place, f"--{one.name} is given too; remove one of the two")
        elif not any(settings.is_active(one, case) for case in _deciding_cases(settings)):
            if one.is_model_value:
                known = sorted({name for names in settings.named_values.values() for name in names})
                hint = did_you_mean(_value_name(one), known)
                there = f"it names {or_list(known)}" if known else "it names none"
                models = or_list(settings.named_values)
                message = f"{models} has no named value {_value_name(one)}{hint}; {there}"
            else:
                flags = {**settings.given, one.name: None}
                message = f"{one.name} belongs to {unused_flags(flags)[one.name]}; remove it"
            yield Mistake(place, message)


def _find_wrong_values(settings: Settings, manifest: Manifest) -> Iterator[Mistake]:
    """Finds values with which a trial could not begin: each choice, and both ends of a range.

    Each is tried beside the first values of the others, and beside their last ones.
    """
    told = set()
    built: dict[tuple[Any, ...], str | None] = {}
    for case, end in itertools.product(_deciding_cases(settings), (0, -1)):
        drawn = dict(case)
        for one in settings.dimensions:
            if one.name not in drawn and settings.is_active(one, drawn):
                drawn[one.name] = one.values[end]
        for one in settings.dimensions:
            if one.name not in drawn:
                continue
            for value, place in zip(one.values, one.places[1:], strict=True):
                if one.name in case and value != case[one.name]:
                    continue  # A case of its own.
                message = _try(settings, {**drawn, one.name: value}, manifest, built)
                if message and message not in told:
                    told.add(message)
                    yield Mistake(place, message)


def _try(
    settings: Settings,
    drawn: Mapping[str, Any],
    manifest: Manifest,
    built: dict[tuple[Any, ...], str | None],
) -> str | None:
    """Returns what is wrong with a trial's values; `built` keeps what was said of each model."""
    try:
        config = settings.config(drawn)
    except UserError as error:
        return str(error)
    key = (config.model, config.model_set)
    if key not in built:
        try:
            load_architecture(
                config.model,
                image_shape=manifest.image_shape,
                num_classes=len(manifest.class_names),
                values=dict(config.model_set),
            )
            built[key] = None
        except ArchitectureError as error:
            values = " ".join(f"{name}={value}" for name, value in config.model_set)
            built[key] = f"with {values} the model is wrong: {str(error).splitlines()[0]}"
    return built[key]
