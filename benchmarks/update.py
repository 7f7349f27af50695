"""Shows what an update does: a network that never saw a crossed seven learns them from a few.

    python benchmarks/update.py

Takes every crossed seven out of a dataset of digits, trains on the rest, and updates that run with
some of them (`train/update.py`). Prints how many of all the others it reads right before and after,
and how far its accuracy on validation images, none of them a crossed seven, has moved. Each step is
a command of the project, shown as it runs; everything stays in --output_dir.
"""

from __future__ import annotations

import json
import shlex
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line, tfrecord
from data_prep.command_line import UserError, log
from data_prep.schema import Manifest, decode_example, load_manifest

ROOT = Path(__file__).resolve().parents[1]
SEVEN = 7
_INK = 100  # grey levels from which a pixel is ink
_LONGEST_STEM = 0.6  # of the bar, above and below it
_SHORTEST_BAR = 8  # pixels


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder of digits, 28x28x1, raw.")
    flags.DEFINE_string("output_dir", "runs/crossed_sevens", "Folder to make.")
    flags.DEFINE_integer("examples", 36, "Crossed sevens to learn from, held-out ones included.", 1)
    flags.DEFINE_list("train_flags", ["--recipe=fast"], "Training flags, joined by commas.")
    flags.DEFINE_integer("seed", 0, "Decides which crossed sevens are the examples.", 0)
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of lines.")


def main(argv: list[str]) -> None:
    """Trains, updates, and prints what was found."""
    values = flags.FLAGS
    results = measure(
        Path(values.data_dir),
        Path(values.output_dir),
        num_examples=values.examples,
        train_flags=values.train_flags,
        seed=values.seed,
    )
    print(json.dumps(results) if values.json else format_results(results))


def measure(
    data_dir: Path, output_dir: Path, *, num_examples: int, train_flags: list[str], seed: int
) -> dict[str, Any]:
    """Trains without crossed sevens and updates with some.

    Args:
      data_dir: the dataset folder.
      output_dir: where everything goes.
      num_examples: crossed sevens to update with.
      train_flags: of train_lenet.py.
      seed: decides which ones.

    Returns:
      What update.py said under `update`, and the number of crossed sevens that were not among the
      examples, `num_others`, with the share that is read right, `before` and `after`.

    Raises:
      UserError: there are too few crossed sevens, the folder is there, or a step fails.
    """
    if output_dir.exists():
        raise UserError(f"{output_dir}: there already; remove it, or name another --output_dir")
    images, labels = load_digits(data_dir, load_manifest(data_dir))
    crossed = np.zeros(len(labels), bool)
    crossed[labels == SEVEN] = [is_crossed(image) for image in images[labels == SEVEN]]
    if crossed.sum() <= num_examples:
        raise UserError(
            f"{data_dir}: expected more than {num_examples} crossed sevens, found "
            f"{crossed.sum()}; lower --examples"
        )
    log(f"{crossed.sum():,} of {(labels == SEVEN).sum():,} sevens are crossed")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(np.flatnonzero(crossed))
    chosen, others = order[:num_examples], order[num_examples:]
    write_idx(output_dir / "idx", images[~crossed], labels[~crossed])
    write_images(output_dir / "examples", images[chosen])
    run = output_dir / "run"
    _run_script(
        "data_prep/convert.py",
        "--dataset=idx",
        f"--from_dir={output_dir / 'idx'}",
        f"--data_dir={output_dir / 'data'}",
        "--test_size=0",
        "--validation_size=5000",
        "--image_preparation=mnist",
    )
    _run_script(
        "train/train_lenet.py",
        f"--data_dir={output_dir / 'data'}",
        f"--logdir={run}",
        *train_flags,
    )
    before = _read(run, images[others])
    said = _run_script(
        "train/update.py",
        f"--logdir={run}",
        f"--examples={output_dir / 'examples'}",
        "--json",
        codes=(0, 1),
    )
    after = _read(run, images[others])
    return {
        "num_crossed": int(crossed.sum()),
        "num_others": len(others),
        "before": before,
        "after": after,
        "update": json.loads(said),
    }


