"""Measures how soon the scripts get to work: --help, imports, the first training step, evaluation.

    python benchmarks/start.py --logdir=runs/lenet --data_dir=data/mnist

Every figure is the median of --repeats whole processes, timed from outside: elapsed seconds, and
seconds of processor time, which other work on the machine disturbs less. `import tensorflow` and
the first step of a minimal Keras script are measured in turn with ours. Of evaluation, what comes
after TensorFlow's import is given beside the time that its multiply-adds alone would take at the
rate of the machine's matrix products. What was measured is written to --results.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks import comparing
from benchmarks.comparing import ROOT, current_commit, describe_machine, write_json
from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.architecture import parse_run_architecture
from model_definition.run_dir import load_run

_PACKAGES = ("tensorflow", "tf-slim", "keras", "numpy")

# Both end with the first step, at once, so that no cleaning up is timed.
_OUR_STEP = """
import os
from data_prep import command_line
from train import train_lenet

import_tensorflow = command_line.import_tensorflow

def import_and_patch():
    import_tensorflow()
    from train import hooks
    hooks.StopOnSignalHook.after_run = lambda *_: os._exit(0)  # the last hook of a step

command_line.import_tensorflow = import_and_patch
command_line.run(train_lenet.main, train_lenet.define_flags)
"""
_KERAS_STEP = """
import os, sys
import keras
import numpy as np

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        os._exit(0)

