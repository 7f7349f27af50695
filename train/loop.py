"""One training run, from the dataset to the exported model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1

from data_prep.command_line import UserError, log
from data_prep.schema import load_manifest
from input_pipeline.datasets import make_train_dataset
from input_pipeline.mixture import Part
from input_pipeline.records import damage_named, shard_paths
from model_definition.architecture import Architecture, load_architecture
from model_definition.checkpoints import checkpoint_step, choose_checkpoint, list_checkpoints
from model_definition.distillation import Teacher
from model_definition.event_writer import open_event_writer
from model_definition.litert import export_litert
from model_definition.run_dir import FIRST_VERSION, Run, read_current_version
from train.calibration import calibrate
from train.clock import TrainingClock
from train.config import TrainConfig
from train.graph import TrainedModel, build_trained_model
from train.hooks import (
    CheckpointHook,
    NanHook,
    ProgressHook,
    StopOnSignalHook,
    SummaryHook,
    TrainingFailed,
)
from train.plan import TrainPlan, make_plan
from train.precision import resolve_precision, session_config
from train.resume import start_or_resume
from train.run_lock import locked
from train.summaries import (
    StepSummaries,
    build_summaries,
    scalar_summary,
    write_graph,
    write_texts,
)
from train.teacher import load_teacher
from train.validation import History, Score, Validator


@dataclass(frozen=True)
class TrainResult:
    """What came of a run.

    Attributes:
      run: the run.
      step: the last step made.
      total_steps: the steps asked for.
      best: the best validation; None without a validation split.
      seconds: how long this process trained, validations and export included.
      stopped_by_signal: whether SIGTERM or Ctrl-C ended it; it can be taken up again.
    """

    run: Run
    step: int
    total_steps: int
    best: Score | None
    seconds: float
    stopped_by_signal: bool


def train(
    config: TrainConfig,
    *,
    data_dir: Path,
    logdir: Path,
    on_score: Callable[[Score], None] | None = None,
    signals: StopOnSignalHook | None = None,
    exports: bool = True,
) -> TrainResult:
    """Trains, or goes on training, until the steps or the patience are used up; then exports.

    Args:
      config: what to train and how.
      data_dir: the dataset folder.
      logdir: the run folder.
      on_score: called with each new validation, when it is saved. What it raises ends the run,
        which can be taken up again.
      signals: what hears SIGTERM and Ctrl-C, for a caller that has more to stop than this run.
      exports: whether to calibrate and export the best checkpoint at the end.

    Returns:
      What came of it.

    Raises:
      TrainingFailed: training diverged, or these flags need more memory than there is.
      UserError: the dataset, the model or the run folder do not fit.
    """
    start = time.monotonic()
    manifest = load_manifest(data_dir)
    plan = make_plan(config, data_dir, manifest)
    architecture = load_architecture(
        config.model,
        image_shape=manifest.image_shape,
        num_classes=len(manifest.class_names),
        values=dict(config.model_set),
    )
    # What `auto` means here is kept, so that a resumed run cannot change its arithmetic.
    config = replace(config, precision=resolve_precision(config.precision, architecture))
    teacher = load_teacher(config, plan)
    run = _describe_run(config, plan, logdir, architecture, teacher)
    signals = signals or StopOnSignalHook()
    with (
        locked(logdir),
        signals.listening(),
        damage_named(data_dir, manifest, plan.training.splits),
        _exhaustion_named(logdir),
        contextlib.ExitStack() as stack,
    ):
        shard_paths(data_dir, manifest, plan.training.splits)
        if (current := read_current_version(logdir)) != FIRST_VERSION:
            log(
                f"{logdir}: this trains version 1; version {current}, which an update made, stays "
                "in use until update.py --rollback=1"
            )
        checkpoint = start_or_resume(run, manifest)
        start_step = checkpoint_step(checkpoint) if checkpoint else 0
        validated = plan.validation is not None and start_step > plan.validation_steps
        history = History(logdir, up_to_step=start_step, must_exist=validated)
        validator = None
        if plan.validation:
            validator = Validator(data_dir, manifest, architecture, plan.validation)
            stack.callback(validator.close)
        job = _Job(
            config,
            plan,
            run,
            architecture,
            teacher,
            checkpoint,
            start_step,
            history,
            validator,
            signals,
            on_score,
        )
        last_step = _run_steps(job)
        stopped = signals.stopped
        if exports and not stopped:
            best = choose_checkpoint(run, "best")
            known = Part(
                data_dir, manifest, plan.training.splits, config.seed, kept=plan.training.kept
            )
            calibration = calibrate(run, best, plan, [known])
            export_litert(run, best, calibration)
    return TrainResult(
        run=run,
        step=last_step,
        total_steps=plan.total_steps,
        best=history.best,
        seconds=time.monotonic() - start,
        stopped_by_signal=stopped,
    )


@contextlib.contextmanager
def _exhaustion_named(logdir: Path) -> Iterator[None]:
    """Turns TensorFlow's error about a full disk or memory into one line."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        is_disk = "No space left" in str(error)
        what, remedy = ("disk", "free some space") if is_disk else ("memory", "lower --batch_size")
        kind = UserError if is_disk else TrainingFailed
        raise kind(
            f"{logdir}: the {what} is full; {remedy}, and run the same command again to go on"
        ) from error


