"""Writes the table of claims into benchmarks/README.md from the results that the scripts have kept.

    python benchmarks/table.py

Nothing is measured here. Where a script has kept no results yet, its row says so.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.accuracy import CLAIMS, ENSEMBLES
from benchmarks.comparing import ROOT
from benchmarks.recipe_runs import format_accuracy, load_results
from benchmarks.train import compare_with_peers
from data_prep import command_line
from data_prep.command_line import UserError
from model_definition.run_dir import write_atomically

_RESULTS = ROOT / "benchmarks/results"
_README = ROOT / "benchmarks/README.md"
_BEGIN, _END = "<!-- table -->\n", "<!-- end of the table -->\n"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      claim: what is measured.
      to_reach: what it is to reach.
      script: that measures it; its results have the same name.
      reached: says from the results what was reached; what it misses there was not measured.
      recipes: whose runs those are; empty where the results are of no recipe.
    """

    claim: str
    to_reach: str
    script: str
    reached: Callable[[Any], str]
    recipes: tuple[str, ...] = ()


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("readme", str(_README), "The text with the table.")


def main(argv: list[str]) -> None:
    """Writes the table."""
    path = Path(flags.FLAGS.readme)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise UserError(f"{path}: expected lines {_BEGIN.strip()} and {_END.strip()}, not found")
    write_atomically(path, before + begin + make_table(_RESULTS) + end + after)


def make_table(folder: Path) -> str:
    """Makes the table.

    Args:
      folder: with the results' files.

    Returns:
      Markdown, whose last line ends too.
    """
    lines = ["| claim | to reach | reached | script | machine |", "|---|---|---|---|---|"]
    for row in ROWS:
        results = load_results(folder / f"{row.script}.json")
        try:
            reached, machine = row.reached(results), _find_machine(row, results)
        except (KeyError, statistics.StatisticsError):
            reached, machine = "not measured", ""
        lines.append(
            f"| {row.claim} | {row.to_reach} | {reached} | `{row.script}.py` | {machine} |"
        )
    return "\n".join(lines) + "\n"


def _find_machine(row: Row, results: Any) -> str:
    """Names the machine that gave a row's results."""
    if not row.recipes:
        return results["machine"]
    runs = [run for recipe in row.recipes for run in results["runs"][recipe].values()]
    return "; ".join(sorted({run["machine"] for run in runs}))


def _convert_seconds(results: Any) -> str:
    seconds = {way: statistics.median(s) for way, s in results["figures"]["seconds"].items()}
    ratio = f", {seconds['TFDS'] / seconds['ours']:.0f} x TFDS" if "TFDS" in seconds else ""
    return f"{seconds['ours']:.2f} s{ratio}"


def _convert_memory(results: Any) -> str:
    megabytes = {
        way.removeprefix("ours, ").removesuffix(" drawn"): statistics.median(peaks)
        for way, peaks in results["figures"]["peak_megabytes"].items()
        if way.endswith(" drawn")
    }
    if not megabytes:
        raise KeyError("drawn")
    return ", ".join(f"{peak:.0f} MB for {n}" for n, peak in megabytes.items())


def _read_speed(epoch: str) -> Callable[[Any], str]:
    def describe(results: Any) -> str:
        speeds = {way: statistics.median(s) for way, s in results["figures"][epoch].items()}
        ours = speeds.pop("ours")
        peers = ", ".join(f"{ours / speed:.1f} x {way}" for way, speed in speeds.items())
        return f"{ours:,.0f} images/s; {peers}" if peers else f"{ours:,.0f} images/s"

    return describe


def _train_ratios(results: Any) -> str:
    return "; ".join(compare_with_peers(results))


def _accuracy(recipe: str) -> Callable[[Any], str]:
    def describe(results: Any) -> str:
        runs = list(results["runs"][recipe].values())
        seconds = statistics.median(run["seconds"] for run in runs)
        return f"{format_accuracy(runs)} in {seconds:,.0f} s"

    return describe


def _ensemble(name: str) -> Callable[[Any], str]:
    def describe(results: Any) -> str:
        score = results["ensembles"][name]
        return (
            f"{100 * score['test_accuracy']:.2f} % of {len(score['members'])} runs in "
            f"{score['seconds']:,.0f} s"
        )

    return describe


def _pytorch_example(results: Any) -> str:
    last = [run["epochs"][-1] for run in results["runs"].values()]
    accuracy = statistics.mean(100 * epoch["test_accuracy"] for epoch in last)
    seconds = statistics.median(epoch["seconds"] for epoch in last)
    epochs = {len(run["epochs"]) for run in results["runs"].values()}
    return f"{accuracy:.2f} % in {seconds:,.0f} s, {'/'.join(map(str, epochs))} epochs"


def _seconds(results: Any) -> dict[str, float]:
    """Returns the median seconds of what start.py measured, by its name."""
    return {name: figure["seconds"][0] for name, figure in results["figures"].items()}


def _evaluation(results: Any) -> str:
    seconds = _seconds(results)
    beyond = seconds["evaluate.py"] - seconds["its import by our scripts"]
    limit = results["evaluation"]["arithmetic"]["seconds"]
    return f"{beyond:.2f} s, of which {limit:.2f} s at the rate of a matrix product"


def _first_step(results: Any) -> str:
    seconds = _seconds(results)
    return (
        f"{seconds['first step, train_lenet.py']:.2f} s; Keras {seconds['first step, Keras']:.2f} s"
    )


def _help(results: Any) -> str:
    seconds = {
        name.removesuffix(" --help"): took
        for name, took in _seconds(results).items()
        if name.endswith(" --help")
    }
    slowest = max(seconds, key=seconds.__getitem__)
    return f"at most {seconds[slowest]:.2f} s ({slowest})"


def _recipe_rows() -> list[Row]:
    rows = []
    for recipe, claim in CLAIMS.items():
        to_reach = f"{claim.to_reach}, mean of {claim.seeds} seeds"
        what = f"{claim.what} (recipe `{recipe}`)"
        rows.append(Row(what, to_reach, "accuracy", _accuracy(recipe), (recipe,)))
    for name, together in ENSEMBLES.items():
        what = f"ensemble of all runs of `{'`, `'.join(together.recipes)}`"
        rows.append(Row(what, together.to_reach, "accuracy", _ensemble(name), together.recipes))
    return rows


ROWS = [
    Row("convert MNIST, whole process", "1.0 s, 15 x TFDS", "convert", _convert_seconds),
    Row("memory of converting drawn digits", "300 MB for 10,000,000", "convert", _convert_memory),
    Row("read, first epoch", "500,000 images/s", "read", _read_speed("first")),
    Row("read, later epochs", "1,000,000 images/s", "read", _read_speed("later")),
    Row("train LeNet", "1.5 x the fastest peer; rest under 3 %", "train", _train_ratios),
    *_recipe_rows(),
    Row("PyTorch's MNIST example beside it", "", "pytorch_example", _pytorch_example),
    Row("evaluate 10,000 images, beyond the import", "0.8 s", "start", _evaluation),
    Row("first training step, from the process's start", "4 s", "start", _first_step),
    Row("`--help` of every script", "0.3 s", "start", _help),
]


if __name__ == "__main__":
    command_line.run(main, define_flags)
