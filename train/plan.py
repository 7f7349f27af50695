"""What a run trains on, and how many steps that makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError, log
from data_prep.schema import Manifest
from input_pipeline.records import count_examples, resolve_splits
from train.config import TrainConfig


@dataclass(frozen=True)
class TrainPlan:
    """What follows from a configuration and a dataset.

    Attributes:
      data_dir: the dataset folder.
      manifest: its manifest.
      splits: the splits to train on.
      total_steps: the last step.
      steps_an_epoch: how many steps one pass over the training images makes.
      validation_steps: steps between two validations.
      validates: whether there is a validation split that is not trained on.
    """

    data_dir: Path
    manifest: Manifest
    splits: tuple[str, ...]
    total_steps: int
    steps_an_epoch: float
    validation_steps: int
    validates: bool


def make_plan(config: TrainConfig, data_dir: Path, manifest: Manifest) -> TrainPlan:
    """Works out what a run trains on.

    Args:
      config: what to train and how.
      data_dir: the dataset folder.
      manifest: its manifest.

    Returns:
      The plan.

    Raises:
      UserError: there is no such split, or early stopping is asked for without validation.
    """
    splits = resolve_splits(config.train_splits, manifest)
    available = count_examples(manifest, splits)
    num_examples = min(config.train_limit or available, available)
    reason = None
    if "validation" in splits:
        reason = "the validation split is trained on"
    elif "validation" not in manifest.splits:
        reason = "the dataset has no validation split"
    if reason and config.patience:
        raise UserError(
            f"--patience={config.patience}: {reason}, so nothing tells when to stop; leave "
            "--patience out"
        )
    if reason:
        log(f"no validation: {reason}; the last checkpoint will be the one that is used")
    if "test" in splits:
        log("training on the test split: its accuracy will say nothing about other images")
    if config.batch_size > num_examples:
        log(
            f"--batch_size={config.batch_size} is more than the {num_examples:,} training images: "
            "a lower one makes more steps of an epoch"
        )
    return TrainPlan(
        data_dir=data_dir,
        manifest=manifest,
        splits=splits,
        total_steps=config.total_steps(num_examples),
        steps_an_epoch=num_examples / config.batch_size,
        validation_steps=config.validation_steps(num_examples),
        validates=reason is None,
    )