def _describe_run(
    config: TrainConfig,
    plan: TrainPlan,
    logdir: Path,
    architecture: Architecture,
    teacher: Teacher | None,
) -> Run:
    manifest = plan.manifest
    return Run(
        logdir=logdir,
        model=config.model,
        architecture_text=architecture.text,
        data_dir=str(plan.data_dir.absolute()),
        dataset_name=manifest.name,
        dataset_digest=manifest.digest,
        image_shape=manifest.image_shape,
        image_preparation=manifest.image_preparation,
        class_names=manifest.class_names,
        config=config.to_json(),
        versions={
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "tf-slim": importlib.metadata.version("tf-slim"),
            "numpy": np.__version__,
        },
        teacher_digest=teacher.digest if teacher else "",
    )


@dataclass(frozen=True)
class _TrainGraph:
    """The operations of the training graph."""

    model: TrainedModel
    wait: tf.Tensor
    summaries: StepSummaries


@dataclass(frozen=True)
class _Job:
    """Everything that the steps of one process need."""

    config: TrainConfig
    plan: TrainPlan
    run: Run
    architecture: Architecture
    teacher: Teacher | None
    checkpoint: Path | None
    start_step: int
    history: History
    validator: Validator | None
    signals: StopOnSignalHook
    on_score: Callable[[Score], None] | None


def _build_graph(job: _Job) -> _TrainGraph:
    """Adds input, model and optimiser to the current graph."""
    config, plan = job.config, job.plan
    dataset = make_train_dataset(
        plan.data_dir,
        plan.manifest,
        splits=plan.training.splits,
        batch_size=config.batch_size,
        seed=config.seed,
        start_step=job.start_step,
        kept=plan.training.kept,
        augmentation=config.augmentation,
        photos=config.augment == "photo",
        cache_mb=config.cache_mb,
    )
    asked = tf.timestamp()
    with tf.control_dependencies([asked]):
        features, labels = tf1.data.make_one_shot_iterator(dataset).get_next()
    with tf.control_dependencies([features]):
        wait = tf.timestamp() - asked
    model = build_trained_model(
        features,
        labels,
        job.architecture,
        config,
        total_steps=plan.total_steps,
        steps_an_epoch=plan.steps_an_epoch,
        teacher=job.teacher,
    )
    summaries = build_summaries(
        features=features,
        end_points=model.end_points,
        loss=model.loss,
        accuracy=model.accuracy,
        learning_rate=model.learning_rate,
        gradient_norm=model.gradient_norm,
    )
    return _TrainGraph(model, wait, summaries)


