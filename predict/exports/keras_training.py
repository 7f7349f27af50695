"""Lets Keras go on where a run stopped: its loss, its optimiser with its state, its learning rate.

TensorFlow 1's optimisers, with which runs are trained, and Keras's compute the same from the same
state, but name it otherwise. What Keras cannot keep is logged, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from data_prep.command_line import UserError, log
from data_prep.schema import load_manifest
from input_pipeline.folds import parse_fold
from input_pipeline.splits import count_examples, resolve_splits
from model_definition.checkpoints import CHECKPOINT_NAME, checkpoint_step
from model_definition.keras_model import keras, name_variables
from model_definition.run_dir import Run
from predict.exports.formats import ExportSource

_Rate: TypeAlias = "float | keras.optimizers.schedules.LearningRateSchedule"

_ONE_CYCLE_WARMUP = 0.3  # share of the steps, as in train/optimizer.py
_ONE_CYCLE_START = 0.04  # of the peak, the same

# By the run's optimiser: for each variable that Keras keeps of a weight, its name in a checkpoint.
_SLOTS: Mapping[str, Mapping[str, str]] = {
    "adam": {"momentum": "Adam", "velocity": "Adam_1"},
    "momentum": {"momentum": "Momentum"},
    "sgd": {},
    "rmsprop": {"velocity": "RMSProp", "momentum": "RMSProp_1"},
}


def _tell(message: str) -> None:
    """Logs what becomes of a run's training in Keras."""
    log(f"Keras: {message}")


def compile_like_run(model: keras.Model, source: ExportSource) -> None:
    """Compiles a model with a run's loss and optimiser, and restores the optimiser's state.

    Args:
      model: from `build_keras_model`.
      source: the run and its checkpoint.
    """
    config = source.run.config
    if source.run.is_imported:
        _tell("a run that was not trained here: exported without a loss and an optimiser")
        return
    checkpoint = _find_training_checkpoint(source)
    step = checkpoint_step(source.checkpoint)
    rate = _choose_rate(source.run, step)
    rate_now = rate if isinstance(rate, float) else float(rate(step))
    if checkpoint is None:
        _tell(
            f"{source.checkpoint}: no training checkpoint has the same weights, so the optimiser "
            f"starts anew, at the constant learning rate {rate_now:.3g}"
        )
        rate = rate_now
    if config["weight_decay"]:
        _tell("a file cannot keep that weight decay leaves biases out; it shrinks them")
    if config.get("teacher"):  # Older runs have no such flag.
        _tell("its loss is about the labels alone, not about the teacher's answers")
    loss: Any = "sparse_categorical_crossentropy"
    if config["label_smoothing"]:
        _tell("it has label smoothing for one-hot labels only, so train on those")
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=config["label_smoothing"])
    optimizer = _make_optimizer(config, rate)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    if checkpoint is not None:
        optimizer.build(model.trainable_variables)
        optimizer.iterations.assign(step)
        _restore_slots(model, source, checkpoint, rate_now)


def _make_optimizer(config: Mapping[str, Any], rate: _Rate) -> keras.optimizers.Optimizer:
    """Returns Keras's optimiser of the same update; its epsilons are TensorFlow 1's."""
    optimizers = keras.optimizers
    common = {
        "learning_rate": rate,
        "weight_decay": config["weight_decay"] or None,
        "global_clipnorm": config["clip_norm"] or None,
    }
    match config["optimizer"]:
        case "adam":
            beta1, beta2 = config.get("beta1", 0.9), config.get("beta2", 0.999)
            return optimizers.Adam(beta_1=beta1, beta_2=beta2, epsilon=1e-8, **common)
        case "momentum":
            return optimizers.SGD(momentum=config["momentum"], **common)
        case "sgd":
            return optimizers.SGD(**common)
        case "rmsprop":
            momentum = config["momentum"]
            return optimizers.RMSprop(rho=0.9, momentum=momentum, epsilon=1e-10, **common)
        case other:
            raise UserError(
                f"run.json: expected an optimizer of {', '.join(_SLOTS)}, found {other}"
            )


