"""Decides whether a run starts or goes on, and from which checkpoint."""

from __future__ import annotations

from pathlib import Path

from data_prep.command_line import UserError, log
from data_prep.schema import MANIFEST_NAME, Manifest
from model_definition import run_dir
from model_definition.checkpoints import find_damage, list_checkpoints
from model_definition.run_dir import Run, load_run, require_same_dataset, write_run
from train.config import changed_flags


def start_or_resume(run: Run, manifest: Manifest) -> Path | None:
    """Writes a new run's description, or checks that this run is the one in the folder.

    Args:
      run: the run that is asked for.
      manifest: of its dataset.

    Returns:
      The checkpoint to go on from; None to start at step 0.

    Raises:
      UserError: the folder holds another run, or something else, or no readable checkpoint.
    """
    if (run.logdir / MANIFEST_NAME).exists():
        raise UserError(f"{run.logdir}: a dataset folder; name another folder with --logdir")
    checkpoints = list_checkpoints(run.logdir)
    if checkpoints and not run_dir.exists(run.logdir):
        raise UserError(
            f"{run.logdir}: holds checkpoints but no {run_dir.RUN_NAME}, so nothing says what "
            "they are; name another --logdir"
        )
    if not checkpoints and (imported := list_checkpoints(run.logdir / run_dir.BEST_NAME)):
        raise UserError(
            f"{run.logdir}: holds {imported[0]} and no checkpoint to go on from, as a run that was "
            "imported; name another --logdir, so that it is kept"
        )
    if not checkpoints:  # Nothing was trained here yet, so there is nothing that must fit.
        write_run(run)
        return None
    existing = load_run(run.logdir)
    require_same_dataset(existing, manifest, exactly=True)
    _require_same_model(existing, run)
    changed = changed_flags(existing.config, run.config)
    if changed["refused"]:
        raise UserError(
            f"{run.logdir}: holds a run with other flags ({'; '.join(changed['refused'])}); give "
            "the same flags to go on with it, or name another --logdir"
        )
    if existing.teacher_digest != run.teacher_digest:
        raise UserError(
            f"{run.logdir}: its teacher {run.config['teacher']} has other weights than when this "
            "run began; restore those to go on with it, or name another --logdir"
        )
    for line in changed["extended"]:
        log(f"going on with the run in {run.logdir} with another {line}")
    if changed["extended"] and run.config["schedule"] in ("one_cycle", "cosine"):
        log(f"the {run.config['schedule']} learning rate follows the new length from here")
    if existing.versions != run.versions:
        log("going on with other versions of the libraries: the last bits may differ")
    checkpoint = _newest_readable(run.logdir, checkpoints)
    write_run(run)
    return checkpoint


def _require_same_model(existing: Run, run: Run) -> None:
    old, new = (_layers(text) for text in (existing.architecture_text, run.architecture_text))
    if old != new:
        position = next(
            (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
            min(len(old), len(new)),
        )
        was, now = (
            f"`{lines[position]}`" if position < len(lines) else "nothing" for lines in (old, new)
        )
        raise UserError(
            f"{run.logdir}: holds a run of another model: its {run_dir.MODEL_NAME} has {was} "
            f"where {run.model} has {now}; name that model with --model, or "
            "another --logdir"
        )


def _layers(text: str) -> list[str]:
    """Returns an architecture's lines without comments and spacing."""
    lines = (" ".join(line.partition("#")[0].split()) for line in text.splitlines())
    return [line for line in lines if line]


def _newest_readable(logdir: Path, checkpoints: list[Path]) -> Path:
    """Returns the newest checkpoint that can be read, naming those that cannot."""
    for checkpoint in checkpoints:
        damage = find_damage(checkpoint)
        if damage is None:
            log(f"going on from {checkpoint}")
            return checkpoint
        log(f"{checkpoint}: cannot be read ({damage}); trying the one before it")
    raise UserError(
        f"{logdir}: none of its {len(checkpoints)} checkpoints can be read; restore one, or "
        "train again into another --logdir"
    )
