"""Searches for good training flags and model values with Optuna, trial after trial.

Each trial is a run folder in --logdir, judged on the validation split. Run again with the same
flags, it goes on where it stopped; run beside itself, it shares the work.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from train.run_lock import require_folder
from train.search.options import SearchOptions
from train.search.settings import load_settings
from train.search.space import list_spaces
from train.training_flags import define_training_flags, given_training_flags

_TRIALS = 50  # where neither --trials nor --minutes is given


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder, from convert.py.")
    flags.DEFINE_string("logdir", "runs/tune", "The search's folder to make or go on with.")
    flags.DEFINE_string(
        "space", None, "What to search: a name or a text file's path. help lists the names."
    )
    flags.DEFINE_integer(
        "trials", None, f"How many trials there shall be in all, of all processes. [{_TRIALS}]"
    )
    flags.DEFINE_float("minutes", None, "How long this process searches, instead of --trials.")
    flags.DEFINE_string(
        "storage",
        None,
        "An Optuna storage URL, through which several machines share a search. "
        "[SQLite in --logdir, which several processes can share]",
    )
    flags.DEFINE_integer("keep", 3, "How many of the best trials keep their checkpoints.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")
    define_training_flags()


def main(argv: list[str]) -> int:
    """Searches as the flags say and prints what came of it."""
    values = flags.FLAGS
    if values.space == "help":
        for name, description in list_spaces().items():
            print(f"{name:<8}  {description}")
        return 0
    if values.space is None:
        raise UserError(
            f"--space: name what to search: {', '.join(list_spaces())}, or a text file's path"
        )
    if values.trials is not None and values.minutes is not None:
        raise UserError("--trials and --minutes: set one of them")
    manifest = load_manifest(Path(values.data_dir))
    settings = load_settings(values.space, given_training_flags(values), manifest)
    logdir = Path(values.logdir)
    require_folder(logdir)
    options = SearchOptions(
        data_dir=Path(values.data_dir),
        logdir=logdir,
        storage=values.storage,
        seed=values.seed,
        trials=_TRIALS if values.trials is None and values.minutes is None else values.trials,
        minutes=values.minutes,
        keep=values.keep,
    )
    command_line.import_tensorflow()
    from train.search.report import describe_search, print_report, write_report
    from train.search.search import search
    from train.search.study import storage_errors_named

    with storage_errors_named(values.storage, logdir):
        result = search(settings, options, manifest)
        report = describe_search(result, settings, options)
        write_report(report, result, settings, logdir)
    if values.json:
        print(json.dumps(report.to_json()))
    else:
        print_report(report)
    return command_line.EXIT_STOPPED if result.stopped_by_signal else 0


if __name__ == "__main__":
    command_line.run(main, define_flags)
