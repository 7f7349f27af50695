"""Trains every network of the zoo by its recipe with several seeds, and prints a table of them.

What is there already is not trained again, so a run that was stopped goes on, and --networks may do
one after the other. Each finished run is one entry of --results; the table is made from that file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, read_scalar, write_json
from benchmarks.recipe_runs import complete_runs, format_accuracy, load_results, run_script
from data_prep import command_line
from data_prep.schema import load_manifest
from model_definition.architecture import ZOO, load_architecture

_SPEED_STEPS = 60


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder.")
    flags.DEFINE_string("logdir", "runs/zoo", "Where the run folders go.")
    flags.DEFINE_list("networks", sorted(path.stem for path in ZOO.glob("*.txt")), "Which to run.")
    flags.DEFINE_integer("seeds", 3, "Runs of each network, with seeds from 0 on.", 0)
    flags.DEFINE_bool("speed", False, "Measures the seconds an epoch takes, too; best left alone.")
    flags.DEFINE_string("results", str(ROOT / "benchmarks/results/zoo.json"), "The results' file.")


def main(argv: list[str]) -> None:
    """Trains what is missing and prints the table."""
    values = flags.FLAGS
    path, data_dir = Path(values.results), Path(values.data_dir)
    results = load_results(path)
    num_train = load_manifest(data_dir).splits["train"].num_examples
    for network in values.networks:
        entry = results.setdefault(network, {"runs": {}, "seconds_an_epoch": None})
        complete_runs(
            entry["runs"],
            network,
            seeds=values.seeds,
            data_dir=data_dir,
            logdir=Path(values.logdir),
            save=lambda: write_json(path, results),
        )
        if values.speed:
            entry["seconds_an_epoch"] = round(num_train / _measure_speed(network, data_dir), 1)
            write_json(path, results)
    print(format_table({name: results[name] for name in values.networks}))


def _measure_speed(network: str, data_dir: Path) -> float:
    """Returns the images a second of a short run, from TensorBoard's own figures."""
    with tempfile.TemporaryDirectory() as folder:
        run_script(
            *("train/train_lenet.py", f"--recipe={network}", f"--data_dir={data_dir}"),
            *(f"--logdir={folder}/run", f"--max_steps={_SPEED_STEPS}"),
            "--summary_every_steps=10",
        )
        return read_scalar(Path(folder) / "run/train", "images_per_second")


def format_table(results: dict[str, Any]) -> str:
    """Returns the results as a table in Markdown.

    Args:
      results: by network, as the results' file holds them.

    Returns:
      The table's lines: size, epochs, accuracy on the test split in per cent as mean ± standard
      deviation (n runs), and the seconds an epoch takes.
    """
    lines = [
        "| network | parameters | multiply-adds | epochs | test accuracy (%) | s an epoch |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for network, entry in results.items():
        architecture = load_architecture(network, image_shape=(28, 28, 1), num_classes=10)
        runs = list(entry["runs"].values())
        epochs = "/".join(sorted({f"{run['config']['epochs']:g}" for run in runs}))
        seconds = entry["seconds_an_epoch"]
        lines.append(
            f"| `{network}` | {architecture.num_parameters:,} | {architecture.multiply_adds:,} "
            f"| {epochs} | {format_accuracy(runs)} | {seconds or ''} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.run(main, define_flags)
