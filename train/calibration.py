"""Calibrates a finished run: its temperature, and what it rejects as none of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import log
from data_prep.non_digits import draw_non_digits
from input_pipeline.mixture import Part, make_mixed_dataset
from input_pipeline.photo import photograph
from model_definition.calibrated import build_features
from model_definition.calibration import (
    Calibration,
    choose_threshold,
    fit_rejection,
    fit_temperature,
)
from model_definition.inference import open_model
from model_definition.run_dir import Run
from train.plan import TrainPlan

FEWEST_IMAGES = 100  # of validation: fewer do not show what the worst 1 % are like
_MOST_VALIDATED = 5_000  # of validation; more take time and change little
_PHOTOS = 4_000  # of trained images, and of drawn ones, to learn from
_ORIGINALS = 1_000  # of either, as they are
_HELD_BACK = 1_000  # drawn ones to choose the threshold with
_PHOTOS_AT_ONCE = 500
_SEED = 0


def calibrate(
    run: Run, checkpoint: Path, plan: TrainPlan, known_parts: Sequence[Part]
) -> Calibration | None:
    """Fits the temperature and the rejection to a checkpoint.

    The temperature and the threshold of rejection come from validation images, the head of
    rejection from images that were trained on.

    Args:
      run: the run.
      checkpoint: the prefix of the checkpoint's files.
      plan: what the run was trained and validated on.
      known_parts: the images that were trained on, undistorted.

    Returns:
      The calibration, or None, which is logged, where there are too few validation images.

    Raises:
      UserError: a shard is not whole, or the checkpoint is not of this model.
    """
    found = plan.validation.num_examples if plan.validation else 0
    if plan.validation is None or found < FEWEST_IMAGES:
        log(
            f"not calibrated: that takes {FEWEST_IMAGES} validation images, and there are {found}; "
            "prediction will take every image for one of the classes"
        )
        return None
    known, labels = _sample(known_parts, _PHOTOS + _ORIGINALS)
    chosen = plan.validation
    validation = Part(plan.data_dir, plan.manifest, chosen.splits, _SEED, kept=chosen.kept)
    new, new_labels = _sample([validation], min(found, _MOST_VALIDATED))
    drawn = draw_non_digits(
        len(known) + _HELD_BACK,
        images=known,
        class_names=run.class_names,
        image_preparation=run.image_preparation,
        seed=_SEED,
    )
    drawn, held_back = drawn[: len(known)], _photograph(drawn[len(known) :])
    with open_model(run, checkpoint) as model:
        features = build_features(model.end_points)
        rejection = fit_rejection(
            model.compute(features, _photograph_most(known)),
            labels,
            model.compute(features, _photograph_most(drawn)),
            num_classes=len(run.class_names),
            seed=_SEED,
        )
        new_features = model.compute(features, new)
        others = rejection.score(model.compute(features, held_back))
    logits, scores = new_features[:, -len(run.class_names) :], rejection.score(new_features)
    calibration = Calibration(
        temperature=fit_temperature(logits, new_labels),
        rejection=replace(rejection, threshold=choose_threshold(scores, others)),
    )
    threshold = calibration.rejection.threshold
    log(
        f"calibrated on {len(new):,} validation images: temperature {calibration.temperature:.2f}; "
        f"keeps {np.mean(scores >= threshold):.1%} of them and rejects "
        f"{np.mean(others < threshold):.1%} of {_HELD_BACK:,} drawn images of no class"
    )
    return calibration


def _sample(parts: Sequence[Part], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads images, uint8 [count, height, width, channels], and labels, int64 [count], by chance.

    Of each part none comes again before all came.
    """
    with tf.Graph().as_default(), tf1.Session() as session:
        batches = make_mixed_dataset(parts, batch_size=count)
        images, labels = session.run(tf1.data.make_one_shot_iterator(batches).get_next())
    return np.rint(images * 255).astype(np.uint8), labels


def _photograph_most(images: np.ndarray) -> np.ndarray:
    """Returns photos of all but the last images, and those as they are."""
    return np.concatenate([_photograph(images[:_PHOTOS]), images[_PHOTOS:]])


def _photograph(images: np.ndarray) -> np.ndarray:
    """Returns photos of images, uint8 [n, height, width, channels]."""
    photos = []
    with tf.Graph().as_default(), tf1.Session() as session:
        pixels = tf1.placeholder(tf.float32, [None, *images.shape[1:]])
        start = tf1.placeholder(tf.int64, [])
        result = photograph(pixels, tf.stack([_SEED, start]))
        for first in range(0, len(images), _PHOTOS_AT_ONCE):
            batch = images[first : first + _PHOTOS_AT_ONCE]
            photos.append(session.run(result, {pixels: batch, start: first}))
    return np.rint(np.concatenate(photos)).astype(np.uint8)
