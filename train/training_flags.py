"""The training flags on a command line, for every script that trains."""

from __future__ import annotations

from typing import Any

from absl import flags

from train.config import CHOICES, training_flags

HELP = {
    "model": "A network of the zoo, or a text file's path.",
    "model_set": "Sets a named value of the model's text, such as width=64.",
    "train_splits": "What to train on, such as train+validation.",
    "train_limit": "Trains on so many images, each class in proportion.",
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
    "clip_norm": "Largest norm of the gradient; 0 for any.",
    "ema_decay": "Decay of the weights' moving average; 0 for none.",
    "patience": "Stops after so many validations without improvement; 0 for never.",
    "validate_every_steps": "Steps between validations. [an epoch's]",
    "summary_every_steps": "Steps between TensorBoard's scalars.",
    "keep_checkpoints": "Last checkpoints to keep, besides the best.",
    "cache_mb": "Images up to this size (MB) stay in memory.",
    "seed": "Decides weights, order, dropout and distortions.",
    "precision": "Arithmetic of training; auto takes bfloat16 where the processor has it.",
    "shift": "Augmentation: largest shift, a share of the side.",
    "rotation": "Augmentation: largest rotation, in degrees.",
    "zoom": "Augmentation: largest change of scale, a share.",
    "shear": "Augmentation: largest slant, in degrees.",
    "elastic": "Augmentation: elastic distortion's alpha, in pixels.",
}


def define_training_flags() -> None:
    """Defines the training flags, with the defaults of `TrainConfig`.

    It checks their ranges too, so that a recipe's values and a caller's pass the same checks.
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
