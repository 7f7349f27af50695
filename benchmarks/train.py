"""Measures how fast LeNet trains, here and in PyTorch and Keras, side by side in one run.

    python benchmarks/train.py --data_dir=data/mnist --peers_python=.venv-peers/bin/python

All train the same network (3,274,634 weights, dropout, Adam) by batches of 128 shuffled images that
are kept in memory, in float32 and, where the processor has it, in bfloat16. `ours` is
train_lenet.py itself, with its input pipeline, hooks and summaries; `ours, bare` is the same graph
on one constant batch and nothing around it, so that the difference is what the rest costs. Peers
are set up as their documentation says is fast. Contestants take turns, each measurement in a
process of its own; a figure is the median of --repeats of these, with the smallest and the largest
beside it. A share says how much of the fastest matrix product of that precision seen in the run the
step would reach if it did the arithmetic of direct convolutions.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from benchmarks.comparing import ROOT, current_commit, describe_machine, read_scalar, write_json
from benchmarks.tfds_opens import load_arrays
from data_prep import command_line
from data_prep.command_line import UserError, log
from train.processor import has_bfloat16

BATCH_SIZE = 128
_SUMMARY_STEPS = 50  # between two summaries, as the script has it by default
# Forward, by the weights and by the inputs; the images, conv1's inputs, need no gradient.
_IMAGE_MULTIPLY_ADDS = 3 * 13_883_904 - 627_200
# Keras on TensorFlow gets oneDNN as well, which TensorFlow leaves off on some processors.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
_AUGMENTED = ("--shift=0.1", "--rotation=15", "--zoom=0.15")


@dataclass(frozen=True)
class Contestant:
    """One way to train.

    Attributes:
      name: in the table.
      measure: the worker's function; `script` for train_lenet.py.
      options: of that function, or flags of the script.
      augmented: whether images are shifted, rotated and zoomed.
      backend: Keras's.
    """

    name: str
    measure: str
    options: tuple[str, ...] = ()
    augmented: bool = False
    backend: str = ""

    @property
    def is_bfloat16(self) -> bool:
        """Whether it multiplies in bfloat16."""
        return "bfloat16" in self.name

    @property
    def is_ours(self) -> bool:
        """Whether it is this project."""
        return self.name.startswith("ours")


CONTESTANTS = (
    Contestant("ours", "script"),
    Contestant("ours, bare", "bare"),
    Contestant("ours, bfloat16", "script"),
    Contestant("ours, bfloat16, bare", "bare", ("bfloat16",)),
    Contestant("PyTorch", "torch"),
    Contestant("PyTorch, channels_last", "torch", ("channels_last",)),
    Contestant("PyTorch, channels_last, compile", "torch", ("channels_last", "compile")),
    Contestant("PyTorch, channels_last, bfloat16", "torch", ("channels_last", "bfloat16")),
    Contestant(
        "PyTorch, channels_last, bfloat16, compile",
        "torch",
        ("channels_last", "bfloat16", "compile"),
    ),
    Contestant("Keras, tensorflow", "keras", (), backend="tensorflow"),
    Contestant("Keras, tensorflow, 20 steps at once", "keras", ("many",), backend="tensorflow"),
    Contestant("Keras, tensorflow, jit", "keras", ("jit",), backend="tensorflow"),
    Contestant("Keras, tensorflow, bfloat16", "keras", ("bfloat16",), backend="tensorflow"),
    Contestant("Keras, jax, 20 steps at once", "keras", ("jit", "many"), backend="jax"),
    Contestant("Keras, torch", "keras", (), backend="torch"),
    Contestant("ours, augmented", "script", _AUGMENTED, augmented=True),
    Contestant("ours, bfloat16, augmented", "script", _AUGMENTED, augmented=True),
    Contestant("PyTorch, augmented", "torch", ("channels_last", "augmented"), augmented=True),
    Contestant(
        "PyTorch, bfloat16, augmented",
        "torch",
        ("channels_last", "bfloat16", "augmented"),
        augmented=True,
    ),
    Contestant("Keras, augmented", "keras", ("augmented",), True, "tensorflow"),
)


def define_flags() -> None:
    """Defines the script's flags."""
    names = ", ".join(contestant.name for contestant in CONTESTANTS)
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder.")
    flags.DEFINE_string("peers_python", sys.executable, "The Python that has the peers.")
    flags.DEFINE_multi_string("only", None, f"Contestants to measure, of: {names}.")
    flags.DEFINE_integer("repeats", 3, "Measurements of each contestant.", 1)
    flags.DEFINE_integer("steps", 150, "Steps of each measurement.", 20)
    flags.DEFINE_string("results", str(ROOT / "benchmarks/results/train.json"), "Results' file.")


def main(argv: list[str]) -> None:
    """Measures the contestants in turn, keeps the results and prints the table."""
    values = flags.FLAGS
    chosen = [one for one in CONTESTANTS if values.only is None or one.name in values.only]
    if not chosen or len(chosen) < len(values.only or []):
        names = ", ".join(one.name for one in CONTESTANTS)
        raise UserError(f"--only={values.only}: expected some of: {names}")
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = _write_images(Path(values.data_dir), Path(folder))
        for repeat in range(values.repeats):
            for one in chosen:
                if one.name in missing:
                    continue
                log(f"{one.name}, {repeat + 1} of {values.repeats}")
                try:
                    found[one.name].append(_measure(one, values, images, Path(folder)))
                except _Missing as error:
                    missing[one.name] = str(error)
    results = {
        "contestants": {name: entries for name, entries in found.items() if entries},
        "missing": missing,
        "batch_size": BATCH_SIZE,
        "steps": values.steps,
        "machine": describe_machine(),
        "commit": current_commit(),
    }
    write_json(Path(values.results), results)
    print(format_table(results))


