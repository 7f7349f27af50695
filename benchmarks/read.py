"""Compares how fast a training split is read: this project and its peers, in turn.

    .venv-peers/bin/python benchmarks/read.py --from_dir=FOLDER

Each way of benchmarks/read_ways.py gives shuffled float32 batches of 256 with labels, and runs in a
process of its own, without the time of its imports. The first epoch counts from before anything
is opened; those after it may come from a cache. Run again, it adds to the figures of this commit.
A peer that is not installed is named and left out; benchmarks/requirements-peers.txt says how to
install them.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, format_line, load_figures, run_apart, write_results
from benchmarks.read_ways import WAYS
from data_prep import command_line

_SCRIPT = str(ROOT / "benchmarks/read_ways.py")
_PACKAGES = [
    *("tensorflow", "numpy", "google-crc32c", "tensorflow-datasets", "tfrecord"),
    *("array_record", "webdataset", "torch"),
]


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder whose train split is read.")
    flags.DEFINE_string("from_dir", None, "Folder with MNIST's four files, for TFDS.")
    flags.DEFINE_list("ways", list(WAYS), "Which ways to measure; the first one is the measure.")
    flags.DEFINE_integer("repeats", 3, "Runs of each way.", 1)
    flags.DEFINE_integer("later_epochs", 2, "Epochs after the first.", 1)
    flags.DEFINE_string("results", str(ROOT / "benchmarks/results/read.json"), "The results' file.")


def main(argv: list[str]) -> None:
    """Measures every way and prints a table."""
    values = flags.FLAGS
    figures: dict[str, dict[str, list[float]]] = load_figures(Path(values.results))
    with tempfile.TemporaryDirectory() as folder:
        ways = [way for way in values.ways if _is_there(way, values.from_dir)]
        for way in ways:
            run_apart([_SCRIPT, "prepare", way, values.data_dir, folder, values.from_dir or ""])
        for _ in range(values.repeats):
            for way in ways:
                arguments = [way, values.data_dir, folder, str(values.later_epochs)]
                speeds = json.loads(run_apart([_SCRIPT, "read", *arguments]))
                for epoch, speed in speeds.items():
                    figures.setdefault(epoch, {}).setdefault(way, []).append(round(speed))
    for epoch, speeds in figures.items():
        ours = statistics.median(speeds[ways[0]])
        for way in ways:
            ratio = ours / statistics.median(speeds[way])
            print(format_line(f"{epoch} epoch(s): {way}", speeds[way], "images/s", ratio))
    write_results(Path(values.results), figures, _PACKAGES)


def _is_there(way: str, from_dir: str | None) -> bool:
    """Says whether a way can be measured; prints why not."""
    module = WAYS[way][1]
    if module and importlib.util.find_spec(module) is None:
        print(f"{way}: left out, as {module} is not installed (benchmarks/requirements-peers.txt)")
        return False
    if module == "tensorflow_datasets" and from_dir is None:
        print(f"{way}: left out, as --from_dir does not name MNIST's files")
        return False
    return True


if __name__ == "__main__":
    command_line.run(main, define_flags)
