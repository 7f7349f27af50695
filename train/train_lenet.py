"""Trains LeNet, or any architecture of a text file, on a dataset folder of TFRecords.

Writes checkpoints, TensorBoard's event files and the exported model to --logdir. Run again with
the same flags, it goes on where it stopped, and ends with the very weights of an uninterrupted run.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from train.config import CHOICES, TrainConfig, make_config, training_flags, unused_flags
from train.recipes import list_recipes, load_recipe, override_recipe

EXIT_STOPPED = 42  # stopped by a signal after saving, as TensorFlow's preemption handler exits

_HELP = {
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
    "augment": "Augmentation: photo does what photographing a digit does to it.",
    "shift": "Augmentation: largest shift, a share of the side.",
    "rotation": "Augmentation: largest rotation, in degrees.",
    "zoom": "Augmentation: largest change of scale, a share.",
    "shear": "Augmentation: largest slant, in degrees.",
    "elastic": "Augmentation: elastic distortion's alpha, in pixels.",
}


def define_flags() -> None:
    """Defines the script's flags; `TrainConfig` has the defaults of those that are about training.

    It checks their ranges too, so that a recipe's values and a caller's pass the same checks.
    """
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder to make or go on with.")
    flags.DEFINE_string(
        "recipe",
        None,
        "Takes the training flags of a recipe, a name or a text file's path; flags given beside it "
        "take the place of the recipe's. help lists the recipes.",
    )
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    for name, (kind, default) in training_flags().items():
        if name in CHOICES:
            flags.DEFINE_enum(name, default, CHOICES[name], _HELP[name])
        elif kind is tuple:
            flags.DEFINE_multi_string(name, list(default), _HELP[name])
        elif kind is int:
            flags.DEFINE_integer(name, default, _HELP[name])
        elif kind is float:
            flags.DEFINE_float(name, default, _HELP[name])
        else:
            flags.DEFINE_string(name, default, _HELP[name])


def main(argv: list[str]) -> int:
    """Trains as the flags say and prints what came of it."""
    values = flags.FLAGS
    if values.recipe == "help":
        for name, description in list_recipes().items():
            print(f"{name:<12}  {description}")
        return 0
    config = read_config(values)
    command_line.import_tensorflow()
    from train.loop import train

    result = train(config, data_dir=Path(values.data_dir), logdir=Path(values.logdir))
    best = result.best
    if values.json:
        facts = {
            "logdir": values.logdir,
            "dataset": result.run.dataset_name,
            "step": result.step,
            "total_steps": result.total_steps,
            "seconds": round(result.seconds, 1),
            "best": vars(best) if best else None,
            "stopped_by_signal": result.stopped_by_signal,
        }
        print(json.dumps(facts))
    elif result.stopped_by_signal:
        print(
            f"stopped at step {result.step:,} of {result.total_steps:,}; saved in {values.logdir}"
        )
        print("run the same command again to go on")
    else:
        name, logdir = result.run.dataset_name, values.logdir
        print(f"trained {config.model} on {name}: {result.step:,} steps, {result.seconds:.0f} s")
        if best:
            print(f"best on validation: {best.accuracy:.2%} at step {best.step:,}")
        print("next:")
        quoted = shlex.quote(str(logdir))
        print(f"  python eval/evaluate.py --logdir={quoted}")
        print(f"  python predict/predict.py --logdir={quoted} --url=URL")
        print(f"  tensorboard --logdir {shlex.quote(str(Path(logdir).parent))}")
    return EXIT_STOPPED if result.stopped_by_signal else 0


def read_config(values: flags.FlagValues) -> TrainConfig:
    """Returns what the command line asks for, with its recipe's flags where it names one.

    Args:
      values: the script's flags, parsed.

    Returns:
      The configuration.

    Raises:
      UserError: a flag is out of range or has no effect, or the recipe cannot be read.
    """
    given = {name: values[name].value for name in training_flags() if values[name].present}
    if values.recipe is not None:
        recipe = load_recipe(values.recipe, values)
        command_line.log(f"recipe {values.recipe}:\n{recipe.text.rstrip()}")
        given = override_recipe(recipe, given)
    for name, where in unused_flags(given).items():
        raise UserError(f"--{name} belongs to {where}; leave it out")
    return make_config(given)


if __name__ == "__main__":
    command_line.run(main, define_flags)