def format_results(results: dict[str, Any]) -> str:
    """Returns what `measure` found as lines of text."""
    update = results["update"]
    if not update["comparisons"]:
        return "\n".join(update["objections"])
    original, *_ = update["comparisons"]
    shares = [original[name] / original["num_images"] for name in ("right_before", "right_after")]
    learnt = f"{update['num_learnt']} learnt, {update['num_held_out']} held out"
    lines = [
        f"{'':42s}   before    after",
        f"{results['num_others']:,} crossed sevens that it never saw".ljust(42)
        + f"  {results['before'][0]:7.2%}  {results['after'][0]:7.2%}",
        "  of these accepted as digits".ljust(42)
        + f"  {results['before'][1]:7.2%}  {results['after'][1]:7.2%}",
        f"{original['num_images']:,} validation images, none crossed".ljust(42)
        + f"  {shares[0]:7.2%}  {shares[1]:7.2%}",
        f"{original['gained']} gained, {original['lost']} lost, p = {original['chance']:.2f}; "
        + learnt,
    ]
    lines += update["objections"] or [f"accepted as version {update['version']}"]
    return "\n".join(lines)


def load_digits(data_dir: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Loads the train and validation splits: uint8 [n, 28, 28] and int64 [n].

    Raises:
      UserError: the dataset is another than one of raw digits.
    """
    if manifest.image_shape != (28, 28, 1) or manifest.image_format != "raw":
        raise UserError(f"{data_dir}: expected raw images of 28x28x1")
    images, labels = [], []
    for split in ("train", "validation"):
        for shard in manifest.splits[split].shards if split in manifest.splits else ():
            for record in tfrecord.scan_records(data_dir / shard.name):
                example = decode_example(record.data)
                images.append(np.frombuffer(example.encoded, np.uint8).reshape(28, 28))
                labels.append(example.label)
    return np.stack(images), np.array(labels)


def is_crossed(image: np.ndarray) -> bool:
    """Tells whether a seven has a bar across its stem.

    It has where a row around the middle has a long run of ink, and the rows above and below it
    have short ones: the stem.

    Args:
      image: uint8 [height, width], of a seven, bright ink on black.
    """
    runs = np.array([_longest_run(row) for row in image >= _INK])
    rows = np.flatnonzero(runs)
    if not len(rows):
        return False
    top, bottom = rows[0], rows[-1]
    height = bottom - top + 1
    first, last = top + int(0.35 * height), top + int(0.75 * height)
    bar = first + int(runs[first:last].argmax())
    above, below = runs[top + int(0.25 * height) : bar - 1], runs[bar + 3 : bottom - 1]
    if not len(above) or not len(below) or runs[bar] < _SHORTEST_BAR:
        return False
    longest = _LONGEST_STEM * runs[bar]
    return bool(above.min() <= longest and np.median(below) <= longest)


def _longest_run(row: np.ndarray) -> int:
    """Returns the length of the longest run of true values in bool [width]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes uint8 [n, height, width] and labels [n] as MNIST's training files."""
    folder.mkdir(parents=True)
    for kind, values in (("images", images), ("labels", labels)):
        head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        content = head + values.astype(np.uint8).tobytes()
        (folder / f"train-{kind}-idx{values.ndim}-ubyte").write_bytes(content)


def write_images(folder: Path, images: np.ndarray) -> None:
    """Writes sevens, uint8 [n, height, width], as a folder of images."""
    from PIL import Image

    (folder / str(SEVEN)).mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / str(SEVEN) / f"{number}.png")


def _read(logdir: Path, sevens: np.ndarray) -> tuple[float, float]:
    """Returns which share of sevens a run reads right, and which it accepts as digits."""
    from model_definition.run_dir import load_run
    from predict.classifier import load_classifier

    judged = load_classifier(load_run(logdir)).judge(sevens[..., None])
    return float((judged.probabilities.argmax(axis=1) == SEVEN).mean()), float(
        judged.is_digit.mean()
    )


def _run_script(script: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """Runs a script of the project; returns what it printed."""
    log(f"$ python {shlex.join([script, *arguments])}")
    command = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in codes:
        raise UserError(f"{script} ended with {done.returncode}; its own line says why")
    return done.stdout


if __name__ == "__main__":
    command_line.run(main, define_flags)