def _run_steps(job: _Job) -> int:
    """Makes the steps that are left, unless a signal ends them early; returns the last one."""
    config, plan = job.config, job.plan
    log(
        f"training {config.model} on {job.run.dataset_name}: steps {job.start_step:,} to "
        f"{plan.total_steps:,} of {config.batch_size} images, {config.precision}"
    )
    with tf.Graph().as_default() as graph, _open_writers(job) as writers:
        ops = _build_graph(job)
        write_graph(writers.training, graph)
        saver = tf1.train.Saver(max_to_keep=config.keep_checkpoints, save_relative_paths=True)
        if job.checkpoint:
            known = list_checkpoints(job.run.logdir)
            older = [path for path in known if checkpoint_step(path) <= job.start_step]
            saver.recover_last_checkpoints([str(path) for path in reversed(older)])
        hooks = _make_hooks(job, ops, saver, writers)
        creator = tf1.train.ChiefSessionCreator(
            tf1.train.Scaffold(saver=saver),
            config=session_config(config.precision),
            checkpoint_filename_with_path=str(job.checkpoint) if job.checkpoint else None,
        )
        if job.checkpoint and _is_validated(job, job.start_step):
            hooks.checkpoints.validate(job.start_step)  # A kill may have come in between.
        if job.start_step >= plan.total_steps or job.history.patience_ended(config.patience):
            return job.start_step
        try:
            with tf1.train.MonitoredSession(creator, hooks.in_order) as session:
                while not session.should_stop():
                    session.run(ops.model.step)
        finally:
            hooks.progress.clear()  # So that an error does not stand behind it.
    return hooks.checkpoints.saved_step


def _is_validated(job: _Job, step: int) -> bool:
    return step % job.plan.validation_steps == 0 or step >= job.plan.total_steps


@dataclass(frozen=True)
class _Writers:
    """The event files of training and validation; without validation both are training's."""

    training: tf1.summary.FileWriter
    validation: tf1.summary.FileWriter


@contextlib.contextmanager
def _open_writers(job: _Job) -> Iterator[_Writers]:
    """Opens the event files, and closes them when the block has ended."""
    names = ["train", "validation"] if job.plan.validation else ["train"]
    writers = [open_event_writer(job.run.logdir / name) for name in names]
    try:
        for writer in writers:
            # TensorBoard drops what an interrupted run wrote from this step on.
            start = tf1.SessionLog(status=tf1.SessionLog.START)
            writer.add_session_log(start, job.start_step + 1)
        text = job.run.architecture_text
        write_texts(writers[0], flags=job.run.config, architecture_text=text)
        yield _Writers(writers[0], writers[-1])
    finally:
        for writer in writers:
            writer.close()


@dataclass(frozen=True)
class _Hooks:
    """The hooks of training, in the order in which they act, and two of them by name."""

    in_order: list[tf1.train.SessionRunHook]
    progress: ProgressHook
    checkpoints: CheckpointHook


def _make_hooks(
    job: _Job,
    ops: _TrainGraph,
    saver: tf1.train.Saver,
    writers: _Writers,
) -> _Hooks:
    config, plan = job.config, job.plan
    progress = ProgressHook(
        step=ops.model.step,
        loss=ops.model.loss,
        accuracy=ops.model.accuracy,
        start_step=job.start_step,
        total_steps=plan.total_steps,
        batch_size=config.batch_size,
        steps_an_epoch=plan.steps_an_epoch,
    )

    def on_score(score: Score) -> None:
        progress.show_score(score)
        facts = {name: value for name, value in vars(score).items() if name != "step"}
        writers.validation.add_summary(scalar_summary(**facts), score.step)
        writers.validation.flush()
        if job.on_score:
            job.on_score(score)

    clock = TrainingClock(job.run.logdir, start_step=job.start_step)
    checkpoints = CheckpointHook(
        step=ops.model.step,
        rate=ops.model.learning_rate,
        saver=saver,
        logdir=job.run.logdir,
        clock=clock,
        every_steps=plan.validation_steps,
        total_steps=plan.total_steps,
        patience=config.patience,
        history=job.history,
        validator=job.validator,
        on_score=on_score,
        on_save=progress.show_line,
    )
    summaries = SummaryHook(
        writer=writers.training,
        summaries=ops.summaries,
        step=ops.model.step,
        wait=ops.wait,
        start_step=job.start_step,
        batch_size=config.batch_size,
        scalars_every=config.summary_every_steps,
        pictures_every=plan.validation_steps,
    )
    nan = NanHook(ops.model.step, ops.model.loss, ops.model.learning_rate, job.run.logdir)
    in_order = [clock, nan, summaries, progress, checkpoints, job.signals]
    return _Hooks(in_order, progress, checkpoints)