model = keras.Sequential([
    keras.Input((28, 28, 1)),
    keras.layers.Conv2D(32, 5, padding="same", activation="relu"), keras.layers.MaxPooling2D(),
    keras.layers.Conv2D(64, 5, padding="same", activation="relu"), keras.layers.MaxPooling2D(),
    keras.layers.Flatten(), keras.layers.Dense(1024, activation="relu"),
    keras.layers.Dropout(0.5), keras.layers.Dense(10, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
images, labels = np.zeros((1024, 28, 28, 1), np.float32), np.zeros(1024, np.int64)
model.fit(images, labels, batch_size=128, verbose=0, callbacks=[Stop()])
"""
_IMPORTED = "from data_prep.command_line import import_tensorflow; import_tensorflow()"
# Rate of a matrix product in FLOP a second, elapsed and of processor time: the best of several.
_MATRIX_PRODUCTS = f"""
{_IMPORTED}
import time
import tensorflow as tf
n = 2048
matrix = tf.random.stateless_uniform([n, n], [0, 0])
rates = []
for _ in range(8):
    start = time.perf_counter(), time.process_time()
    tf.matmul(matrix, matrix).numpy()
    end = time.perf_counter(), time.process_time()
    rates.append([2 * n**3 / (after - before) for before, after in zip(start, end)])
print(*(max(column) for column in zip(*rates)))
"""


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "The dataset folder.")
    flags.DEFINE_string("logdir", "runs/lenet", "A finished run, to evaluate.")
    flags.DEFINE_integer("repeats", 5, "Runs of each measurement.", 1)
    flags.DEFINE_string(
        "results", str(ROOT / "benchmarks/results/start.json"), "The results' file."
    )


def main(argv: list[str]) -> None:
    """Measures everything, prints a line for each figure, and writes the results."""
    values = flags.FLAGS
    data_dir, logdir = Path(values.data_dir).absolute(), Path(values.logdir).absolute()
    run = load_run(logdir)
    # Of TensorFlow's import and the first steps.
    figures = measure_in_turn(
        {
            "import tensorflow": ["-c", "import tensorflow"],
            "its import by our scripts": ["-c", _IMPORTED],
            "first step, Keras": ["-c", _KERAS_STEP],
            "first step, train_lenet.py": [
                *("-c", _OUR_STEP, f"--data_dir={data_dir}", "--logdir=FRESH"),
            ],
            "evaluate.py": [
                *(str(ROOT / "eval/evaluate.py"), f"--logdir={logdir}", f"--data_dir={data_dir}"),
            ],
        },
        values.repeats,
    )
    scripts = find_scripts(ROOT)
    figures |= measure_in_turn(
        {f"{name} --help": [str(ROOT / name), "--help"] for name in scripts}, values.repeats
    )
    figures |= measure_in_turn(
        {f"import {name}": ["-c", f"import {_module(name)}"] for name in scripts}, values.repeats
    )
    num_images = load_manifest(data_dir).splits["test"].num_examples
    flop = 2 * num_images * parse_run_architecture(run).multiply_adds
    arithmetic = _measure_arithmetic(flop)
    for name, figure in figures.items():
        print(format_figure(name, figure))
    print(format_ratios(figures, arithmetic, num_images))
    results = {
        "commit": current_commit(),
        "machine": describe_machine(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
        },
        "figures": figures,
        "evaluation": {"images": num_images, "flop": flop, "arithmetic": arithmetic},
    }
    write_json(Path(values.results), results)


def find_scripts(root: Path) -> list[str]:
    """Finds every script of the project: the files that call `command_line.run` as themselves.

    Args:
      root: the project's folder.

    Returns:
      Their paths under it.
    """
    paths = [path.relative_to(root) for folder in root.iterdir() for path in folder.rglob("*.py")]
    return sorted(
        str(path)
        for path in paths
        if not path.parts[0].startswith((".", "tests"))
        and "\n    command_line.run(main" in (root / path).read_text(encoding="utf-8")
    )


def _module(script: str) -> str:
    return script.removesuffix(".py").replace("/", ".")


def measure_in_turn(commands: dict[str, list[str]], repeats: int) -> dict[str, Any]:
    """Times processes, one of each after the other, after one of each that is not counted.

    Args:
      commands: what to give Python, by the figure's name; FRESH in it is a folder of its own.
      repeats: how often each is timed.

    Returns:
      By name, `seconds` and `cpu_seconds`: the median, the smallest and the largest.

    Raises:
      UserError: one failed.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(repeats + 1):
        for name, command in commands.items():
            taken[name].append(time_process(command))
    figures = {}
    for name, times in taken.items():
        columns = zip(*times[1:], strict=True)  # The first run compiled what it imported.
        figures[name] = {
            unit: [round(pick(column), 3) for pick in (statistics.median, min, max)]
            for unit, column in zip(("seconds", "cpu_seconds"), columns, strict=True)
        }
    return figures


def time_process(command: list[str]) -> tuple[float, float]:
    """Runs Python once.

    Args:
      command: what to give it; FRESH becomes a folder that does not exist yet.

    Returns:
      Seconds from its start to its end, and of processor time.

    Raises:
      UserError: it failed; says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = [part.replace("FRESH", f"{folder}/fresh") for part in command]
        process = comparing.time_process(arguments, Path(folder), _environment())
    # absl's --help ends with 1.
    if process.status != (1 if command[-1] == "--help" else 0):
        raise UserError(f"{command[0]} failed: {process.errors.strip()[-400:]}")
    return process.seconds, process.cpu_seconds


def _environment() -> dict[str, str]:
    """Returns the environment of a user, whose Python keeps what it compiled."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def _run_quietly(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _measure_arithmetic(flop: int) -> dict[str, float]:
    """Returns the seconds that so many operations take at the rate of a matrix product."""
    rates = map(float, _run_quietly([sys.executable, "-c", _MATRIX_PRODUCTS]).split())
    return {
        unit: round(flop / rate, 3)
        for unit, rate in zip(("seconds", "cpu_seconds"), rates, strict=True)
    }


def format_figure(name: str, figure: dict[str, list[float]]) -> str:
    """Returns a figure's line: medians, and the spread of the elapsed seconds."""
    middle, low, high = figure["seconds"]
    cpu = figure["cpu_seconds"][0]
    return f"{name:<36} {middle:>7.2f} s  ({low:.2f} to {high:.2f})  {cpu:>7.2f} CPU-seconds"


def format_ratios(figures: dict[str, Any], arithmetic: dict[str, float], num_images: int) -> str:
    """Returns how ours compare, by processor time.

    Args:
      figures: from `measure_in_turn`.
      arithmetic: seconds that the multiply-adds of evaluation would take.
      num_images: that were evaluated.
    """
    cpu = {name: figure["cpu_seconds"][0] for name, figure in figures.items()}
    ours = cpu["its import by our scripts"]
    beyond = cpu["evaluate.py"] - ours
    step = cpu["first step, train_lenet.py"]
    limit = arithmetic["cpu_seconds"]
    return "\n".join(
        [
            f"import, ours to TensorFlow's          {ours / cpu['import tensorflow']:.2f}",
            f"first step, ours to Keras's           {step / cpu['first step, Keras']:.2f}",
            f"evaluate {num_images:,} images, beyond the import: {beyond:.2f} CPU-seconds, of "
            f"which {limit:.2f} at the rate of a matrix product",
        ]
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
