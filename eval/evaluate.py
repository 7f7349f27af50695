"""Evaluates a run's checkpoint on a split of its dataset, or of another with the same classes.

Everything comes from the run folder, so --logdir is enough. Every image counts once.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import load_manifest
from model_definition.run_dir import LITERT_NAME, Run, load_run, require_same_dataset

_POLL_SECONDS = 1.0
_TRAININGS_FOLDERS = ("train", "validation")  # the curves that training itself draws


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder.")
    flags.DEFINE_string("split", "test", "What to evaluate on, such as test or train+validation.")
    flags.DEFINE_string("data_dir", None, "A dataset folder with the same classes. [the run's]")
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Best on validation, or the last.")
    flags.DEFINE_string("checkpoint_path", None, "A certain checkpoint, such as model.ckpt-860.")
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
    run = load_run(Path(values.logdir))
    data_dir = Path(values.data_dir or run.data_dir)
    if values.data_dir is None and not data_dir.is_dir():
        raise UserError(
            f"{data_dir}: the dataset that {run.logdir} was trained on is not there; name its "
            "folder with --data_dir"
        )
    manifest = load_manifest(data_dir)
    require_same_dataset(run, manifest, exactly=values.data_dir is None)
    command_line.import_tensorflow()
    import tensorflow as tf

    from eval.evaluation import evaluate
    from eval.report import format_text, write_summaries
    from input_pipeline.records import resolve_splits
    from model_definition.checkpoints import choose_checkpoint, find_damage

    splits = resolve_splits(values.split, manifest)
    own = manifest.digest == run.dataset_digest
    folder = values.split if own else f"{manifest.name}-{values.split}"
    if folder in _TRAININGS_FOLDERS:
        folder = f"eval_{folder}"
    if values.watch:
        checkpoints = watch_checkpoints(run, timeout=values.watch_timeout)
    else:
        which = values.checkpoint_path or values.checkpoint
        checkpoints = iter([choose_checkpoint(run, which)])
    for checkpoint in checkpoints:
        try:
            evaluation = evaluate(
                run,
                checkpoint,
                data_dir=data_dir,
                manifest=manifest,
                splits=splits,
                batch_size=values.batch_size,
            )
        except (tf.errors.OpError, ValueError):
            # A run in progress keeps its last few: this one may have been removed just now.
            if not (values.watch and find_damage(checkpoint)):
                raise
            log(f"{checkpoint}: gone or not readable; passed over")
            continue
        text = json.dumps(evaluation.to_json()) if values.json else format_text(evaluation)
        print(text, flush=True)
        (run.logdir / folder).mkdir(exist_ok=True)
        write_summaries(run.logdir / folder, evaluation)


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
    from model_definition.checkpoints import checkpoint_step, find_damage, list_checkpoints

    last_step, since = -1, time.monotonic()
    while True:
        # Looked at first: training exports after its last checkpoint.
        ended = _is_exported(run)
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


def _is_exported(run: Run) -> bool:
    """Tells whether the run was exported after its newest checkpoint."""
    from model_definition.checkpoints import list_checkpoints

    exported = run.export_dir / LITERT_NAME  # whichever version is in use
    if not exported.is_file():
        return False
    newest = [path.with_name(f"{path.name}.index") for path in list_checkpoints(run.logdir)[:1]]
    since = exported.stat().st_mtime
    return all(path.is_file() and path.stat().st_mtime <= since for path in newest)


if __name__ == "__main__":
    command_line.run(main, define_flags)
