"""Compares several runs on one split of their dataset, and says which differences mean something.

Writes --output_dir/--name with results.txt, results.csv, results.json and report.html. Runs that
differ in nothing but their seed count as one model. An entry of --runs may also be an ensemble:
the folder that train/ensemble.py wrote, or folders joined by `+`. The run folders are only read.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from data_prep.staging import publish, staging_folder
from eval.comparison.entries import Entry, load_entries
from eval.comparison.output import PAGE_NAME, output_folder
from model_definition.ensemble import MAX_SHIFTS
from model_definition.run_dir import require_same_dataset


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("name", None, "The comparison's name, and its folder's.")
    flags.DEFINE_list("runs", None, "The run folders, joined by commas; A+B is the average of two.")
    flags.DEFINE_string(
        "split", "test", "What to compare on: test to report, validation to choose."
    )
    flags.DEFINE_string("data_dir", None, "A dataset folder with the same classes. [the runs']")
    flags.DEFINE_integer(
        "test_time_shifts",
        0,
        "Averages each answer over every shift of the image by up to so many pixels both ways.",
        0,
        MAX_SHIFTS,
    )
    flags.DEFINE_string("output_dir", "comparisons", "The folder that comparisons go to.")
    flags.DEFINE_bool("json", False, "Prints results.json instead of results.txt.")


def main(argv: list[str]) -> None:
    """Compares as the flags say, writes the results and prints them."""
    values = flags.FLAGS
    for name, example in (("name", "zoo"), ("runs", "runs/a,runs/b")):
        if not values[name].value:
            raise UserError(f"--{name}: expected a value, such as --{name}={example}")
    folder = output_folder(Path(values.output_dir), values.name)
    entries = load_entries(values.runs)
    data_dir = Path(values.data_dir) if values.data_dir else _find_dataset(entries)
    manifest = load_manifest(data_dir)
    require_same_dataset(entries[0].ensemble.first, manifest, exactly=values.data_dir is None)
    command_line.import_tensorflow()
    from eval.comparison.answers import ComparedSplit
    from eval.comparison.comparing import compare_entries
    from eval.comparison.results import write_results
    from input_pipeline.splits import resolve_splits

    splits = resolve_splits(values.split, manifest)
    split = ComparedSplit(data_dir, manifest, splits, values.test_time_shifts)
    replaced = ", in place of the comparison that was there" if folder.exists() else ""
    with staging_folder(folder) as staging:
        with command_line.progress("comparing", total=len(entries), unit="run") as on_done:
            comparison = compare_entries(entries, split, name=values.name, on_done=on_done)
        text, document = write_results(staging, comparison)
        output_folder(Path(values.output_dir), values.name)  # Nothing else may have come meanwhile.
        publish(folder)
    if values.json:
        print(json.dumps(document))
    else:
        print(text, end="")
        print(f"\nwritten to {folder}{replaced}; next: open {shlex.quote(str(folder / PAGE_NAME))}")


def _find_dataset(entries: Sequence[Entry]) -> Path:
    """Returns where the dataset is that all runs were trained on."""
    folders = [run.data_dir for entry in entries for run in entry.ensemble.runs]
    for folder in folders:
        if Path(folder).is_dir():
            return Path(folder)
    raise UserError(
        f"{folders[0]}: the dataset that the runs were trained on is not there; name its folder "
        "with --data_dir"
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
