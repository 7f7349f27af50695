"""Trains LeNet, or any architecture of a text file, on a dataset folder of TFRecords.

Writes checkpoints, TensorBoard's event files and the exported model to --logdir. Run again with
the same flags, it goes on where it stopped, and ends with the very weights of an uninterrupted run.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from train.recipes import describe_recipes
from train.training_flags import define_recipe_flag, define_training_flags, read_config


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder to make or go on with.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    define_recipe_flag()
    define_training_flags()


def main(argv: list[str]) -> int:
    """Trains as the flags say and prints what came of it."""
    values = flags.FLAGS
    if values.recipe == "help":
        print(describe_recipes())
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


if __name__ == "__main__":
    command_line.run(main, define_flags)
