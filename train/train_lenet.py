"""Trains LeNet, or any architecture of a text file, on a dataset folder of TFRecords.

Writes checkpoints, TensorBoard's event files and the exported model to --logdir. Run again with
the same flags, it goes on where it stopped, and ends with the very weights of an uninterrupted run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line

EXIT_STOPPED = 42  # stopped by a signal after saving, as TensorFlow's preemption handler exits


def define_flags() -> None:
    """Defines the script's flags; `TrainConfig` says what each means and checks its range."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder to make or go on with.")
    flags.DEFINE_string("model", "lenet", "A network of the zoo, or a text file's path.")
    flags.DEFINE_string("train_splits", "train", "What to train on, such as train+validation.")
    flags.DEFINE_integer("train_limit", None, "Trains on so many images, each class in proportion.")
    flags.DEFINE_integer("batch_size", 128, "Images a step.")
    flags.DEFINE_float("epochs", None, "Passes over the training images. [3]")
    flags.DEFINE_integer("max_steps", None, "Steps in all, instead of --epochs.")
    flags.DEFINE_enum("optimizer", "adam", ["adam", "momentum", "sgd", "rmsprop"], "The optimiser.")
    flags.DEFINE_float("learning_rate", 0.003, "The largest learning rate of the schedule.")
    flags.DEFINE_enum(
        "schedule",
        "one_cycle",
        ["one_cycle", "cosine", "exponential", "constant"],
        "How the learning rate changes.",
    )
    flags.DEFINE_integer(
        "warmup_steps", None, "Steps of rising learning rate. [30 % of one_cycle's, else none]"
    )
    flags.DEFINE_float("decay_rate", 0.95, "Factor an epoch of the exponential schedule.")
    flags.DEFINE_float("momentum", 0.9, "Momentum of momentum and rmsprop.")
    flags.DEFINE_float("weight_decay", 0.0, "Decoupled weight decay; 0 for none.")
    flags.DEFINE_float("label_smoothing", 0.0, "Share of the target spread over all classes.")
    flags.DEFINE_float("clip_norm", 0.0, "Largest norm of the gradient; 0 for any.")
    flags.DEFINE_float("ema_decay", 0.0, "Decay of the weights' moving average; 0 for none.")
    flags.DEFINE_integer("patience", 0, "Stops after so many validations without improvement.")
    flags.DEFINE_integer("validate_every_steps", None, "Steps between validations. [an epoch's]")
    flags.DEFINE_integer("summary_every_steps", 50, "Steps between TensorBoard's scalars.")
    flags.DEFINE_integer("keep_checkpoints", 3, "Last checkpoints to keep, besides the best.")
    flags.DEFINE_integer("cache_mb", 1024, "Images up to this size (MB) stay in memory.")
    flags.DEFINE_integer("seed", 0, "Decides weights, order, dropout and distortions.")
    flags.DEFINE_enum(
        "precision",
        "auto",
        ["auto", "float32", "bfloat16"],
        "Arithmetic of training; auto takes bfloat16 where the processor has it.",
    )
    flags.DEFINE_float("shift", 0.0, "Augmentation: largest shift, a share of the side.")
    flags.DEFINE_float("rotation", 0.0, "Augmentation: largest rotation, in degrees.")
    flags.DEFINE_float("zoom", 0.0, "Augmentation: largest change of scale, a share.")
    flags.DEFINE_float("shear", 0.0, "Augmentation: largest slant, in degrees.")
    flags.DEFINE_float("elastic", 0.0, "Augmentation: elastic distortion's alpha, in pixels.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")


def main(argv: list[str]) -> int:
    """Trains as the flags say and prints what came of it."""
    command_line.import_tensorflow()
    from dataclasses import fields

    from input_pipeline.augment import Augmentation
    from train.config import TrainConfig
    from train.loop import train

    values = flags.FLAGS
    given: dict[str, Any] = {
        f.name: values[f.name].value for f in fields(TrainConfig) if f.name in values
    }
    distortions: dict[str, Any] = {f.name: values[f.name].value for f in fields(Augmentation)}
    given["augmentation"] = Augmentation(**distortions)
    if values.epochs is None and values.max_steps is None:
        given["epochs"] = TrainConfig.epochs
    result = train(TrainConfig(**given), data_dir=Path(values.data_dir), logdir=Path(values.logdir))
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
        print(f"trained {values.model} on {name}: {result.step:,} steps, {result.seconds:.0f} s")
        if best:
            print(f"best on validation: {best.accuracy:.2%} at step {best.step:,}")
        print("next:")
        print(f"  python eval/evaluate.py --logdir={logdir}")
        print(f"  python predict/predict.py --logdir={logdir} --url=URL")
        print(f"  tensorboard --logdir {Path(logdir).parent}")
    return EXIT_STOPPED if result.stopped_by_signal else 0


if __name__ == "__main__":
    command_line.run(main, define_flags)