class _Missing(Exception):
    """A contestant cannot take part on this machine."""


def _write_images(data_dir: Path, folder: Path) -> Path:
    """Writes the training images and labels for processes that have no TFRecord reader."""
    images, labels = load_arrays(data_dir, "train")
    path = folder / "images.npz"
    np.savez(path, images=images, labels=labels)
    return path


def _measure(one: Contestant, values: Any, images: Path, folder: Path) -> dict[str, Any]:
    """Measures a contestant once, in a process of its own.

    Returns:
      `images_per_second`; of workers also `gflops`, their matrix product's, `cpu_ms`, the
      processor time of a step, and `versions`; of the script also `input_wait_share`.
    """
    if one.is_bfloat16 and not has_bfloat16():
        raise _Missing("this processor has no bfloat16 instructions")
    if one.measure == "script":
        return _measure_script(one, values, folder)
    python = sys.executable if one.is_ours else values.peers_python
    worker = str(ROOT / "benchmarks/train_worker.py")
    finished = subprocess.run(
        [python, worker, one.measure, str(images), str(values.steps), *one.options],
        capture_output=True,
        text=True,
        check=False,
        env={**_ENVIRONMENT, **os.environ, "KERAS_BACKEND": one.backend},
    )
    if finished.returncode == 3:  # The worker says what it lacks.
        raise _Missing(finished.stderr.strip().splitlines()[-1])
    if finished.returncode:
        raise UserError(f"{one.name} failed: {finished.stderr.strip()[-1000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def _measure_script(one: Contestant, values: Any, folder: Path) -> dict[str, Any]:
    """Times the real script, from TensorBoard's own figures."""
    window = min(_SUMMARY_STEPS, values.steps)
    with tempfile.TemporaryDirectory(dir=folder) as logdir:
        command = [
            *(sys.executable, str(ROOT / "train/train_lenet.py")),
            *(f"--data_dir={values.data_dir}", f"--logdir={logdir}/run"),
            f"--precision={'bfloat16' if one.is_bfloat16 else 'float32'}",
            *(f"--batch_size={BATCH_SIZE}", f"--max_steps={window + values.steps}"),
            *(f"--summary_every_steps={window}", "--validate_on=none", *one.options),
        ]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise UserError(f"{one.name} failed: {finished.stderr.strip()[-1000:]}")
        return {
            name: read_scalar(Path(logdir) / "run/train", name)
            for name in ("images_per_second", "input_wait_share")
        }


def format_table(results: dict[str, Any]) -> str:
    """Returns the results as text.

    Args:
      results: as the results' file holds them.

    Returns:
      The machine's matrix product in each precision, a line for each contestant, a line for each
      that is missing, and the ratios to the fastest peer.
    """
    known = {one.name: one for one in CONTESTANTS}
    contestants = results["contestants"]
    peaks = {False: 0.0, True: 0.0}
    for name, entries in contestants.items():
        rates = [entry["gflops"] for entry in entries if "gflops" in entry]
        is_bfloat16 = known[name].is_bfloat16
        peaks[is_bfloat16] = max([peaks[is_bfloat16], *rates])
    lines = [
        f"matrix product in {'bfloat16' if is_bfloat16 else 'float32'}: {peak:.0f} GFLOP/s at best"
        for is_bfloat16, peak in peaks.items()
        if peak
    ]
    for name, entries in contestants.items():
        speeds = [entry["images_per_second"] for entry in entries]
        median = statistics.median(speeds)
        peak = peaks[known[name].is_bfloat16]
        share = 2e-9 * _IMAGE_MULTIPLY_ADDS * median / peak if peak else 0.0
        cpu = [entry["cpu_ms"] for entry in entries if "cpu_ms" in entry]
        lines.append(
            f"{name:<42} {median:>6,.0f} images/s  ({min(speeds):,.0f} to "
            f"{max(speeds):,.0f})  {share:>5.0%} of the product"
            + (f"  {statistics.median(cpu):>5,.0f} ms of processor a step" if cpu else "")
        )
    lines += [f"{name}: {why}" for name, why in results["missing"].items()]
    return "\n".join(lines + compare_with_peers(results))


def compare_with_peers(results: dict[str, Any]) -> list[str]:
    """Compares our fastest with the fastest peer, in float32 and in any precision.

    Args:
      results: as the results' file holds them.

    Returns:
      A line for each comparison, without and with augmentation; then what stands around our step.
    """
    medians = {
        name: statistics.median(entry["images_per_second"] for entry in entries)
        for name, entries in results["contestants"].items()
    }
    lines = []
    for augmented, with_bfloat16 in itertools.product((False, True), repeat=2):
        racing = [
            one
            for one in CONTESTANTS
            if one.name in medians
            and one.measure != "bare"
            and one.augmented == augmented
            and (with_bfloat16 or not one.is_bfloat16)
        ]
        racing.sort(key=lambda one: medians[one.name])
        ours = [one.name for one in racing if one.is_ours]
        peers = [one.name for one in racing if not one.is_ours]
        if ours and peers:
            ratio = medians[ours[-1]] / medians[peers[-1]]
            lines.append(f"{ours[-1]}: {ratio:.2f} times {peers[-1]}")
    for name in ("ours", "ours, bfloat16"):
        if name in medians and f"{name}, bare" in medians:
            cost = 1 - medians[name] / medians[f"{name}, bare"]
            lines.append(f"{name}: input pipeline, hooks and summaries are {cost:.1%} of a step")
    return list(dict.fromkeys(lines))  # Without bfloat16 both precisions give one line.


if __name__ == "__main__":
    command_line.run(main, define_flags)
