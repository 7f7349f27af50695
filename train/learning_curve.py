"""Measures how accuracy depends on the number of training images: a table, a chart and a CSV.

Trains a run for each of --sizes and each seed, on images chosen by the seed, each class in
proportion. What is there already is not trained again, so a curve that was stopped goes on.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import Manifest, load_manifest
from input_pipeline.folds import parse_fold
from input_pipeline.splits import count_examples, resolve_splits
from model_definition.architecture import load_architecture
from train.config import TrainConfig
from train.curve import (
    CHART_NAME,
    CSV_NAME,
    FOLDS,
    Curve,
    PointKey,
    format_table,
    load_points,
    summarize,
)
from train.recipes import describe_recipes
from train.run_lock import require_folder
from train.training_flags import define_recipe_flag, define_training_flags, read_config


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/curve", "The curve's folder, to make or go on with.")
    flags.DEFINE_list("sizes", "60,300,600,3000,6000,30000,55000", "Numbers of training images.")
    flags.DEFINE_integer("seeds", 3, "Runs of each size, with seeds from 0 on.", 1, 1000)
    flags.DEFINE_string("split", "test", "What the runs are measured on, such as validation.")
    flags.DEFINE_integer(
        "folds",
        None,
        "Measures within the training images instead, by cross-validation of so many folds, to "
        "choose a recipe with.",
        2,
        1000,
    )
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    define_recipe_flag("few")
    define_training_flags()


def main(argv: list[str]) -> int:
    """Trains what is missing, and prints the table."""
    values = flags.FLAGS
    if values.recipe == "help":
        print(describe_recipes())
        return 0
    _refuse_unused(values)
    keys = list_keys(values.sizes, seeds=values.seeds, folds=values.folds)
    config = read_config(values)
    _refuse_of_one_run(config)
    if config.validate_on == "validation":  # The default, which looks beyond the few.
        config = replace(config, validate_on="none")
    data_dir, logdir = Path(values.data_dir), Path(values.logdir)
    manifest = load_manifest(data_dir)
    architecture = load_architecture(
        config.model,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
        values=dict(config.model_set),
    )
    curve = Curve(
        dataset_name=manifest.name,
        dataset_digest=manifest.digest,
        architecture_text=architecture.text,
        measured_on=FOLDS if values.folds else values.split,
        config=config.to_json(),
    )
    require_images(curve, config, keys, manifest)
    require_folder(logdir)
    load_points(logdir, curve)  # Another curve's folder is refused at once.
    command_line.import_tensorflow()
    from train.curve_runs import complete_curve

    points, stopped = complete_curve(curve, config, keys, data_dir=data_dir, logdir=logdir)
    summaries = summarize(points)
    if values.json:
        facts = {
            "logdir": values.logdir,
            "dataset": curve.dataset_name,
            "measured_on": curve.measured_on,
            "sizes": [asdict(entry) for entry in summaries],
            "runs": [asdict(point) for point in points],
            "stopped_by_signal": stopped,
        }
        print(json.dumps(facts))
        return command_line.EXIT_STOPPED if stopped else 0
    if points:
        print(f"{config.model} on {curve.dataset_name}, measured on {curve.measured_on}")
        print(format_table(summaries))
        print(f"{logdir / CSV_NAME}  {logdir / CHART_NAME}")
    if stopped:
        print("stopped; run the same command again to go on")
    return command_line.EXIT_STOPPED if stopped else 0


def _refuse_unused(values: flags.FlagValues) -> None:
    """Refuses flags that the curve sets itself, or that contradict each other."""
    for name, given, reason in (
        ("split", values.folds, "--folds measures on the training images"),
        ("validate_on", values.folds, "--folds leaves each fold out in its turn"),
        ("train_limit", True, "--sizes says on how many images to train"),
        ("seed", True, "--seeds says how many seeds there are, from 0 on"),
    ):
        if values[name].present and given:
            raise UserError(f"{reason}; leave --{name} out")
    if values["validate_on"].present and values.validate_on == "validation":
        raise UserError(
            "--validate_on=validation: those images are not among the few, and the best checkpoint "
            "would be chosen on them; give a fold such as 1/10, or leave it out"
        )


def _refuse_of_one_run(config: TrainConfig) -> None:
    """Refuses a recipe that says what differs between the runs."""
    for name, value in (("train_limit", config.train_limit), ("seed", config.seed)):
        if value:
            raise UserError(
                f"--{name}={value} of the recipe: the runs of a curve differ in that; take another "
                "recipe, or a copy without that line"
            )


def list_keys(sizes: Sequence[str], *, seeds: int, folds: int | None) -> list[PointKey]:
    """Lists the runs of a curve, those on the fewest images first.

    Args:
      sizes: numbers of training images, as texts.
      seeds: runs of each.
      folds: how many folds each of them is cut into; None for no folds.

    Returns:
      The runs.

    Raises:
      UserError: a size is no whole number from 1 on, or stands twice.
    """
    numbers = []
    for text in sizes:
        if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**63):
            raise UserError(
                f"--sizes: found {text!r}, expected whole numbers from 1 on, such as 60,600,6000"
            )
        numbers.append(int(text))
    if len(set(numbers)) < len(numbers) or not numbers:
        raise UserError(f"--sizes={','.join(sizes)}: expected different numbers, at least one")
    parts = [None] if folds is None else [f"{fold}/{folds}" for fold in range(1, folds + 1)]
    return [
        PointKey(images, seed, fold)
        for images in sorted(numbers)
        for seed in range(seeds)
        for fold in parts
    ]


def require_images(
    curve: Curve, config: TrainConfig, keys: Sequence[PointKey], manifest: Manifest
) -> None:
    """Refuses at once what would be refused by one of the runs.

    Args:
      curve: what all runs have in common.
      config: the same, to train with.
      keys: the runs that are asked for.
      manifest: of the dataset.

    Raises:
      UserError: there are too few images, no such split, or it is trained on.
    """
    trained = resolve_splits(config.train_splits, manifest)
    available = count_examples(manifest, trained)
    most, fewest = (pick(key.images for key in keys) for pick in (max, min))
    if most > available:
        raise UserError(
            f"--sizes: {most:,} is more than the {available:,} images of {config.train_splits}; "
            "leave it out, or name more splits with --train_splits"
        )
    folds = [parse_fold(key.fold or config.validate_on) for key in keys[:1]]
    if folds[0] and folds[0].num_folds > fewest:
        raise UserError(
            f"--sizes: {fewest} images do not fill {folds[0].num_folds} folds; leave that size out"
        )
    if curve.measured_on != FOLDS:
        twice = set(resolve_splits(curve.measured_on, manifest)) & set(trained)
        if twice:
            raise UserError(
                f"--split={curve.measured_on}: {min(twice)} is trained on; name another"
            )


if __name__ == "__main__":
    command_line.run(main, define_flags)
