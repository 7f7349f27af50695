"""Compares how fast MNIST's files become TFRecords: this project and TensorFlow Datasets, in turn.

    .venv-peers/bin/python benchmarks/convert.py --from_dir=FOLDER
    python benchmarks/convert.py --from_dir=FOLDER --synthetic_images=100000,1000000

Both start from the same four .gz files and are timed as whole processes, with their peak memory as
the operating system counts it. --synthetic_images converts drawn digits, too, to show how the
memory depends on their number. Run again, it adds to the figures of this commit.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, format_line, load_figures, measure_process, write_results
from data_prep import command_line

_CONVERT = str(ROOT / "data_prep/convert.py")
_READ_WAYS = str(ROOT / "benchmarks/read_ways.py")


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("from_dir", None, "Folder with MNIST's four files.", required=True)
    flags.DEFINE_integer("repeats", 3, "Runs of each measurement.", 0)
    flags.DEFINE_list("synthetic_images", [], "Numbers of digits to draw and convert, once each.")
    flags.DEFINE_string(
        "results", str(ROOT / "benchmarks/results/convert.json"), "The results' file."
    )


def main(argv: list[str]) -> None:
    """Measures every way and prints a table."""
    values = flags.FLAGS
    ways = ["ours", "TFDS"]
    if importlib.util.find_spec("tensorflow_datasets") is None:
        print("TFDS: left out, as it is not installed (benchmarks/requirements-peers.txt)")
        ways.remove("TFDS")
    figures: dict[str, dict[str, list[float]]] = load_figures(Path(values.results))
    seconds = figures.setdefault("seconds", {})
    megabytes = figures.setdefault("peak_megabytes", {})
    for _ in range(values.repeats):
        for way in ways:
            _measure(way, _command(way, values.from_dir), seconds, megabytes)
    for number in values.synthetic_images:
        command = [
            *(_CONVERT, "--dataset=synthetic", "--validation_size=0"),
            *(f"--synthetic_train={number}", "--synthetic_test=1"),
        ]
        _measure(f"ours, {int(number):,} drawn", command, seconds, megabytes)
    for way in seconds:
        ratio = None
        if way in ways:
            ratio = statistics.median(seconds[way]) / statistics.median(seconds["ours"])
        print(format_line(way, seconds[way], "s", ratio))
        print(format_line("  its peak memory", megabytes[way], "MB"))
    packages = ["numpy", "google-crc32c", "tensorflow-datasets", "tensorflow"]
    write_results(Path(values.results), figures, packages)


def _command(way: str, from_dir: str) -> list[str]:
    if way == "ours":
        return [_CONVERT, f"--from_dir={from_dir}"]
    return [_READ_WAYS, "prepare", "TFDS guide", "", ".", from_dir]


def _measure(
    way: str,
    command: list[str],
    seconds: dict[str, list[float]],
    megabytes: dict[str, list[float]],
) -> None:
    """Runs a command in an empty folder of its own, into which it writes."""
    with tempfile.TemporaryDirectory() as folder:
        if command[0] == _CONVERT:
            command = [*command, f"--data_dir={folder}/data"]
        took, peak = measure_process(command, Path(folder))
    seconds.setdefault(way, []).append(round(took, 3))
    megabytes.setdefault(way, []).append(round(peak))


if __name__ == "__main__":
    command_line.run(main, define_flags)
