"""What a training run is asked to do: one value that checks itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from data_prep.command_line import UserError
from data_prep.schema import Manifest
from input_pipeline.augmentation import Augmentation
from input_pipeline.folds import Fold, parse_fold
from input_pipeline.splits import resolve_splits
from model_definition.architecture import parse_model_set

OPTIMIZERS = ("adam", "momentum", "sgd", "rmsprop")
SCHEDULES = ("one_cycle", "cosine", "exponential", "constant")
PRECISIONS = ("auto", "float32", "bfloat16")
AUGMENTS = ("none", "photo")

# A run may be taken up again with other values of these: they do not change what a step does. Of
# the model it is the text that counts, its named values filled in, not where it is read from.
_CHANGEABLE = ("model", "model_set", "keep_checkpoints", "summary_every_steps")
# These say when to stop, so changing them carries a finished run on; the learning rates of
# one_cycle and cosine follow the new length.
_EXTENDABLE = ("epochs", "max_steps", "patience")


@dataclass(frozen=True)
class TrainConfig:
    """The flags that decide a run's result, and a few that only decide its records.

    The fields and those of `Augmentation` are the training flags: names, types and defaults.
    """

    model: str = "lenet"  # a name of the zoo, or the path of a text file
    model_set: tuple[tuple[str, str], ...] = ()  # (name, value): the model's named values to set
    train_splits: str = "train"  # a split, or several joined by +
    train_limit: int | None = None  # images, each class in proportion; None for all
    validate_on: str = "validation"  # that split; K/N, a fold of the training images; or none
    batch_size: int = 128  # images a step
    epochs: float | None = 3.0  # passes over the training images; None where max_steps decides
    max_steps: int | None = None  # steps; None where epochs decide
    optimizer: str = "adam"  # one of OPTIMIZERS
    learning_rate: float = 0.003  # the schedule's largest
    schedule: str = "one_cycle"  # one of SCHEDULES
    warmup_steps: int | None = None  # steps of linear rise; None: 30 % for one_cycle, else none
    decay_rate: float = 0.95  # exponential: factor an epoch
    momentum: float = 0.9  # of momentum and rmsprop
    beta1: float = 0.9  # adam: decay of the gradient's moving average
    beta2: float = 0.999  # adam: decay of the squared gradient's moving average
    weight_decay: float = 0.0  # decoupled: weights shrink by rate x this in every step
    label_smoothing: float = 0.0  # share of the target spread over all classes
    teacher: str = ""  # runs to learn from as well, named as --logdir names them; empty for none
    teacher_share: float = 0.9  # of the loss that is about the teacher's answers
    teacher_temperature: float = 3.0  # by which the logits of both are divided
    clip_norm: float = 0.0  # largest norm of the gradient; 0 for any
    ema_decay: float = 0.0  # of the moving average of the weights; 0 for none
    patience: int = 0  # validations without improvement before stopping; 0 for never
    validate_every_steps: int | None = None  # None for once an epoch
    summary_every_steps: int = 50  # scalars; images and histograms come with each validation
    keep_checkpoints: int = 3  # how many of the last to keep, besides the best
    cache_mb: int = 1024  # images up to this size stay in memory
    seed: int = 0  # weights, order, dropout and distortions
    precision: str = "auto"  # one of PRECISIONS
    augment: str = "none"  # one of AUGMENTS: photo does what cameras and the finding of ink do
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Checks the ranges and that the values agree with each other."""
        if (self.epochs is None) == (self.max_steps is None):
            raise UserError("--epochs and --max_steps: set one of them; the other one follows")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"--{name}={getattr(self, name)}: expected {' or '.join(choices)}")
        for name, low, high, wanted in _RANGES:
            value = getattr(self, name)
            if value is not None and not (low <= value < high and math.isfinite(value)):
                raise UserError(f"--{name}={value}: expected {wanted}")
        if self.validate_on not in ("validation", "none") and not self.fold:
            raise UserError(
                f"--validate_on={self.validate_on}: expected validation, none, or a fold of the "
                "training images such as 1/5"
            )

    @property
    def fold(self) -> Fold | None:
        """The fold of the training images to validate on; None where it is no fold."""
        return parse_fold(self.validate_on)

    def total_steps(self, num_examples: int) -> int:
        """Returns how many steps the run makes, at least 1.

        Args:
          num_examples: images in one epoch.
        """
        if self.max_steps is not None:
            return self.max_steps
        assert self.epochs is not None, "checked when it was made"
        return max(1, math.ceil(self.epochs * num_examples / self.batch_size))

    def validation_steps(self, num_examples: int) -> int:
        """Returns how many steps lie between two validations, at least 1.

        Args:
          num_examples: images in one epoch.
        """
        return self.validate_every_steps or max(1, math.ceil(num_examples / self.batch_size))

    def to_json(self) -> dict[str, Any]:
        """Returns the values by name, as `run.json` keeps them."""
        return {**asdict(self), "model_set": dict(self.model_set)}


