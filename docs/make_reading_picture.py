"""Makes README's page of digits, docs/digits.png, and what is read on it: docs/reading.png.

The page is composed of the test split's digits, as `benchmarks/pages.py` does, on ruled paper.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError

ROOT = Path(__file__).resolve().parents[1]
_DISTURBANCE, _NUMBER = "ruled", 9


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("data_dir", "data/mnist", "Dataset folder whose test digits are written.")
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder of a finished run.")
    flags.DEFINE_string("out_dir", str(ROOT / "docs"), "Folder to write both PNG files to.")
    flags.DEFINE_integer("seed", 1, "Another seed composes another page.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Makes both pictures."""
    from PIL import Image

    from benchmarks.page_composer import compose_page
    from benchmarks.pages import load_digits
    from model_definition.run_dir import load_run
    from predict.annotate import draw_reading
    from predict.classifier import load_classifier
    from predict.reader import read_image

    values = flags.FLAGS
    out_dir = Path(values.out_dir)
    if not out_dir.is_dir():
        raise UserError(f"--out_dir: there is no folder {out_dir}; create it first")
    run = load_run(Path(values.logdir))
    images, labels = load_digits(Path(values.data_dir), "test")
    page = compose_page(images, labels, _DISTURBANCE, values.seed, _NUMBER)
    reading = read_image(page.pixels, run, load_classifier(run))
    for name, picture in (
        ("digits.png", Image.fromarray(page.pixels)),
        ("reading.png", draw_reading(page.pixels, reading)),
    ):
        picture.save(out_dir / name)
        print(out_dir / name)


if __name__ == "__main__":
    command_line.run(main, define_flags)
