"""Shows how soon predict.py answers, against the same answer through `import tensorflow`.

    python benchmarks/predict_start.py --logdir=runs/lenet --data_dir=data/mnist

Both find the digits by the same function and classify them with the same weights: predict.py with
the run's LiteRT model, the other with the run's SavedModel, which predict/export.py wrote. They
must give the same text. Whole processes are timed from outside, in turn, on a picture of one digit
(PNG) and on a page of 50 (JPEG, 4,000 x 3,000 pixels), both made of test images. Each figure is the
median of --repeats runs, with the smallest and the largest beside it.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from data_prep.schema import decode_example, load_manifest
from data_prep.tfrecord import scan_records

ROOT = Path(__file__).resolve().parents[1]
_SIDE = 300  # pixels of a digit's image on the page
_ROWS, _COLUMNS = 5, 10
_WITH_TENSORFLOW = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from model_definition.run_dir import load_run
from predict.digits import find_digits
from predict.image_source import load_image

run = load_run(Path(sys.argv[1]))
signature = tf.saved_model.load(sys.argv[2]).signatures["serving_default"]
digits = find_digits(load_image(sys.argv[3]), run.image_shape, run.image_preparation)
pixels = tf.constant(np.stack([digit.image for digit in digits]))
labels = signature(pixels=pixels)["probabilities"].numpy().argmax(axis=1)
print(*(run.class_names[label] for label in labels), sep="")
"""


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "A finished run.")
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder whose test images are shown.")
    flags.DEFINE_integer("repeats", 7, "Runs of each measurement.", 1)


def main(argv: list[str]) -> None:
    """Measures both ways on both pictures and prints a line for each figure."""
    values = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(values.data_dir), Path(folder))
        saved_model = export_saved_model(values.logdir, Path(folder))
        for name, path in pictures.items():
            measure(name, path, values.logdir, saved_model, values.repeats)


def measure(name: str, picture: Path, logdir: str, saved_model: Path, repeats: int) -> None:
    """Times both ways on one picture, in turn, and prints the figures.

    Args:
      name: what the picture shows.
      picture: its file.
      logdir: the run folder.
      saved_model: the run's export.
      repeats: how often.

    Raises:
      UserError: the answers differ.
    """
    seconds: dict[str, list[float]] = {"predict.py": [], "tensorflow": []}
    for _ in range(repeats):
        script = str(ROOT / "predict/predict.py")
        rows, took = run([script, f"--logdir={logdir}", "--csv", str(picture)])
        seconds["predict.py"].append(took)
        expected, took = run(["-c", _WITH_TENSORFLOW, logdir, str(saved_model), str(picture)])
        seconds["tensorflow"].append(took)
        answer = "".join(row["class_name"] for row in csv.DictReader(rows.splitlines()))
        if answer != expected.strip():
            raise UserError(f"{name}: the answers differ: {answer} and {expected.strip()}")
    for way, figures in seconds.items():
        spread = f"({min(figures):.2f} to {max(figures):.2f})"
        print(f"{name:<26} {way:<12} {statistics.median(figures):>6.2f} s  {spread}", flush=True)
    ratio = statistics.median(seconds["tensorflow"]) / statistics.median(seconds["predict.py"])
    print(f"{name:<26} {'ratio':<12} {ratio:>6.1f}")


def write_pictures(data_dir: Path, folder: Path) -> dict[str, Path]:
    """Makes both pictures.

    Args:
      data_dir: dataset folder; its test images are light digits on black.
      folder: where to write.

    Returns:
      What each shows, and its file.
    """
    from PIL import Image

    manifest = load_manifest(data_dir)
    images = []
    for record in scan_records(data_dir / manifest.splits["test"].shards[0].name):
        pixels = np.frombuffer(decode_example(record.data).encoded, np.uint8)
        images.append(Image.fromarray(pixels.reshape(manifest.image_shape[:2])))
        if len(images) == _ROWS * _COLUMNS:
            break
    images[0].save(folder / "one.png")
    ink = Image.new("L", (4000, 3000))
    for number, image in enumerate(images):
        row, column = divmod(number, _COLUMNS)
        place = (100 + 380 * column + 7 * row, 150 + 560 * row + number * 13 % 40)
        ink.paste(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), place)
    share = np.asarray(ink, np.float32)[:, :, None] / 255
    light = np.linspace(235, 190, 4000, dtype=np.float32)  # falls from the left
    light = light + 3 * np.random.default_rng(0).standard_normal((3000, 4000), np.float32)
    page = light[:, :, None] * (1 - share) + np.array([40, 40, 110], np.float32) * share
    Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(folder / "page.jpg", quality=90)
    return {
        "one digit, 28 x 28": folder / "one.png",
        "50 digits, 12 megapixels": folder / "page.jpg",
    }


def export_saved_model(logdir: str, folder: Path) -> Path:
    """Exports the run's SavedModel into a folder and returns its path."""
    run(
        [
            str(ROOT / "predict/export.py"),
            f"--logdir={logdir}",
            "--format=saved_model",
            f"--output_dir={folder}",
        ]
    )
    return next(path.parent for path in folder.rglob("saved_model.pb"))


def run(command: list[str]) -> tuple[str, float]:
    """Runs a script of the project.

    Args:
      command: what to give Python.

    Returns:
      What it printed, and how many seconds it took from start to end.

    Raises:
      UserError: it failed; says why.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout, seconds


if __name__ == "__main__":
    command_line.run(main, define_flags)
