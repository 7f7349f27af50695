"""What a run trains on, and how many steps that makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.command_line import UserError, log
from data_prep.schema import Manifest
from input_pipeline.datasets import load_labels
from input_pipeline.splits import count_examples, resolve_splits
from input_pipeline.subsets import choose_fold, choose_stratified
from model_definition.run_dir import Run
from train.config import TrainConfig, missing_validation


@dataclass(frozen=True)
class ImageSet:
    """Images of a dataset folder.

    Attributes:
      splits: the splits that they are in.
      kept: bool [n], which of the splits' n examples they are; None for all.
      num_examples: how many they are.
    """

    splits: tuple[str, ...]
    kept: np.ndarray | None
    num_examples: int


@dataclass(frozen=True)
class TrainPlan:
    """What follows from a configuration and a dataset.

    Attributes:
      data_dir: the dataset folder.
      manifest: its manifest.
      training: the images to train on.
      validation: those to validate on, none of which is trained on; None for no validation.
      total_steps: the last step.
      steps_an_epoch: how many steps one pass over the training images makes.
      validation_steps: steps between two validations.
    """

    data_dir: Path
    manifest: Manifest
    training: ImageSet
    validation: ImageSet | None
    total_steps: int
    steps_an_epoch: float
    validation_steps: int


def make_plan(config: TrainConfig, data_dir: Path, manifest: Manifest) -> TrainPlan:
    """Works out what a run trains on.

    Args:
      config: what to train and how.
      data_dir: the dataset folder.
      manifest: its manifest.

    Returns:
      The plan.

    Raises:
      UserError: there is no such split, there are too few images, or early stopping is asked for
        without validation.
    """
    training, fold = _choose_images(config, data_dir, manifest)
    reason = missing_validation(config, manifest)
    if reason and config.patience:
        raise UserError(
            f"--patience={config.patience}: {reason}, so nothing tells when to stop; leave "
            "--patience out"
        )
    validation = fold
    if reason:
        log(f"no validation: {reason}; the last checkpoint will be the one that is used")
    elif fold is None:
        validation = ImageSet(("validation",), None, count_examples(manifest, ["validation"]))
    if "test" in training.splits:
        log("training on the test split: its accuracy will say nothing about other images")
    num_examples = training.num_examples
    if config.batch_size > num_examples:
        log(
            f"--batch_size={config.batch_size} is more than the {num_examples:,} training images: "
            "a lower one makes more steps of an epoch"
        )
    return TrainPlan(
        data_dir=data_dir,
        manifest=manifest,
        training=training,
        validation=validation,
        total_steps=config.total_steps(num_examples),
        steps_an_epoch=num_examples / config.batch_size,
        validation_steps=config.validation_steps(num_examples),
    )


def plan_of_run(run: Run, data_dir: Path, manifest: Manifest) -> TrainPlan:
    """Works out what a run was trained on, from what its `run.json` keeps.

    Args:
      run: the run.
      data_dir: the folder of the dataset that it was trained on.
      manifest: its manifest.

    Returns:
      The plan, of which only the images are the run's; its batches have one.

    Raises:
      UserError: the dataset no longer has such splits.
    """
    return make_plan(_read_images_config(run), data_dir, manifest)


def find_trained_images(run: Run, data_dir: Path, manifest: Manifest) -> ImageSet:
    """Returns the images that a run was trained on; see `plan_of_run`."""
    return _choose_images(_read_images_config(run), data_dir, manifest)[0]


def _read_images_config(run: Run) -> TrainConfig:
    """Returns a configuration with those of a run's flags that decide on its images."""
    names = ("train_splits", "train_limit", "validate_on", "seed")
    known = {name: run.config[name] for name in names if name in run.config}
    return TrainConfig(**known, batch_size=1)


def _choose_images(
    config: TrainConfig, data_dir: Path, manifest: Manifest
) -> tuple[ImageSet, ImageSet | None]:
    """Returns the images to train on, and the fold of them that is left out to validate on."""
    splits = resolve_splits(config.train_splits, manifest)
    available = count_examples(manifest, splits)
    if config.train_limit is None and config.fold is None:
        return ImageSet(splits, None, available), None
    limit = available if config.train_limit is None else config.train_limit
    labels = load_labels(data_dir, manifest, splits)
    kept = choose_stratified(labels, limit, config.seed)
    if config.fold is None:
        return ImageSet(splits, kept, limit), None
    if config.fold.num_folds > limit:
        raise UserError(
            f"--validate_on={config.validate_on}: there are {limit:,} training images, which do "
            "not fill so many folds"
        )
    chosen = choose_fold(labels, kept, config.fold)
    num_chosen = int(chosen.sum())
    training = ImageSet(splits, kept & ~chosen, limit - num_chosen)
    return training, ImageSet(splits, chosen, num_chosen)
