"""Reads the digit in a picture: `predict.py --url=https://example.org/seven.png`.

A URL is http, https, file or a path; the picture a PNG or JPEG of one digit, dark on light or
light on dark, of any size. Several are answered in turn, and one that fails does not stop the
others. Prints each class with its probability, then the answer. The exit code is 0 where every
picture was read, otherwise 1.

--json prints one object for each URL instead, each on its own line, in the order given:
{"url": ..., "text": "7", "digits": [{"digit": 7, "class_name": "7", "probabilities": [...],
"box": [x, y, width, height]}]}, the box being that of the ink, in pixels of the upright picture;
and {"url": ..., "error": "..."} for one that failed.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError

if TYPE_CHECKING:
    import numpy as np

    from model_definition.run_dir import Run
    from predict.classifier import Classifier

MOST_ROWS = 10  # of the table; where there are more classes, the most likely are printed
BAR_WIDTH = 40  # characters for a probability of 1
ENLARGEMENT = 10  # of --save_input: each pixel of the network's input becomes 10x10


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_multi_string(
        "url", [], "Picture to read: http://…, https://…, file://… or a path. May be repeated."
    )
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder with the trained model.")
    flags.DEFINE_bool("json", False, "Prints a JSON object for each URL instead of tables.")
    flags.DEFINE_string(
        "save_input",
        None,
        "PNG file for what the network saw, enlarged; with several URLs FILE-1.png, FILE-2.png, …",
    )
    flags.DEFINE_bool(
        "allow_private_urls",
        False,
        "Also fetches from this machine and the local network, which is refused otherwise.",
    )


def main(argv: list[str]) -> int:
    """Answers each URL.

    Args:
      argv: more URLs, after those of --url.

    Returns:
      0, or 1 where a picture could not be read.
    """
    from model_definition import run_dir
    from predict.classifier import load_classifier

    FLAGS = flags.FLAGS
    if isinstance(sys.stdout, io.TextIOWrapper):  # A file's name may be no valid text.
        sys.stdout.reconfigure(errors="backslashreplace")
    urls = [*FLAGS.url, *argv]
    if not urls:
        raise UserError("expected a picture to read, found none; name one with --url=URL")
    input_paths = name_inputs(FLAGS.save_input, len(urls))
    run = run_dir.load_run(Path(FLAGS.logdir))
    classifier = load_classifier(run)
    code = 0
    for url, input_path in zip(urls, input_paths, strict=True):
        try:
            answer = read_picture(url, run, classifier, FLAGS.allow_private_urls, input_path)
        except UserError as error:
            answer = {"url": url, "error": str(error)}
            command_line.log(f"predict.py: {url}: {error}")
            code = command_line.EXIT_USER_ERROR
        if FLAGS.json:
            print(json.dumps(answer), flush=True)
        elif "error" not in answer:
            print(format_answer(answer, run.class_names), flush=True)
    return code


def name_inputs(save_input: str | None, num_urls: int) -> list[Path | None]:
    """Names the file for each URL's network input.

    Args:
      save_input: the flag's value.
      num_urls: how many files are wanted; more than one are numbered from 1.

    Returns:
      A path for each URL, or None for each where the flag is not given.

    Raises:
      UserError: the name does not end in .png, or its folder does not exist.
    """
    if save_input is None:
        return [None] * num_urls
    path = Path(save_input)
    if path.suffix.lower() != ".png":
        raise UserError(f"--save_input: expected a name that ends in .png, found {save_input!r}")
    if not path.parent.is_dir():
        raise UserError(f"--save_input: there is no folder {path.parent}; create it first")
    if num_urls == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, num_urls + 1)]


def read_picture(
    url: str,
    run: Run,
    classifier: Classifier,
    allow_private_urls: bool,
    input_path: Path | None,
) -> dict[str, Any]:
    """Reads one picture.

    Args:
      url: where it is.
      run: how pictures are prepared, and the classes' names.
      classifier: the run's model.
      allow_private_urls: also fetches from addresses that are not on the public internet.
      input_path: where to save what the network saw; None saves nothing.

    Returns:
      The answer as --json prints it.

    Raises:
      UserError: the picture cannot be had or read, or nothing is on it.
    """
    import numpy as np

    from predict.digits import find_digits
    from predict.image_source import load_image

    pixels = load_image(url, allow_private_urls=allow_private_urls)
    digits = find_digits(pixels, run.image_shape, run.image_preparation)
    images = np.stack([digit.image for digit in digits])
    if input_path is not None:
        write_input(input_path, images[0])
    all_probabilities = classifier.predict(images)
    labels = [int(label) for label in np.argmax(all_probabilities, axis=1)]
    answers = [
        {
            "digit": label,
            "class_name": run.class_names[label],
            "probabilities": [float(probability) for probability in probabilities],
            "box": list(digit.box),
        }
        for digit, label, probabilities in zip(digits, labels, all_probabilities, strict=True)
    ]
    text = "".join(run.class_names[label] for label in labels)
    return {"url": url, "text": text, "digits": answers}


def write_input(path: Path, image: np.ndarray) -> None:
    """Writes an image as an enlarged PNG, whole or not at all.

    Args:
      path: the file.
      image: uint8 [height, width, channels], 1 or 3 channels.
    """
    from PIL import Image

    height, width, channels = image.shape
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    size = (width * ENLARGEMENT, height * ENLARGEMENT)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        picture.resize(size, Image.Resampling.NEAREST).save(temporary, "PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def format_answer(answer: dict[str, Any], class_names: Sequence[str]) -> str:
    """Draws a picture's answer as a table with a bar for each class.

    Args:
      answer: what `read_picture` returned.
      class_names: the name of each label.

    Returns:
      Several lines of text.
    """
    lines = [answer["url"]]
    for digit in answer["digits"]:
        probabilities = digit["probabilities"]
        labels = list(range(len(class_names)))
        if len(labels) > MOST_ROWS:
            labels = sorted(labels, key=lambda label: -probabilities[label])[:MOST_ROWS]
        width = max(len(class_names[label]) for label in labels)
        for label in labels:
            share = probabilities[label]
            bar = "█" * round(share * BAR_WIDTH)
            lines.append(f"  {class_names[label]:>{width}}  {share:7.2%}  {bar}".rstrip())
        if len(labels) < len(class_names):
            lines.append(f"  (the {MOST_ROWS} likeliest of {len(class_names)} classes)")
        best = probabilities[digit["digit"]]
        lines.append(f"  This is {digit['class_name']}, with a probability of {best:.2%}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=(0, sys.maxsize))
