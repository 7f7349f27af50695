"""One update of a run: from new images to a new version of it, or to the reasons against it."""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.command_line import UserError, log, signals_deferred
from data_prep.examples import FEWEST_TO_HOLD_OUT, ImageForm, write_examples
from data_prep.schema import Manifest, load_manifest
from input_pipeline.augmentation import Augmentation
from input_pipeline.mixture import Part
from input_pipeline.records import damage_named
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import choose_checkpoint
from model_definition.ensemble import Member
from model_definition.inference import open_model
from model_definition.litert import convert_litert, write_litert
from model_definition.run_dir import (
    FIRST_VERSION,
    LITERT_NAME,
    Run,
    load_run,
    require_same_dataset,
)
from model_definition.versions import (
    EARLIER_NAME,
    EXAMPLES_NAME,
    Version,
    next_version,
    publish_version,
    staged_version,
)
from train.calibration import calibrate
from train.config import TrainConfig
from train.plan import TrainPlan, plan_of_run
from train.precision import resolve_precision
from train.run_lock import locked
from train.updating.judging import Comparison, JudgedImages, compare, find_right
from train.updating.learning import learn

_BATCH_SIZE = 128
# Shares of a batch: original images, new ones, and those that earlier updates brought.
_ORIGINAL, _NEW, _EARLIER = 14.0, 1.0, 1.0
_FEWEST_STEPS, _MOST_STEPS = 100, 2_000
_PASSES = 3  # over new images that are too many for the fewest steps
# Few images stand for many of their kind; so much is a matter of how they were drawn and cut out.
_SLIGHTLY = Augmentation(shift=0.04, rotation=8.0, zoom=0.08, shear=5.0)


@dataclass(frozen=True)
class UpdateOptions:
    """How an update learns.

    Attributes:
      learning_rate: Adam's, the same in all steps.
      steps: how many; None for as many as the new images take.
      seed: decides the order, dropout and distortions.
    """

    learning_rate: float
    steps: int | None
    seed: int


@dataclass(frozen=True)
class UpdateResult:
    """What came of an update.

    Attributes:
      run: the run, in the version that the update began with.
      num_learnt: new images that were learnt from.
      num_held_out: new images that were held out.
      steps: how many were made; 0 where nothing could be gained.
      comparisons: how the version and its update read the same images.
      objections: why it was not accepted; empty where it was.
      version: the new version; None where it was not accepted.
    """

    run: Run
    num_learnt: int
    num_held_out: int
    steps: int
    comparisons: tuple[Comparison, ...]
    objections: tuple[str, ...]
    version: Version | None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {
            "logdir": str(self.run.logdir),
            "base": self.run.version,
            "accepted": self.version is not None,
            "version": self.version.number if self.version else None,
            "num_learnt": self.num_learnt,
            "num_held_out": self.num_held_out,
            "steps": self.steps,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "objections": list(self.objections),
        }


def update(
    logdir: Path, examples: Path, options: UpdateOptions, data_dir: Path | None = None
) -> UpdateResult:
    """Improves a run with new images, or leaves it as it is.

    Args:
      logdir: the run folder.
      examples: the new images, as `data_prep.examples` reads them.
      options: how to learn.
      data_dir: where the run's dataset is now; None for where it was trained.

    Returns:
      What came of it.

    Raises:
      UserError: the run, its dataset or the new images do not fit, or another process is at work
        in the run folder.
    """
    load_run(logdir)  # Before the lock, which would make the folder.
    with locked(logdir):
        run = load_run(logdir)
        manifest, folder = _load_dataset(run, data_dir)
        plan = plan_of_run(run, folder, manifest)
        with staged_version(logdir) as staging:
            new = write_examples(
                examples,
                ImageForm(run.image_shape, run.image_preparation, run.class_names),
                find_misread=functools.partial(_find_misread, run),
                earlier=_find_earlier(run),
                examples_dir=staging / EXAMPLES_NAME,
                earlier_dir=staging / EARLIER_NAME,
            )
            return _update(_Task(run, plan, options, staging, examples, new))


