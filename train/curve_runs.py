"""Trains the runs of a learning curve that are missing, and measures each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.command_line import log
from data_prep.schema import Manifest, load_manifest
from input_pipeline.folds import parse_fold
from input_pipeline.splits import count_examples, resolve_splits
from model_definition.architecture import parse_architecture
from model_definition.checkpoints import choose_checkpoint
from model_definition.run_dir import write_atomically
from train.config import TrainConfig
from train.curve import (
    CHART_NAME,
    FOLDS,
    Curve,
    Point,
    PointKey,
    load_points,
    run_config,
    summarize,
    write_curve,
)
from train.curve_chart import draw_chart
from train.hooks import StopOnSignalHook
from train.loop import TrainResult, train
from train.plan import ImageSet
from train.run_lock import locked
from train.validation import History, Validator


def complete_curve(
    curve: Curve,
    config: TrainConfig,
    keys: Sequence[PointKey],
    *,
    data_dir: Path,
    logdir: Path,
) -> tuple[list[Point], bool]:
    """Trains and measures what is missing of a curve; its files are written with every point.

    Args:
      curve: what all runs have in common.
      config: the same, to train with.
      keys: the runs that are asked for.
      data_dir: the dataset folder.
      logdir: the curve's folder.

    Returns:
      The points that the folder holds then, and whether a signal came before all were there.

    Raises:
      UserError: the folder does not fit, or training diverged.
    """
    manifest = load_manifest(data_dir)
    signals = StopOnSignalHook()
    with locked(logdir), signals.listening():
        points = load_points(logdir, curve)
        missing = [key for key in keys if key not in {point.key for point in points}]
        if len(missing) < len(keys):
            log(f"{len(keys) - len(missing)} of {len(keys)} runs are there already")
        for done, key in enumerate(missing):
            log(f"run {done + 1} of {len(missing)}: {key.folder}")
            result = train(
                run_config(config, key),
                data_dir=data_dir,
                logdir=logdir / key.folder,
                signals=signals,
            )
            if result.stopped_by_signal:
                return points, True
            points.append(_measure(curve, key, result, data_dir, manifest))
            write_curve(logdir, curve, points)
            write_atomically(logdir / CHART_NAME, _draw(curve, config, points))
            if signals.stopped:  # while it was exported or measured
                return points, done + 1 < len(missing)
    return points, False


def _measure(
    curve: Curve, key: PointKey, result: TrainResult, data_dir: Path, manifest: Manifest
) -> Point:
    """Measures a finished run."""
    if curve.measured_on == FOLDS:
        # The last, for the best would have been chosen on the very images it is measured on.
        score = History(result.run.logdir, up_to_step=result.step).scores[-1]
        fold = parse_fold(key.fold or "")
        assert fold is not None, "with folds, every run has one"
        first, last = fold.cut(key.images)
        measured_images = last - first
    else:
        splits = resolve_splits(curve.measured_on, manifest)
        images = ImageSet(splits, None, count_examples(manifest, splits))
        architecture = parse_architecture(
            result.run.architecture_text,
            filename=result.run.model,
            image_shape=manifest.image_shape,
            num_classes=len(manifest.class_names),
        )
        validator = Validator(data_dir, manifest, architecture, images)
        try:
            score = validator.score(choose_checkpoint(result.run, "best"))
        finally:
            validator.close()
        measured_images = images.num_examples
    log(f"{key.folder}: accuracy {score.accuracy:.2%} on {measured_images:,} images")
    return Point(
        images=key.images,
        seed=key.seed,
        fold=key.fold,
        accuracy=score.accuracy,
        loss=score.loss,
        mean_squared_error=score.mean_squared_error,
        measured_images=measured_images,
        step=score.step,
    )


def _draw(curve: Curve, config: TrainConfig, points: Sequence[Point]) -> bytes:
    where = "left-out folds" if curve.measured_on == FOLDS else f"the {curve.measured_on} split"
    model = Path(config.model).stem
    title = f"{model} on {curve.dataset_name}: mean, deviation, lowest and highest of the runs"
    return draw_chart(summarize(points), title=title, measured_on=where)