def _find_training_checkpoint(source: ExportSource) -> Path | None:
    """Returns the checkpoint of the same step and weights that has the optimiser's state."""
    step = checkpoint_step(source.checkpoint)
    for checkpoint in (source.checkpoint, source.run.logdir / f"{CHECKPOINT_NAME}-{step}"):
        if not checkpoint.with_name(f"{checkpoint.name}.index").is_file():
            continue
        reader = tf.train.load_checkpoint(str(checkpoint))
        if "global_step" not in reader.get_variable_to_shape_map():
            continue
        # With moving averages of the weights, these are others than those that the state is of.
        if all(np.array_equal(reader.get_tensor(n), w) for n, w in source.weights.items()):
            return checkpoint
    return None


def _restore_slots(
    model: keras.Model, source: ExportSource, checkpoint: Path, rate_now: float
) -> None:
    """Restores what the optimiser keeps of each weight."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    kind = source.run.config["optimizer"]
    kept = {variable.path: variable for variable in model.optimizer.variables}
    named = name_variables(model, source.architecture).items()
    for name, weight in named:
        for slot, stored_as in _SLOTS[kind].items():
            path = f"{model.optimizer.name}/{weight.path.replace('/', '_')}_{slot}"
            if weight.trainable and path in kept:  # RMSprop without momentum keeps none.
                value = reader.get_tensor(f"{name}/{stored_as}")
                # TensorFlow multiplies by the learning rate after summing up, Keras before.
                kept[path].assign(-rate_now * value if kind == "momentum" else value)


def _choose_rate(run: Run, step: int) -> _Rate:
    """Returns the learning rate from a step on, as train/optimizer.py computes it."""
    config = run.config
    peak, schedule, warmup = config["learning_rate"], config["schedule"], config["warmup_steps"]
    if schedule == "constant" and not warmup:
        return peak
    try:
        total_steps, steps_an_epoch = _count_steps(run)
    except UserError as error:
        _tell(
            f"{error}; so the {schedule} learning rate is not known, and is {peak:.3g} throughout"
        )
        return peak
    one_cycle = schedule == "one_cycle"
    if warmup is None:
        warmup = int(_ONE_CYCLE_WARMUP * total_steps) if one_cycle else 0
    if schedule in ("one_cycle", "cosine") and step >= total_steps:
        _tell(
            f"the {schedule} learning rate has ended at 0: further training has {peak:.3g} instead"
        )
        return peak
    if step < warmup and not one_cycle:
        now = peak * (step + 1) / warmup
        _tell(f"it cannot go on with this warm-up: the learning rate stays {now:.3g}")
        return now
    if config["optimizer"] == "momentum" and schedule != "constant":
        _tell("momentum keeps past rates in its velocity; as the rate changes, steps differ")
    schedules = keras.optimizers.schedules
    if schedule == "exponential":
        at_step_0 = peak * config["decay_rate"] ** (-warmup / steps_an_epoch)
        return schedules.ExponentialDecay(at_step_0, steps_an_epoch, config["decay_rate"])
    if schedule == "constant":
        return peak
    fall = max(total_steps - warmup, 1)
    if not warmup:
        return schedules.CosineDecay(peak, fall)
    begin = _ONE_CYCLE_START * peak if one_cycle else 0.0  # Only one_cycle can be that early.
    return schedules.CosineDecay(begin, fall, warmup_target=peak, warmup_steps=warmup)


def _count_steps(run: Run) -> tuple[int, float]:
    """Returns the run's last step, and how many steps make an epoch; as train/plan.py."""
    config = run.config
    manifest = load_manifest(Path(run.data_dir))
    available = count_examples(manifest, resolve_splits(config["train_splits"], manifest))
    num_examples = min(config["train_limit"] or available, available)
    fold = parse_fold(config.get("validate_on", ""))  # Older runs have no such flag.
    if fold:
        first, last = fold.cut(num_examples)
        num_examples -= last - first
    total_steps = config["max_steps"]
    if total_steps is None:
        total_steps = max(1, int(np.ceil(config["epochs"] * num_examples / config["batch_size"])))
    return total_steps, num_examples / config["batch_size"]