@dataclass(frozen=True)
class _Task:
    """What an update works with.

    Attributes:
      run: the run, in the version to begin with.
      plan: what the run was trained on.
      options: how to learn.
      staging: the folder for the version.
      source: where the new images came from.
      new: the manifest of the new images.
    """

    run: Run
    plan: TrainPlan
    options: UpdateOptions
    staging: Path
    source: Path
    new: Manifest

    @property
    def earlier(self) -> Manifest | None:
        """The manifest of what earlier updates brought."""
        folder = self.staging / EARLIER_NAME
        return load_manifest(folder) if folder.is_dir() else None

    def count(self, split: str) -> int:
        """Returns how many new images a split has."""
        return self.new.splits[split].num_examples if split in self.new.splits else 0


def _load_dataset(run: Run, data_dir: Path | None) -> tuple[Manifest, Path]:
    folder = data_dir or Path(run.data_dir)
    if data_dir is None and not folder.is_dir():
        raise UserError(
            f"{folder}: the dataset that {run.logdir} was trained on is not there, and without it "
            "the run would forget; name its folder with --data_dir"
        )
    manifest = load_manifest(folder)
    require_same_dataset(run, manifest, exactly=True)
    trained_on = run.config.get("train_splits", TrainConfig.train_splits)
    validate_on = run.config.get("validate_on", TrainConfig.validate_on)
    own = "validation" in manifest.splits and "validation" not in trained_on.split("+")
    if validate_on == "none" or (validate_on == "validation" and not own):
        raise UserError(
            f"{run.logdir}: an update is accepted by validation images that were not trained on, "
            "and this run has none; train one with a validation split into another --logdir"
        )
    return manifest, folder


