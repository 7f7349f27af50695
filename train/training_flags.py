"""The training flags, for every script that trains: one for each field of `TrainConfig`."""

from __future__ import annotations

from typing import Any

from absl import flags

from data_prep.command_line import UserError, log
from train.config import CHOICES, TrainConfig, make_config, training_flags, unused_flags
from train.recipes import load_recipe, override_recipe

flags.disclaim_key_flags()  # They are those of the script that defines them, and in its --help.

HELP = {
    "model": "A network of the zoo, or a text file's path.",
    "model_set": "Sets a named value of the model's text, such as width=64.",
    "train_splits": "What to train on, such as train+validation.",
    "train_limit": "Trains on so many images, each class in proportion.",
    "validate_on": "validation, that split; 1/5, the first of five folds of the training images, "
    "which is then not trained on; or none.",
    "batch_size": "Images a step.",
    "epochs": "Passes over the training images.",
    "max_steps": "Steps in all, instead of --epochs.",
    "optimizer": "The optimiser.",
    "learning_rate": "The largest learning rate of the schedule.",
    "schedule": "How the learning rate changes.",
    "warmup_steps": "Steps of rising learning rate. [30 % of one_cycle's, else none]",
    "decay_rate": "Factor an epoch of the exponential schedule.",
    "momentum": "Momentum of momentum and rmsprop.",
    "beta1": "Adam's decay of the gradient's moving average.",
    "beta2": "Adam's decay of the squared gradient's moving average.",
    "weight_decay": "Decoupled weight decay; 0 for none.",
    "label_smoothing": "Share of the target spread over all classes.",
    "teacher": "A trained run to learn from as well; several joined by commas, or an ensemble.",
    "teacher_share": "Share of the loss that is about the teacher's answers.",
    "teacher_temperature": "Divides the logits of both; a higher one softens the answers.",
    "clip_norm": "Largest norm of the gradient; 0 for any.",
    "ema_decay": "Decay of the weights' moving average; 0 for none.",
    "patience": "Stops after so many validations without improvement; 0 for never.",
    "validate_every_steps": "Steps between validations. [an epoch's]",
    "summary_every_steps": "Steps between TensorBoard's scalars.",
    "keep_checkpoints": "Last checkpoints to keep, besides the best.",
    "cache_mb": "Images up to this size (MB) stay in memory.",
    "seed": "Decides weights, order, dropout and distortions.",
    "precision": "Arithmetic of training; auto takes bfloat16 where the processor has it.",
    "augment": "Augmentation: photo does what photographing a digit does to it.",
    "shift": "Augmentation: largest shift, a share of the side.",
    "rotation": "Augmentation: largest rotation, in degrees.",
    "zoom": "Augmentation: largest change of scale, a share.",
    "shear": "Augmentation: largest slant, in degrees.",
    "elastic": "Augmentation: elastic distortion's alpha, in pixels.",
}


def define_recipe_flag(default: str | None = None) -> None:
    """Defines --recipe; only a script's `define_flags` calls it.

    Args:
      default: the recipe where none is given.
    """
    flags.DEFINE_string(
        "recipe",
        default,
        "Takes the training flags of a recipe, a name or a text file's path; flags given beside it "
        "take the place of the recipe's. help lists the recipes.",
    )


def define_training_flags() -> None:
    """Defines the training flags; only a script's `define_flags` calls it.

    `TrainConfig` has their defaults and checks their ranges, so that a recipe's values and a
    caller's pass the same checks.
    """
    for name, (kind, default) in training_flags().items():
        if name in CHOICES:
            flags.DEFINE_enum(name, default, CHOICES[name], HELP[name])
        elif kind is tuple:
            flags.DEFINE_multi_string(name, list(default), HELP[name])
        elif kind is int:
            flags.DEFINE_integer(name, default, HELP[name])
        elif kind is float:
            flags.DEFINE_float(name, default, HELP[name])
        else:
            flags.DEFINE_string(name, default, HELP[name])


def given_training_flags(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the training flags that stand on the command line, by name.

    Args:
      values: the script's flags, parsed.
    """
    return {name: values[name].value for name in training_flags() if values[name].present}


def read_config(values: flags.FlagValues) -> TrainConfig:
    """Returns what the command line asks for, with its recipe's flags where it names one.

    Args:
      values: the script's flags, parsed.

    Returns:
      The configuration.

    Raises:
      UserError: a flag is out of range or has no effect, or the recipe cannot be read.
    """
    given = given_training_flags(values)
    if values.recipe is not None:
        recipe = load_recipe(values.recipe, values)
        log(f"recipe {values.recipe}:\n{recipe.text.rstrip()}")
        given = override_recipe(recipe, given)
    for name, where in unused_flags(given).items():
        raise UserError(f"--{name} belongs to {where}; leave it out")
    return make_config(given)
