"""Measures the main path on this machine: convert, read, train, evaluate, predict.

Whole processes are timed from outside, with their peak memory as the operating system counts it.
Each figure is the median of --repeats runs, with the smallest and the largest beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from benchmarks.comparing import ROOT, read_scalar, time_process
from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from train.processor import has_bfloat16

_READ_BATCH = 256


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("from_dir", None, "Folder with MNIST's four files.", required=True)
    flags.DEFINE_string("logdir", "runs/lenet", "A finished run, to evaluate and predict with.")
    flags.DEFINE_integer("repeats", 3, "Runs of each measurement.", 1)
    flags.DEFINE_integer("train_steps", 60, "Steps of the training measurements.", 20)


def main(argv: list[str]) -> None:
    """Measures everything and prints a line for each figure."""
    values = flags.FLAGS
    if not (Path(values.logdir) / "export/model.tflite").is_file():
        raise UserError(f"{values.logdir}: no finished run; train one first, or name it")
    repeats = values.repeats
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "mnist"
        convert = [
            *("data_prep/convert.py", f"--from_dir={values.from_dir}"),
            *(f"--data_dir={data_dir}", "--overwrite"),
        ]
        _measure_process("convert MNIST, whole process", convert, repeats)
        verify = ["data_prep/verify.py", f"--data_dir={data_dir}"]
        _measure_process("verify MNIST, whole process", verify, repeats)
        evaluate = ["eval/evaluate.py", f"--logdir={values.logdir}", f"--data_dir={data_dir}"]
        _measure_process("evaluate 10,000 images, whole process", evaluate, repeats)
        image = _write_test_image(data_dir, Path(folder))
        predict = ["predict/predict.py", f"--logdir={values.logdir}", f"--url={image}"]
        _measure_process("predict one local PNG, whole process", predict, repeats)
        _measure_reading(data_dir, repeats)
        _measure_training(data_dir, Path(folder), values.train_steps, repeats)


def _report(name: str, figures: list[float], unit: str, digits: int) -> None:
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    spread = f"{low:,.{digits}f} to {high:,.{digits}f}"
    print(f"{name:<42} {middle:>12,.{digits}f} {unit:<9} ({spread})", flush=True)


def _measure_process(name: str, command: list[str], repeats: int) -> None:
    """Times a script as a process, and reports its peak memory."""
    seconds, megabytes = [], []
    for _ in range(repeats):
        process = time_process([str(ROOT / command[0]), *command[1:]], Path.cwd(), os.environ)
        if process.status:
            raise UserError(f"{command[0]} failed: {process.errors.strip()}")
        seconds.append(process.seconds)
        megabytes.append(process.peak_megabytes)
    _report(name, seconds, "s", 2)
    _report("  its peak memory", megabytes, "MB", 0)


def _write_test_image(data_dir: Path, folder: Path) -> Path:
    """Writes the first test image as a PNG file."""
    import numpy as np
    from PIL import Image

    from data_prep.schema import decode_example
    from data_prep.tfrecord import scan_records

    manifest = load_manifest(data_dir)
    record = next(scan_records(data_dir / manifest.splits["test"].shards[0].name))
    pixels = np.frombuffer(decode_example(record.data).encoded, np.uint8)
    Image.fromarray(pixels.reshape(manifest.image_shape[:2])).save(folder / "test.png")
    return folder / "test.png"


def _measure_reading(data_dir: Path, repeats: int) -> None:
    """Times shuffled float32 batches, CRC checked, from opening the shards on."""
    command_line.import_tensorflow()
    import tensorflow as tf

    from input_pipeline.augment import Augmentation
    from input_pipeline.datasets import make_train_dataset

    manifest = load_manifest(data_dir)
    steps = manifest.splits["train"].num_examples // _READ_BATCH

    def read(augmentation: Augmentation | None) -> tuple[float, float]:
        """Returns images a second in the first epoch and in the two after it."""
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            dataset = make_train_dataset(
                data_dir,
                manifest,
                splits=["train"],
                batch_size=_READ_BATCH,
                seed=0,
                augmentation=augmentation,
            )
            batch = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
            get_next = [tensor.op for tensor in batch]
            speeds = [_time_steps(lambda: session.run(get_next), n) for n in (steps, 2 * steps)]
        return speeds[0] * _READ_BATCH, speeds[1] * _READ_BATCH

    plain = [read(None) for _ in range(repeats)]
    _report("read, first epoch", [first for first, _ in plain], "images/s", 0)
    _report("read, later epochs", [later for _, later in plain], "images/s", 0)
    affine = Augmentation(shift=0.1, rotation=15.0, zoom=0.15)
    speeds = [read(affine)[1] for _ in range(repeats)]
    _report("read, shift + rotation + zoom", speeds, "images/s", 0)
    speeds = [read(Augmentation(elastic=34.0))[1] for _ in range(repeats)]
    _report("read, elastic", speeds, "images/s", 0)


def _time_steps(run: Callable[[], object], steps: int) -> float:
    """Returns calls a second."""
    start = time.perf_counter()
    for _ in range(steps):
        run()
    return steps / (time.perf_counter() - start)


def _measure_training(data_dir: Path, folder: Path, steps: int, repeats: int) -> None:
    """Times training by the real script, from TensorBoard's own figures."""
    precisions = ["float32", "bfloat16"] if has_bfloat16() else ["float32"]
    if len(precisions) == 1:
        print("train, bfloat16: this processor has no bfloat16 instructions")
    for precision in precisions:
        speeds = []
        for repeat in range(repeats):
            logdir = folder / f"{precision}-{repeat}"
            command = [
                *(sys.executable, str(ROOT / "train/train_lenet.py"), "--json"),
                *(f"--data_dir={data_dir}", f"--logdir={logdir}", f"--max_steps={steps}"),
                *(f"--precision={precision}", "--summary_every_steps=10", "--batch_size=128"),
            ]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
            assert json.loads(finished.stdout)["step"] == steps
            speeds.append(read_scalar(logdir / "train", "images_per_second"))
        _report(f"train LeNet, batch 128, {precision}", speeds, "images/s", 0)


if __name__ == "__main__":
    command_line.run(main, define_flags)
