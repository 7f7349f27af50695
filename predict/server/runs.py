"""Which runs are served, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_prep.command_line import UserError, log
from model_definition import run_dir
from model_definition.run_dir import Run


def find_runs(logdir: Path) -> Mapping[str, Run]:
    """Lists the runs of a folder by name.

    A request names a run by its key here, so no text of a request ever becomes part of a path.

    Args:
      logdir: a run folder, or a folder of run folders.

    Returns:
      That run alone, or all runs with an exported model; the name is the run folder's.

    Raises:
      UserError: there is none.
    """
    if run_dir.exists(logdir) or not logdir.is_dir():
        return {logdir.resolve().name: run_dir.load_run(logdir)}
    runs: dict[str, Run] = {}
    for folder in sorted(path for path in logdir.iterdir() if run_dir.exists(path)):
        try:
            run = run_dir.load_run(folder)
            if not run.export_path.is_file():
                raise UserError(f"{run.export_path}: no such file; its training has not finished")
            runs[folder.name] = run
        except UserError as error:
            log(f"serve.py: left out: {error}")
    if not runs:
        raise UserError(
            f"{logdir}: expected a run folder, or a folder of finished runs, found neither; name "
            f"one with --logdir, or train one with python train/train_lenet.py --logdir={logdir}"
        )
    return runs
