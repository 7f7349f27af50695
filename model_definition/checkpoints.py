"""Finds a run's checkpoints, checks that they can be read, and restores weights from them."""

from __future__ import annotations

import shlex
from pathlib import Path

import tensorflow as tf
import tf_slim as slim

from data_prep.command_line import UserError
from model_definition.run_dir import FIRST_VERSION, LITERT_NAME, MODEL_NAME, Run

CHECKPOINT_NAME = "model.ckpt"
_MOVING_AVERAGE = "/ExponentialMovingAverage"


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the checkpoints in a folder, the newest first.

    The files themselves count, not the list of them that TensorFlow keeps in `checkpoint`: a kill
    may come between the two.

    Args:
      folder: a run folder, or its `best`.

    Returns:
      The prefixes of their files; empty where there are none.
    """
    found = [path.with_suffix("") for path in folder.glob(f"{CHECKPOINT_NAME}-*.index")]
    numbered = [path for path in found if path.name.rpartition("-")[2].isdecimal()]
    return sorted(numbered, key=checkpoint_step, reverse=True)


def checkpoint_step(checkpoint: Path) -> int:
    """Returns the step in a checkpoint's name.

    Raises:
      UserError: the name does not end in a step.
    """
    step = checkpoint.name.rpartition("-")[2]
    if not step.isdecimal():
        raise UserError(f"{checkpoint}: expected a checkpoint such as {CHECKPOINT_NAME}-1000")
    return int(step)


def find_damage(checkpoint: Path) -> str | None:
    """Reads a whole checkpoint, whose blocks carry checksums.

    Args:
      checkpoint: the prefix of its files.

    Returns:
      Why it cannot be read, in one line, or None if it can.
    """
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
        return " ".join(str(error).split())[:200]
    return None


def choose_checkpoint(run: Run, which: str) -> Path:
    """Chooses the checkpoint to evaluate or export.

    Args:
      run: the run.
      which: `best` on validation, or as updated where the run's version says so; `last` of
        training; a path, or the name of a checkpoint in the run folder.

    Returns:
      The prefix of its files. Where a run has no `best`, because it had no validation split, the
      last one.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    if which in ("best", "last"):
        best = list_checkpoints(run.best_dir) if which == "best" else []
        if which == "best" and not best and run.version != FIRST_VERSION:
            raise UserError(f"{run.best_dir}: version {run.version} is gone; {_other_version(run)}")
        found = best or list_checkpoints(run.logdir)
        if not found:
            raise UserError(
                f"{run.logdir}: no checkpoint yet; wait for the first one, or train with "
                f"python train/train_lenet.py --logdir={shlex.quote(str(run.logdir))}"
            )
        checkpoint = found[0]
    else:
        checkpoint = Path(which.removesuffix(".index"))
        if checkpoint.name == str(checkpoint):
            checkpoint = run.logdir / checkpoint
        if not checkpoint.with_name(f"{checkpoint.name}.index").is_file():
            raise UserError(f"{checkpoint}: no such checkpoint; name one such as model.ckpt-1000")
    damage = find_damage(checkpoint)
    if damage:
        remedy = {
            "best": "evaluate.py and export.py take the last one with --checkpoint=last",
            "last": "remove its files to use the one before it",
        }.get(which, "name another")
        if which == "best" and run.version != FIRST_VERSION:
            remedy = _other_version(run)
        raise UserError(f"{checkpoint}: this checkpoint cannot be read ({damage}); {remedy}")
    return checkpoint


def _other_version(run: Run) -> str:
    logdir = shlex.quote(str(run.logdir))
    return f"python train/update.py --logdir={logdir} --rollback=1 returns to the trained run"


def is_exported(run: Run) -> bool:
    """Tells whether the run was exported after its newest checkpoint, so that its training ended.

    Args:
      run: the run.
    """
    exported = run.export_dir / LITERT_NAME  # whichever version is in use
    if not exported.is_file():
        return False
    newest = [path.with_name(f"{path.name}.index") for path in list_checkpoints(run.logdir)[:1]]
    since = exported.stat().st_mtime
    return all(path.is_file() and path.stat().st_mtime <= since for path in newest)


class InferenceSaver:
    """Restores the weights that a model is used with, and saves them alone.

    Where a checkpoint holds moving averages of the weights, those are what is restored.
    """

    def __init__(self, scope: str = "") -> None:
        """Takes the model variables of the current graph.

        Args:
          scope: only those of this variable scope, without which checkpoints name them; empty for
            all.
        """
        prefix = f"{scope}/" if scope else ""
        self._variables = {
            variable.op.name.removeprefix(prefix): variable
            for variable in slim.get_model_variables(prefix)
        }
        self._saver = tf.compat.v1.train.Saver(self._variables, max_to_keep=1)
        self._restorers: dict[bool, tf.compat.v1.train.Saver] = {False: self._saver}

    def restore(self, session: tf.compat.v1.Session, checkpoint: Path) -> None:
        """Restores a checkpoint.

        Args:
          session: of the same graph.
          checkpoint: the prefix of its files.

        Raises:
          UserError: its variables are not this model's.
        """
        stored = tf.train.load_checkpoint(str(checkpoint)).get_variable_to_shape_map()
        averaged = any(name + _MOVING_AVERAGE in stored for name in self._variables)
        suffix = _MOVING_AVERAGE if averaged else ""
        for name, variable in self._variables.items():
            expected, found = variable.shape.as_list(), stored.get(name + suffix)
            if expected != found:
                raise UserError(
                    f"{checkpoint}: {name} is {expected} in {MODEL_NAME} and {found or 'missing'} "
                    "here; this checkpoint is of another model"
                )
        if averaged not in self._restorers:
            names = {name + suffix: variable for name, variable in self._variables.items()}
            self._restorers[averaged] = tf.compat.v1.train.Saver(names)
        self._restorers[averaged].restore(session, str(checkpoint))

    def save(self, session: tf.compat.v1.Session, folder: Path, step: int) -> None:
        """Saves the weights as the folder's only checkpoint.

        Args:
          session: of the same graph.
          folder: such as a run's `best`.
          step: for the checkpoint's name.
        """
        folder.mkdir(parents=True, exist_ok=True)
        previous = list_checkpoints(folder)
        prefix = str(folder / CHECKPOINT_NAME)
        self._saver.save(session, prefix, global_step=step, write_meta_graph=False)
        for checkpoint in previous:
            if checkpoint_step(checkpoint) != step:
                tf.compat.v1.train.remove_checkpoint(str(checkpoint))
