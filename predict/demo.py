"""Runs the main job from end to end: convert, train, evaluate, predict by URL, TensorBoard.

Each step is one of the project's own scripts, started with the command that is shown. MNIST is
downloaded, or taken from the folder --from_dir. Where no mirror answers, the built-in synthetic
digits stand in, and every step names them. Run again, it keeps what is finished and resumes the
rest.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Literal

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line, schema, tfrecord
from data_prep.command_line import log

ROOT = Path(__file__).resolve().parents[1]
NUM_IMAGES = 5  # to predict
DATASET_TITLES = {"mnist": "MNIST", "synthetic": "synthetic digits (not MNIST)"}
NO_MIRROR = "no mirror gave"  # how convert.py's error begins where a download failed everywhere
NO_MIRROR_ADVICE = """
No mirror of MNIST answers, so the demo goes on with synthetic digits, which the project draws
itself. To see it with MNIST, put its four files into one folder
  train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz
  t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz
and run: make demo FROM_DIR=/path/to/the/folder"""


class _StepError(Exception):
    """A step's script failed, with this exit code; it has said itself why."""

    def __init__(self, script: str, code: int) -> None:
        super().__init__(f"stopped, because {script} ended with exit code {code}")
        self.code = code


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("from_dir", None, "Folder with MNIST's four files. [they are downloaded]")
    flags.DEFINE_integer("limit", None, "Keeps the first so many images of each split. [all]", 1)
    flags.DEFINE_integer(
        "max_steps", None, "Training steps of one batch each. [train_lenet.py's own default]", 1
    )


def main(argv: list[str]) -> int:
    """Runs the five steps and returns 0, or the exit code of the one that failed."""
    values = flags.FLAGS
    limit = [] if values.limit is None else [f"--limit={values.limit}"]
    max_steps = [] if values.max_steps is None else [f"--max_steps={values.max_steps}"]
    try:
        dataset = _convert(values.from_dir, limit)
        data_dir, logdir, title = f"data/{dataset}", f"runs/demo-{dataset}", DATASET_TITLES[dataset]
        _say_step(2, f"train a LeNet on {title}")
        _run("train/train_lenet.py", f"--data_dir={data_dir}", f"--logdir={logdir}", *max_steps)
        _say_step(3, f"evaluate it on the test split of {title}")
        _run("eval/evaluate.py", f"--logdir={logdir}", "--split=test")
        _say_step(4, f"predict images of the test split of {title} by URL")
        _predict(Path(data_dir), logdir)
    except _StepError as error:
        log(f"demo.py: {error}")
        return error.code
    _say_step(5, "see all of it in TensorBoard")
    python = _shortest(sys.executable)
    print(f"$ {python} -m tensorboard.main --logdir=runs\nThen open http://localhost:6006/.")
    print("\nTo predict an image of your own, a file or a URL:")
    print(f"$ {python} {_shortest(ROOT / 'predict/predict.py')} --logdir={logdir} --url=IMAGE")
    return 0


def _convert(from_dir: str | None, limit: list[str]) -> str:
    """Runs step 1 and returns the name of the dataset that it made."""
    script = "data_prep/convert.py"
    _say_step(1, "convert MNIST to TFRecords")
    source = [] if from_dir is None else [f"--from_dir={from_dir}"]
    code, errors = _start(script, "--dataset=mnist", *source, *limit, capture="stderr")
    if code == 0:
        return "mnist"
    if NO_MIRROR not in errors:
        raise _StepError(script, code)
    print(NO_MIRROR_ADVICE)
    _say_step(1, f"convert {DATASET_TITLES['synthetic']} to TFRecords")
    _run(script, "--dataset=synthetic", *limit)
    return "synthetic"


def _predict(data_dir: Path, logdir: str) -> None:
    """Serves a few test images on localhost, and shows what the network says of each."""
    with tempfile.TemporaryDirectory() as folder:
        labels = _write_images(data_dir, Path(folder))
        with _serve(folder) as address:
            urls = {f"{address}/{name}": label for name, label in labels.items()}
            options = ("predict/predict.py", f"--logdir={logdir}", "--allow_private_urls")
            _run(*options, "--url", next(iter(urls)))
            # The same again for all of them, as data, to be set beside the true labels.
            answers = _run(*options, "--json", *(f"--url={url}" for url in urls), capture="stdout")
    print(f"\n{'image':<40} {'label':>8} {'answer':>8}")
    for line in answers.splitlines():
        answer = json.loads(line)
        probability = max(answer["digits"][0]["probabilities"])
        label = urls[answer["url"]]
        print(f"{answer['url']:<40} {label:>8} {answer['text']:>8}  {probability:7.2%}")


def _write_images(data_dir: Path, folder: Path) -> dict[str, str]:
    """Writes the first test images of different classes as PNG files: file name -> class name."""
    import numpy as np
    from PIL import Image

    manifest = schema.load_manifest(data_dir)
    labels: dict[str, str] = {}
    for shard in manifest.splits["test"].shards:
        for record in tfrecord.scan_records(data_dir / shard.name):
            example = schema.decode_example(record.data)
            class_name = manifest.class_names[example.label]
            if class_name in labels.values():
                continue
            # convert.py's default image_format is raw.
            pixels = np.frombuffer(example.encoded, np.uint8).reshape(manifest.image_shape)
            name = f"test-{len(labels)}.png"
            Image.fromarray(pixels.squeeze(axis=-1)).save(folder / name)
            labels[name] = class_name
            if len(labels) == NUM_IMAGES:
                return labels
    return labels


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder without a line on stderr for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def _serve(folder: str) -> Iterator[str]:
    """Serves a folder on a free port of this machine alone; gives its address."""
    handler = functools.partial(_QuietHandler, directory=folder)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _say_step(number: int, what: str) -> None:
    print(f"\nStep {number} of 5: {what}")


def _run(script: str, *arguments: str, capture: Literal["stdout"] | None = None) -> str:
    """Runs a script; returns its stdout where that is captured rather than shown."""
    code, output = _start(script, *arguments, capture=capture)
    if code:
        raise _StepError(script, code)
    return output


def _start(
    script: str, *arguments: str, capture: Literal["stdout", "stderr"] | None = None
) -> tuple[int, str]:
    """Shows a script's command and runs it.

    Args:
      script: its path in the project.
      *arguments: its arguments.
      capture: which of its outputs to return; stderr is shown as well.

    Returns:
      Its exit code, 128 + N where signal N killed it, and the captured text.
    """
    command = [_shortest(sys.executable), _shortest(ROOT / script), *arguments]
    print("$", shlex.join(command), flush=True)
    lines = []
    with _ctrl_c_left_to_the_script():
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE if capture == "stdout" else None,
            stderr=subprocess.PIPE if capture == "stderr" else None,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout or process.stderr or ():
                lines.append(line)
                if capture == "stderr":
                    sys.stderr.write(line)
            code = process.wait()
        finally:  # SIGTERM ends the script too.
            process.terminate()
            process.wait()
    return code if code >= 0 else 128 - code, "".join(lines)


@contextlib.contextmanager
def _ctrl_c_left_to_the_script() -> Iterator[None]:
    """A terminal sends Ctrl-C to the script as well, which may want to save before it ends."""
    previous = signal.signal(signal.SIGINT, lambda signum, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _shortest(path: str | Path) -> str:
    """Returns a path as it is typed in the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


if __name__ == "__main__":
    command_line.run(main, define_flags)