def _find_misread(run: Run, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    with open_model(run, choose_checkpoint(run, "best")) as model:
        return model.predict(images).argmax(axis=1) != labels


def _find_earlier(run: Run) -> list[Path]:
    """Lists the dataset folders that a version has learnt after the run's own."""
    if run.version == FIRST_VERSION:
        return []
    folders = [run.best_dir / name for name in (EARLIER_NAME, EXAMPLES_NAME)]
    return [folder for folder in folders if folder.is_dir()]


def _update(task: _Task) -> UpdateResult:
    run = task.run
    base = choose_checkpoint(run, "best")
    judged = _choose_judged(task)
    before = find_right(run, base, judged)
    if before[-1].all():
        objection = (
            f"{judged[-1].name}: version {run.version} reads all {len(before[-1]):,} right, so "
            "nothing can be gained on them"
        )
        return _result(task, 0, (), (objection,), None)
    config = _make_config(task)
    parts = _make_parts(task)
    assert config.max_steps is not None
    log(
        f"{run.logdir}, version {run.version}: learning {task.count('train'):,} new images, "
        f"{task.count('validation'):,} more held out, in {config.max_steps:,} steps"
    )
    with damage_named(task.plan.data_dir, task.plan.manifest, task.plan.training.splits):
        updated = learn(run, base, parts, config, task.staging)
    after = find_right(run, updated, judged)
    comparisons = [
        compare(one, run.version, *rights)
        for one, *rights in zip(judged, before, after, strict=True)
    ]
    if run.version != FIRST_VERSION:
        comparisons.insert(1, _compare_with_first(run, judged[0], after[0]))
    objections = tuple(filter(None, (comparison.objection() for comparison in comparisons)))
    version = None
    if not objections:
        version = _publish(task, updated, parts, config, comparisons)
    return _result(task, config.max_steps, tuple(comparisons), objections, version)


def _choose_judged(task: _Task) -> list[JudgedImages]:
    """Lists the images to judge by: the original ones first, the new ones last."""
    plan, staging = task.plan, task.staging
    assert plan.validation is not None, "checked when the dataset was loaded"
    splits, kept = plan.validation.splits, plan.validation.kept
    judged = [JudgedImages("original validation", plan.data_dir, plan.manifest, splits, kept)]
    if (earlier := task.earlier) is not None:
        split = "validation" if "validation" in earlier.splits else "train"
        what = "held out" if split == "validation" else "learnt"
        folder = staging / EARLIER_NAME
        judged.append(JudgedImages(f"earlier images, {what}", folder, earlier, (split,)))
    split = "validation" if task.count("validation") else "train"
    what = "held out" if split == "validation" else f"learnt, too few {_few(task)}to hold any out"
    folder = staging / EXAMPLES_NAME
    judged.append(JudgedImages(f"new images, {what}", folder, task.new, (split,), is_new=True))
    return judged


def _few(task: _Task) -> str:
    """Says of what there are too few: of misread ones, where there are enough images."""
    return "misread ones " if task.count("train") >= FEWEST_TO_HOLD_OUT else ""


def _make_config(task: _Task) -> TrainConfig:
    share = _NEW / (_ORIGINAL + _NEW + _EARLIER)
    wanted = math.ceil(_PASSES * task.count("train") / (share * _BATCH_SIZE))
    steps = task.options.steps or min(max(wanted, _FEWEST_STEPS), _MOST_STEPS)
    return TrainConfig(
        batch_size=_BATCH_SIZE,
        epochs=None,
        max_steps=steps,
        learning_rate=task.options.learning_rate,
        schedule="one_cycle",  # Adam's first steps are the roughest, its last should be still.
        seed=task.options.seed,
        precision=resolve_precision("auto", parse_run_architecture(task.run)),
    )


def _make_parts(task: _Task) -> list[Part]:
    """Lists what batches are made of; the original images distorted as they were in training."""
    plan, config, seed = task.plan, task.run.config, task.options.seed
    original = Part(
        plan.data_dir,
        plan.manifest,
        plan.training.splits,
        seed=config.get("seed", seed),
        weight=_ORIGINAL,
        kept=plan.training.kept,
        augmentation=Augmentation(**config.get("augmentation", {})),
        photos=config.get("augment") == "photo",
    )
    parts = [original]
    for name, manifest, weight in (
        (EXAMPLES_NAME, task.new, _NEW),
        (EARLIER_NAME, task.earlier, _EARLIER),
    ):
        if manifest is not None:
            folder = task.staging / name
            part = Part(folder, manifest, ["train"], seed, weight, augmentation=_SLIGHTLY)
            parts.append(part)
    return parts


def _compare_with_first(run: Run, judged: JudgedImages, after: np.ndarray) -> Comparison:
    """Compares with the run as it was trained: many small losses may add up to a large one."""
    first = replace(run, version=FIRST_VERSION)
    [before] = find_right(first, choose_checkpoint(first, "best"), [judged])
    return compare(judged, FIRST_VERSION, before, after)


def _publish(
    task: _Task,
    checkpoint: Path,
    parts: list[Part],
    config: TrainConfig,
    comparisons: list[Comparison],
) -> Version:
    undistorted = [replace(part, augmentation=None, photos=False) for part in parts]
    calibration = calibrate(task.run, checkpoint, task.plan, undistorted)
    with signals_deferred():  # The compiled converter crashes where Ctrl-C raises amid it.
        model = convert_litert([Member(task.run, checkpoint)], calibration=calibration)
    write_litert(task.staging / LITERT_NAME, model)
    version = Version(
        number=next_version(task.run.logdir),
        base=task.run.version,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        examples=str(task.source.absolute()),
        examples_digest=task.new.digest,
        num_learnt=task.count("train"),
        num_held_out=task.count("validation"),
        training={**asdict(task.options), "steps": config.max_steps},
        comparisons=tuple(comparison.to_json() for comparison in comparisons),
    )
    publish_version(task.run.logdir, task.staging, version)
    return version


def _result(
    task: _Task,
    steps: int,
    comparisons: tuple[Comparison, ...],
    objections: tuple[str, ...],
    version: Version | None,
) -> UpdateResult:
    return UpdateResult(
        run=task.run,
        num_learnt=task.count("train"),
        num_held_out=task.count("validation"),
        steps=steps,
        comparisons=comparisons,
        objections=objections,
        version=version,
    )
