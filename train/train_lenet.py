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
from train.config import TrainConfig, make_config, unused_flags
from train.recipes import list_recipes, load_recipe, override_recipe
from train.training_flags import define_training_flags, given_training_flags


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder to make or go on with.")
    flags.DEFINE_string(
        "recipe",
        None,
        "Takes the training flags of a recipe, a name or a text file's path; flags given beside it "
        "take the place of the recipe's. help lists the recipes.",
    )
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    define_training_flags()


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
    return command_line.EXIT_STOPPED if result.stopped_by_signal else 0


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
        command_line.log(f"recipe {values.recipe}:\n{recipe.text.rstrip()}")
        given = override_recipe(recipe, given)
    for name, where in unused_flags(given).items():
        raise UserError(f"--{name} belongs to {where}; leave it out")
    return make_config(given)


if __name__ == "__main__":
    command_line.run(main, define_flags)