CHOICES = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "augment": AUGMENTS,
}
_RANGES = (
    ("train_limit", 1, 2**63, "a whole number, at least 1"),
    ("batch_size", 1, 100_001, "a whole number from 1 to 100000"),
    ("epochs", 1e-9, 1e6, "a number above 0 and below 1000000"),
    ("max_steps", 1, 2**31, "a whole number, at least 1"),
    ("learning_rate", 0.0, 1e6, "a number from 0 to below 1000000"),
    ("warmup_steps", 0, 2**31, "a whole number, at least 0"),
    ("decay_rate", 1e-9, 1.0 + 1e-9, "a number above 0, at most 1"),
    ("momentum", 0.0, 1.0, "a number from 0 to below 1"),
    ("beta1", 0.0, 1.0, "a number from 0 to below 1"),
    ("beta2", 0.0, 1.0, "a number from 0 to below 1"),
    ("weight_decay", 0.0, 1e3, "a number from 0 to below 1000"),
    ("label_smoothing", 0.0, 1.0, "a number from 0 to below 1"),
    ("teacher_share", 1e-9, 1.0 + 1e-9, "a number above 0, at most 1"),
    ("teacher_temperature", 1e-3, 1e3, "a number from 0.001 to below 1000"),
    ("clip_norm", 0.0, math.inf, "a number, at least 0"),
    ("ema_decay", 0.0, 1.0, "a number from 0 to below 1"),
    ("patience", 0, 2**31, "a whole number, at least 0"),
    ("validate_every_steps", 1, 2**31, "a whole number, at least 1"),
    ("summary_every_steps", 1, 2**31, "a whole number, at least 1"),
    ("keep_checkpoints", 1, 10_000, "a whole number from 1 to 9999"),
    ("cache_mb", 1, 2**31, "a whole number, at least 1"),
    ("seed", 0, 2**31, "a whole number from 0 to 2147483647"),
)
# A flag, the flag that decides whether it is used, and the values with which it is; none for any.
_BELONGS_TO = (
    ("momentum", "optimizer", ("momentum", "rmsprop")),
    ("beta1", "optimizer", ("adam",)),
    ("beta2", "optimizer", ("adam",)),
    ("decay_rate", "schedule", ("exponential",)),
    ("teacher_share", "teacher", ()),
    ("teacher_temperature", "teacher", ()),
)


def training_flags() -> dict[str, tuple[type, Any]]:
    """Returns the type and the default of every training flag, by name.

    Returns:
      The type of a value is str, int or float, or tuple where the flag may be repeated.
    """
    found = {}
    for owner in (TrainConfig, Augmentation):
        for name, hint in get_type_hints(owner).items():
            if name != "augmentation":  # Its fields are flags of their own.
                kind = get_args(hint)[0] if isinstance(hint, UnionType) else hint  # int | None
                found[name] = (get_origin(kind) or kind, getattr(owner, name))
    return found


def make_config(given: Mapping[str, Any]) -> TrainConfig:
    """Makes a configuration from the training flags that are given; the others keep their defaults.

    Args:
      given: values by the flag's name; `model_set` as texts such as `width=64`. With `max_steps`
        the default of `epochs` does not count.

    Returns:
      The configuration.

    Raises:
      UserError: a value is out of range, or two contradict each other.
    """
    values = dict(given)
    if "max_steps" in values:
        values.setdefault("epochs", None)
    values["model_set"] = tuple(parse_model_set(values.get("model_set", ())).items())
    distortions = {f.name: values.pop(f.name) for f in fields(Augmentation) if f.name in values}
    return TrainConfig(**values, augmentation=Augmentation(**distortions))


def missing_validation(config: TrainConfig, manifest: Manifest) -> str | None:
    """Tells why a run has nothing to validate on; None where it has.

    Args:
      config: what to train and how.
      manifest: of the dataset.

    Raises:
      UserError: there is no such split.
    """
    splits = resolve_splits(config.train_splits, manifest)
    if config.validate_on == "none":
        return "--validate_on=none"
    if config.fold is None and "validation" in splits:
        return "the validation split is trained on"
    if config.fold is None and "validation" not in manifest.splits:
        return "the dataset has no validation split"
    return None


def unused_flags(given: Mapping[str, Any]) -> dict[str, str]:
    """Finds flags that would change nothing, since whoever gave them expects that they do.

    Args:
      given: values by the flag's name.

    Returns:
      Where each such flag belongs, by its name: `--schedule=exponential`.
    """
    return {
        name: f"--{other}={' or '.join(values) or 'RUN'}"
        for name, other, values in _BELONGS_TO
        if name in given and not _is_among(given.get(other, getattr(TrainConfig, other)), values)
    }


def _is_among(value: str, values: tuple[str, ...]) -> bool:
    return value in values if values else bool(value)


def changed_flags(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    """Compares the flags of a run with those that it is taken up again with.

    Args:
      old: as `run.json` has them.
      new: as `TrainConfig.to_json` gives them.

    Returns:
      Lines such as `batch_size: 128 in the run, 64 now`, under `refused` for flags that decide
      the result and under `extended` for those that only say when to stop.
    """
    changed: dict[str, list[str]] = {"refused": [], "extended": []}
    defaults = TrainConfig().to_json()
    for name in sorted(set(old) | set(new)):
        # A flag that is newer than the run did in it what its default does.
        before, now = old.get(name, defaults.get(name)), new.get(name)
        if before != now and name not in _CHANGEABLE:
            kind = "extended" if name in _EXTENDABLE else "refused"
            changed[kind].append(f"{name}: {before} in the run, {now} now")
    return changed
