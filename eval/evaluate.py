"""Evaluates a run's checkpoint on a split of its dataset, or of another with the same classes.

Everything comes from the run folder, so --logdir is enough. Every image counts once. Several runs,
named --logdir=A,B or by the folder that train/ensemble.py wrote, are evaluated as one model, whose
probabilities are the mean of theirs.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import Manifest
from model_definition.ensemble import MAX_SHIFTS, Ensemble, Member, find_dataset, load_ensemble
from model_definition.run_dir import Run

_POLL_SECONDS = 1.0
_TRAININGS_FOLDERS = ("train", "validation")  # the curves that training itself draws


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string(
        "logdir",
        "runs/lenet",
        "The run folder; several joined by commas, or an ensemble's folder, are averaged.",
    )
    flags.DEFINE_string("split", "test", "What to evaluate on, such as test or train+validation.")
    flags.DEFINE_string("data_dir", None, "A dataset folder with the same classes. [the run's]")
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Best on validation, or the last.")
    flags.DEFINE_string("checkpoint_path", None, "A certain checkpoint, such as model.ckpt-860.")
    flags.DEFINE_integer(
        "test_time_shifts",
        0,
        "Averages over every shift of an image by up to so many pixels both ways.",
        0,
        MAX_SHIFTS,
    )
    flags.DEFINE_integer("batch_size", 500, "Images at a time; changes no result.", 1, 100_000)
    flags.DEFINE_bool("watch", False, "Evaluates each new checkpoint until the run has ended.")
    flags.DEFINE_integer(
        "watch_timeout", 600, "Seconds without a new checkpoint after which --watch ends.", 1
    )
    flags.DEFINE_bool(
        "json", False, "Prints one JSON document instead of text; with --watch one a line."
    )


def main(argv: list[str]) -> None:
    """Evaluates as the flags say and prints the result."""
    values = flags.FLAGS
    _refuse_unused(values)
    ensemble = load_ensemble(values.logdir)
    _refuse_single(values, ensemble)
    run = ensemble.first
    data_dir, manifest = find_dataset(ensemble, values.data_dir)
    command_line.import_tensorflow()
    import tensorflow as tf

    from eval.evaluation import evaluate
    from eval.report import format_text, write_summaries
    from input_pipeline.splits import resolve_splits
    from model_definition.checkpoints import choose_checkpoint, find_damage

    splits = resolve_splits(values.split, manifest)
    summary_dir = _choose_summary_dir(ensemble, manifest, values.split, values.test_time_shifts)
    members: Iterator[list[Member]]
    if values.watch:
        checkpoints = watch_checkpoints(run, timeout=values.watch_timeout)
        members = ([Member(run, checkpoint)] for checkpoint in checkpoints)
    else:
        which = values.checkpoint_path or values.checkpoint
        members = iter([[Member(one, choose_checkpoint(one, which)) for one in ensemble.runs]])
    for evaluated in members:
        try:
            evaluation = evaluate(
                evaluated,
                data_dir=data_dir,
                manifest=manifest,
                splits=splits,
                batch_size=values.batch_size,
                test_time_shifts=values.test_time_shifts,
            )
        except (tf.errors.OpError, ValueError):
            # A run in progress keeps its last few: this one may have been removed just now.
            if not (values.watch and find_damage(evaluated[0].checkpoint)):
                raise
            log(f"{evaluated[0].checkpoint}: gone or not readable; passed over")
            continue
        text = json.dumps(evaluation.to_json()) if values.json else format_text(evaluation)
        print(text, flush=True)
        if summary_dir is None:
            log("nothing written for TensorBoard: a list of runs has no folder of its own")
        else:
            summary_dir.mkdir(exist_ok=True)
            write_summaries(summary_dir, evaluation)


def _refuse_unused(values: flags.FlagValues) -> None:
    """Refuses flags that would change nothing, since whoever gave them expects that they do."""
    for name, used, reason in (
        ("checkpoint", not values.watch, "--watch evaluates every checkpoint"),
        ("checkpoint_path", not values.watch, "--watch evaluates every checkpoint"),
        ("checkpoint", not values.checkpoint_path, "--checkpoint_path names one already"),
        ("watch_timeout", values.watch, "only --watch waits"),
    ):
        if values[name].present and not used:
            raise UserError(f"{reason}; leave --{name} out")


def _refuse_single(values: flags.FlagValues, ensemble: Ensemble) -> None:
    """Refuses flags that are about one run, where there are several."""
    for name, used in (("watch", values.watch), ("checkpoint_path", values.checkpoint_path)):
        if used and not ensemble.is_single:
            raise UserError(
                f"--{name} is about one run, and --logdir names {len(ensemble.runs)}; leave it "
                "out, or name one of them"
            )


def _choose_summary_dir(
    ensemble: Ensemble, manifest: Manifest, split: str, test_time_shifts: int
) -> Path | None:
    """Returns the folder for TensorBoard, within the run's or the ensemble's; None for a list."""
    if ensemble.folder is None:
        return None
    own = all(run.dataset_digest == manifest.digest for run in ensemble.runs)
    name = split if own else f"{manifest.name}-{split}"
    if name in _TRAININGS_FOLDERS:
        name = f"eval_{name}"
    if test_time_shifts:
        name = f"{name}-shifts-{test_time_shifts}"
    return ensemble.folder / name


def watch_checkpoints(run: Run, *, timeout: float) -> Iterator[Path]:
    """Waits for a run's checkpoints.

    Args:
      run: a run in progress.
      timeout: seconds without a new checkpoint after which to give up.

    Yields:
      Each checkpoint there is, oldest first, and each new one, until the run has been exported.

    Raises:
      UserError: nothing new came for so long.
    """
    from model_definition.checkpoints import (
        checkpoint_step,
        find_damage,
        is_exported,
        list_checkpoints,
    )

    last_step, since = -1, time.monotonic()
    while True:
        # Looked at first: training exports after its last checkpoint.
        ended = is_exported(run)
        fresh = [
            c for c in reversed(list_checkpoints(run.logdir)) if checkpoint_step(c) > last_step
        ]
        for checkpoint in fresh:
            last_step, since = checkpoint_step(checkpoint), time.monotonic()
            if find_damage(checkpoint):
                log(f"{checkpoint}: gone or not readable; passed over")
            else:
                yield checkpoint
        if ended:
            return
        if time.monotonic() - since > timeout:
            raise UserError(
                f"{run.logdir}: no new checkpoint for {timeout:,} s and no finished run; "
                "--watch_timeout=SECONDS waits longer"
            )
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    command_line.run(main, define_flags)
