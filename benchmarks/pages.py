"""Reads composed pages and scores the text, by what disturbs the pages.

    python benchmarks/pages.py --logdir=runs/lenet --split=validation --seed=1

The pages are composed of a split's digits, never of the training split's. Constants are chosen on
the validation split's pages; the test split's are for reporting. For each disturbance: the share of
pages read without any error, the character error rate (the least number of insertions, deletions
and substitutions that turn the answer into the text, by the text's length, line breaks counted),
and how many boxes a page hold no digit.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import decode_example, load_manifest
from data_prep.tfrecord import scan_records

if TYPE_CHECKING:
    from benchmarks.page_composer import Page
    from model_definition.run_dir import Run
    from predict.classifier import Classifier


@dataclass
class Score:
    """What was read of some pages, summed.

    Attributes:
      pages: how many.
      faultless: how many of them were read without any error.
      characters: of their texts, line breaks counted.
      errors: insertions, deletions and substitutions.
      false_boxes: accepted boxes that hold no digit of the page.
      seconds: spent reading.
    """

    pages: int = 0
    faultless: int = 0
    characters: int = 0
    errors: int = 0
    false_boxes: int = 0
    seconds: float = 0

    def __add__(self, other: Score) -> Score:
        """Adds up two."""
        mine, theirs = asdict(self), asdict(other)
        return Score(**{name: mine[name] + theirs[name] for name in mine})

    def __str__(self) -> str:
        """Returns the columns of the table."""
        pages, characters = max(self.pages, 1), max(self.characters, 1)
        return (
            f"{self.pages:6d}  {self.faultless / pages:9.1%}  {self.errors / characters:9.2%}  "
            f"{self.false_boxes / pages:11.2f}  {1000 * self.seconds / pages:7.0f}"
        )


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder that the digits are taken from.")
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder with the model that reads.")
    flags.DEFINE_enum("split", "test", ["validation", "test"], "Split that the digits are from.")
    flags.DEFINE_integer("seed", 0, "Another seed composes other pages.", lower_bound=0)
    flags.DEFINE_integer("pages", 20, "Pages of each disturbance.", lower_bound=1)
    flags.DEFINE_multi_string("only", [], "Disturbance to measure; all where none is named.")
    flags.DEFINE_float(
        "slant", 0.0, "Degrees by which the digits are slanted to the right.", -45.0, 45.0
    )
    flags.DEFINE_bool("deslant", False, "Reads as predict.py --deslant does.")
    flags.DEFINE_bool("json", False, "Prints one JSON object instead of the table.")
    flags.DEFINE_string(
        "save_dir", None, "Folder for the pages as PNG files and the texts, right and read."
    )


def main(argv: list[str]) -> int:
    """Composes the pages, reads them, and prints the scores."""
    from benchmarks import page_composer
    from model_definition.run_dir import load_run
    from predict.classifier import load_classifier

    FLAGS = flags.FLAGS
    kinds = (*page_composer.EASY, *page_composer.HARD)
    for name in FLAGS.only:
        if name not in kinds:
            raise UserError(f"--only: expected one of {', '.join(kinds)}, found {name!r}")
    run = load_run(Path(FLAGS.logdir))
    classifier = load_classifier(run)
    images, labels = load_digits(Path(FLAGS.data_dir), FLAGS.split)
    if FLAGS.slant:
        images = page_composer.slant(images, FLAGS.slant)
    scores = {}
    for kind in FLAGS.only or kinds:
        scores[kind] = Score()
        for number in range(FLAGS.pages):
            page = page_composer.compose_page(images, labels, kind, FLAGS.seed, number)
            score, text = score_page(page, run, classifier, is_deslanted=FLAGS.deslant)
            scores[kind] += score
            if FLAGS.save_dir is not None:
                name = f"{kind.replace(' ', '_')}-{number}"
                _save(Path(FLAGS.save_dir), name, page, text, score)
        log(f"{kind:14s} {scores[kind]}")
    for half, names in (("easy half", page_composer.EASY), ("hard half", page_composer.HARD)):
        scores[half] = sum((scores[name] for name in names if name in scores), Score())
    if FLAGS.json:
        print(json.dumps({kind: asdict(score) for kind, score in scores.items()}))
    else:
        print(f"{'':14s}  pages  faultless  character  false boxes  ms")
        print(f"{'':14s}             share      error       a page  a page")
        print("\n".join(f"{kind:14s} {score}" for kind, score in scores.items()))
    return 0


def load_digits(data_dir: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Loads a split.

    Args:
      data_dir: the dataset folder.
      split: `validation` or `test`.

    Returns:
      Images, uint8 [n, 28, 28], and labels, int [n].

    Raises:
      UserError: the folder has no such split, or its images are no digits of MNIST's form.
    """
    manifest = load_manifest(data_dir)
    if split not in manifest.splits:
        raise UserError(f"{data_dir}: expected a split {split}, found {', '.join(manifest.splits)}")
    if tuple(manifest.image_shape) != (28, 28, 1) or manifest.image_format != "raw":
        raise UserError(
            f"{data_dir}: expected raw images of 28x28x1 such as MNIST's, found "
            f"{manifest.image_format} images of {'x'.join(map(str, manifest.image_shape))}"
        )
    examples = [
        decode_example(record.data)
        for shard in manifest.splits[split].shards
        for record in scan_records(data_dir / shard.name)
    ]
    images = np.frombuffer(b"".join(example.encoded for example in examples), np.uint8)
    return images.reshape(-1, 28, 28), np.array([example.label for example in examples])


def score_page(
    page: Page, run: Run, classifier: Classifier, *, is_deslanted: bool = False
) -> tuple[Score, str]:
    """Reads a page.

    Args:
      page: the page.
      run: of the classifier.
      classifier: answers.
      is_deslanted: digits are read without their slant.

    Returns:
      The score, and the text that was read; it is empty where nothing was found.
    """
    from predict.digits import NoInkError
    from predict.reader import read_image

    started = time.perf_counter()
    try:
        reading = read_image(page.pixels, run, classifier, is_deslanted=is_deslanted)
        text, accepted = reading.text, sum(digit.is_digit for digit in reading.digits)
    except NoInkError:
        text, accepted = "", 0
    seconds = time.perf_counter() - started
    errors = count_errors(page.text, text)
    return (
        Score(
            pages=1,
            faultless=int(errors == 0),
            characters=len(page.text),
            errors=errors,
            false_boxes=max(0, accepted - len(page.boxes)),
            seconds=seconds,
        ),
        text,
    )


def count_errors(right: str, read: str) -> int:
    """Returns the Levenshtein distance: insertions, deletions and substitutions, one each."""
    row = list(range(len(read) + 1))
    for expected in right:
        diagonal, row[0] = row[0], row[0] + 1
        for column, found in enumerate(read, 1):
            best = min(row[column] + 1, row[column - 1] + 1, diagonal + (expected != found))
            diagonal, row[column] = row[column], best
    return row[-1]


def _save(folder: Path, name: str, page: Page, text: str, score: Score) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(page.pixels).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(
        f"errors {score.errors}\n--- right\n{page.text}\n--- read\n{text}\n", encoding="utf-8"
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
