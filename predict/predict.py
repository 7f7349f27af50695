r"""Reads the digits on pictures: `predict.py --url=https://example.org/page.jpg`.

A picture is a PNG or JPEG file of one digit or a page of them, dark on light or light on dark, of
any size. Name as many as you like, which are answered in the order given:

    predict.py --url=https://example.org/seven.png scan.png 'photos/*.jpg'
    predict.py --urls_file=list.txt --csv > answers.csv       # a URL or path on each line
    find . -name '*.png' | predict.py - --json > answers.jsonl

For one digit it prints each class with its probability, for several the text with its line breaks
and a row for each digit. What is unlike the training images is reported as not a digit, and takes
no part in the text. A picture that cannot be read does not stop the others; the exit code is 0
where every one was read, and 1 otherwise.

--json prints one object for each picture, each on its own line: {"url": ..., "text": "31\n7",
"digits": [{"digit": 3, "class_name": "3", "probabilities": [...], "score": 1.8, "is_digit": true,
"box": [x, y, width, height], "line": 0}, ...]}. The box is that of the ink, in pixels of the
upright picture; lines count from 0; rejected regions have "is_digit": false. Where there is nothing
to read, it has "error": "...". --csv prints a line for each digit under a line of headings.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError
from model_definition.ensemble import MAX_SHIFTS, load_ensemble
from predict.answers import CSV_COLUMNS, format_csv, format_text, printable

if TYPE_CHECKING:
    from predict.many import Answer

_CLEAR_LINE = "\r\x1b[K"  # of a terminal, so that the progress bar does not run into a message


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_multi_string(
        "url",
        [],
        "Picture to read: http://…, https://…, file://…, a path, or a quoted pattern of paths such "
        "as 'photos/*.jpg'. May be repeated.",
    )
    flags.DEFINE_string(
        "urls_file", None, "Text file that lists pictures, one a line; - for standard input."
    )
    flags.DEFINE_string(
        "logdir",
        "runs/lenet",
        "Run folder with the trained model; several joined by commas, or an ensemble's folder, are "
        "averaged.",
    )
    flags.DEFINE_integer(
        "test_time_shifts",
        0,
        "Averages over every shift of a digit by up to so many pixels both ways.",
        0,
        MAX_SHIFTS,
    )
    flags.DEFINE_bool(
        "deslant",
        False,
        "Sets each digit upright before it is read: for writing that leans by 20 degrees or more. "
        "A network that learnt slanted digits, as MNIST's are, gains nothing on other writing.",
    )
    flags.DEFINE_bool("json", False, "Prints a JSON object for each picture instead of tables.")
    flags.DEFINE_bool("csv", False, "Prints a line of CSV for each digit instead of tables.")
    flags.DEFINE_string(
        "annotate",
        None,
        "PNG file for the picture with its digits marked; with several FILE-1.png, FILE-2.png, …",
    )
    flags.DEFINE_string(
        "save_input",
        None,
        "PNG file for what the network saw, enlarged; with several FILE-1.png, FILE-2.png, …",
    )
    flags.DEFINE_bool(
        "allow_private_urls",
        False,
        "Also fetches from this machine and the local network, which is refused otherwise.",
    )


def main(argv: list[str]) -> int:
    """Answers each URL.

    Args:
      argv: more URLs, after those of --url; `-` for a list on standard input.

    Returns:
      0, or 1 where a picture could not be read.
    """
    # Before NumPy is imported: its matrices are small here, and threads for them only cost time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from predict.averaged import load_averaged
    from predict.many import answer_all
    from predict.url_list import gather_urls

    FLAGS = flags.FLAGS
    if isinstance(sys.stdout, io.TextIOWrapper):  # A file's name may be no valid text.
        sys.stdout.reconfigure(errors="backslashreplace")
    if FLAGS.json and FLAGS.csv:
        raise UserError("expected one of --json and --csv, found both; give one")
    urls = gather_urls([*FLAGS.url, *argv], FLAGS.urls_file)
    annotated = name_files("annotate", FLAGS.annotate, urls)
    inputs = name_files("save_input", FLAGS.save_input, urls)
    if annotated[0] and inputs[0] and annotated[0].resolve() == inputs[0].resolve():
        raise UserError("--annotate and --save_input name the same file; give each its own")
    ensemble = load_ensemble(FLAGS.logdir)
    run = ensemble.first
    if FLAGS.deslant and run.image_preparation != "mnist":
        raise UserError(
            f"--deslant: expected a run that reads digits in MNIST's form, found {FLAGS.logdir}, "
            "which reads pictures as a whole; leave the flag out"
        )
    classifier = load_averaged(ensemble, FLAGS.test_time_shifts)
    if classifier.rejection is None:
        remedy = "train_lenet.py with the run's own flags adds it, given enough validation images"
        if run.is_imported:
            remedy = "an imported run has none"
        command_line.log(
            f"predict.py: {FLAGS.logdir}: this run has no calibration, so whatever is found counts "
            f"as a digit; {remedy}"
        )
    answers = answer_all(
        urls,
        run,
        classifier,
        allow_private_urls=FLAGS.allow_private_urls,
        keep_pixels=FLAGS.annotate is not None,
        is_deslanted=FLAGS.deslant,
    )
    form = "json" if FLAGS.json else "csv" if FLAGS.csv else "text"
    if form == "csv":
        print(",".join(CSV_COLUMNS))
    # Where the answers appear on a terminal, they show the progress themselves.
    has_bar = len(urls) > 1 and sys.stderr.isatty() and not os.isatty(1)
    progress = command_line.progress("read", total=len(urls), unit="picture")
    code = 0
    with progress if has_bar else contextlib.nullcontext() as advance:
        for answer, annotated_path, input_path in zip(answers, annotated, inputs, strict=True):
            write_pictures(answer, annotated_path, input_path)
            print(format_answer(answer, form, run.class_names), end="", flush=True)
            if answer.error is not None:
                start = _CLEAR_LINE if has_bar else ""
                name = printable(answer.url) or "''"
                command_line.log(f"{start}predict.py: {name}: {answer.error}")
                code = command_line.EXIT_USER_ERROR
            if advance is not None:
                advance(1)
    return code


def name_files(flag: str, value: str | None, urls: Sequence[str]) -> list[Path | None]:
    """Names the file that a flag wants for each picture.

    Args:
      flag: the flag's name.
      value: the flag's value.
      urls: the pictures; for more than one the files are numbered from 1.

    Returns:
      A path for each URL, or None for each where the flag is not given.

    Raises:
      UserError: the name does not end in .png, its folder does not exist, or it is a picture's own.
    """
    if value is None:
        return [None] * len(urls)
    path = Path(value)
    if path.suffix.lower() != ".png":
        raise UserError(f"--{flag}: expected a name that ends in .png, found {value!r}")
    if not path.parent.is_dir():
        raise UserError(f"--{flag}: there is no folder {path.parent}; create it first")
    paths: list[Path | None] = [path]
    if len(urls) > 1:
        paths = [path.with_stem(f"{path.stem}-{number}") for number in range(1, len(urls) + 1)]
    pictures = {picture.resolve(): url for url in urls if (picture := find_picture(url))}
    for path_of_one in (path.resolve() for path in paths if path):
        if path_of_one in pictures:
            raise UserError(
                f"--{flag}: expected a name of its own, found that of the picture "
                f"{pictures[path_of_one]}, which would be lost; choose another"
            )
    return paths


def find_picture(url: str) -> Path | None:
    """Returns the file of this machine that a URL names; None where there is none such."""
    from predict.image_source import ImageError, find_local_path

    try:
        return find_local_path(url)
    except ImageError:  # It is said where the picture is read.
        return None


def write_pictures(answer: Answer, annotated_path: Path | None, input_path: Path | None) -> None:
    """Draws an answer, if something was found on the picture.

    Args:
      answer: what came of a picture.
      annotated_path: where to save the picture with its digits marked; None saves nothing.
      input_path: where to save what the network saw; None saves nothing.
    """
    if answer.reading is None or annotated_path is input_path is None:
        return
    from predict.annotate import draw_inputs, draw_reading, write_png

    if annotated_path is not None and answer.pixels is not None:
        write_png(annotated_path, draw_reading(answer.pixels, answer.reading))
    if input_path is not None:
        write_png(input_path, draw_inputs(answer.reading.digits))


def format_answer(answer: Answer, form: str, class_names: Sequence[str]) -> str:
    """Writes an answer as the user wants it.

    Args:
      answer: what came of a picture.
      form: `text`, `json` or `csv`.
      class_names: the name of each label.

    Returns:
      Whole lines; none in text form for a picture that could not be read.
    """
    if form == "json":
        return json.dumps(answer.to_json()) + "\n"
    if form == "csv":
        return format_csv(answer)
    if answer.reading is None or answer.error is not None:
        return ""
    return format_text(printable(answer.url), answer.reading, class_names) + "\n"


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=(0, sys.maxsize))
