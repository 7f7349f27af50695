"""Makes README's two pictures from a finished run: docs/prediction.png and docs/tensorboard.png.

The first shows one prediction: the picture given, what the network saw, and the probabilities.
The second is a screenshot of TensorBoard, taken by headless Chromium.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_WINDOW = (1500, 716)  # pixels of the screenshot: two rows of three curves
_START_SECONDS = 60  # until TensorBoard must have read the run
_SHOT_SECONDS = 120
_CURVES = (
    "accuracy",
    "gradient_norm",
    "images_per_second",
    "learning_rate",
    "loss",
    "mean_squared_error",
)
_DPI = 150
_INK, _PALE, _BLUE = "#222222", "#b9c2cc", "#1f5aa6"


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "Run folder of a finished run.")
    flags.DEFINE_string("url", None, "Picture of a digit to predict, as predict.py takes it.")
    flags.DEFINE_bool("allow_private_urls", False, "Also fetches it from the local network.")
    flags.DEFINE_string("out_dir", str(Path(__file__).resolve().parent), "Folder for the pictures.")


def main(argv: list[str]) -> None:
    """Makes both pictures."""
    from model_definition.run_dir import load_run

    values = flags.FLAGS
    if not values.url:
        raise UserError("expected a picture of a digit to predict, found none; name it with --url")
    chromium = find_chromium()
    logdir, out_dir = Path(values.logdir), Path(values.out_dir)
    run = load_run(logdir)
    if not out_dir.is_dir():
        raise UserError(f"--out_dir: there is no folder {out_dir}; create it first")

    from predict.classifier import load_classifier
    from predict.digits import find_digits
    from predict.image_source import load_image

    pixels = load_image(values.url, allow_private_urls=values.allow_private_urls)
    digit = find_digits(pixels, run.image_shape, run.image_preparation)[0]
    probabilities = load_classifier(run).predict(digit.image[None])[0]
    figure = draw_prediction(pixels, digit.box, digit.image, probabilities, run.class_names)
    save_small(figure, out_dir / "prediction.png")
    print(out_dir / "prediction.png")

    with serve_tensorboard(logdir) as address:
        take_screenshot(chromium, address, out_dir / "tensorboard.png")
    print(out_dir / "tensorboard.png")


def draw_prediction(
    pixels: np.ndarray,
    box: tuple[int, int, int, int],
    image: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
) -> Figure:
    """Draws one prediction in three panels, from what was given to what was answered.

    Args:
      pixels: uint8 [height, width, 3], the picture given.
      box: x, y, width, height of the digit in it, in pixels.
      image: uint8 [height, width, channels], what the network saw.
      probabilities: float32 [num_classes].
      class_names: the name of each class.

    Returns:
      The figure, ready to save.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Rectangle

    answer = int(probabilities.argmax())
    layout = ConstrainedLayoutEngine(w_pad=0.16, h_pad=0.12)  # inches around each panel
    figure = Figure(figsize=(9.6, 3.5), dpi=_DPI, facecolor="white", layout=layout)
    given, seen, bars = figure.subplots(1, 3)

    _show(given, pixels, "The picture")
    x, y, width, height = box
    outline = Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=_BLUE, lw=1.5)
    given.add_patch(outline)

    rows, columns, channels = image.shape
    title = f"What the network sees: {columns} x {rows}"
    _show(seen, image[..., 0] if channels == 1 else image, title)
    seen.set_xticks([n - 0.5 for n in range(columns + 1)], minor=True)
    seen.set_yticks([n - 0.5 for n in range(rows + 1)], minor=True)
    seen.grid(which="minor", color="#444444", linewidth=0.3)

    places = range(len(class_names))
    colours = [_BLUE if place == answer else _PALE for place in places]
    bars.barh(places, probabilities, color=colours, height=0.72)
    bars.set_yticks(places, class_names, color=_INK, fontsize=10)
    bars.set_xticks([])
    bars.set(xlim=(0, 1.22), ylim=(len(class_names) - 0.4, -0.6))
    bars.tick_params(length=0)
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    bars.spines["left"].set_color(_PALE)
    for place, probability in enumerate(probabilities):
        colour = _BLUE if place == answer else "#777777"
        text = f"{probability:.2%}"
        bars.text(probability + 0.02, place, text, va="center", color=colour, fontsize=8.5)
    bars.set_title(f"The answer: {class_names[answer]}", color=_INK, fontsize=11, pad=9)
    return figure


def save_small(figure: Figure, path: Path) -> None:
    """Saves a figure as a PNG of 256 colours, which takes a third of the bytes."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_anchor("N")  # The titles of all panels stand in a line.
    axes.set_title(title, color=_INK, fontsize=11, pad=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("#888888")


@contextlib.contextmanager
def serve_tensorboard(logdir: Path) -> Iterator[str]:
    """Runs TensorBoard on a free port of this machine while the block runs.

    Args:
      logdir: the run folder; TensorBoard shows its folders of event files as runs.

    Yields:
      Its address, once it has read the curves of training and validation.

    Raises:
      UserError: it ended at once, or did not find the curves.
    """
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", "--port=0"]
        options = ["--host=127.0.0.1", "--load_fast=false"]
        server = subprocess.Popen([*command, *options], stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + _START_SECONDS
            while True:
                output.seek(0)
                said = output.read()
                found = re.search(r"at (http://\S+/)", said)
                if found and _has_curves(found[1]):
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    last = (said.strip().splitlines() or ["nothing said"])[-1]
                    raise UserError(
                        f"{logdir}: TensorBoard showed no curves of train and validation there "
                        f"({last}); name a finished run with --logdir"
                    )
                time.sleep(0.5)
            yield found[1]
        finally:
            server.terminate()
            server.wait()


def _has_curves(address: str) -> bool:
    with urllib.request.urlopen(f"{address}data/plugin/scalars/tags", timeout=30) as response:
        tags = json.load(response)
    return all({"accuracy", "loss"} <= set(tags.get(run, ())) for run in ("train", "validation"))


def find_chromium() -> str:
    """Returns the path of Chromium or Chrome.

    Raises:
      UserError: there is none.
    """
    for name in _CHROMIUM_NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise UserError(
        f"expected one of {', '.join(_CHROMIUM_NAMES)} to take the screenshot with, found none; "
        "install Chromium, on Debian and Ubuntu by: apt-get install chromium"
    )


def take_screenshot(chromium: str, address: str, path: Path) -> None:
    """Saves what TensorBoard shows of the curves.

    Args:
      chromium: the browser's path.
      address: TensorBoard's.
      path: the PNG file to write.

    Raises:
      UserError: the browser took no screenshot.
    """
    # The older dashboard: the lines of the newer one need a graphics card.
    wanted = urllib.parse.quote(f"^({'|'.join(_CURVES)})$")
    page = f"{address}?darkMode=false#scalars&tagFilter={wanted}&_smoothingWeight=0"
    log(f"taking a screenshot of {page}")
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=30000",
            f"--window-size={_WINDOW[0]},{_WINDOW[1]}",
            f"--screenshot={shot}",
            page,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SHOT_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{chromium}: took no screenshot in {_SHOT_SECONDS} s") from error
        if not shot.is_file():
            last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise UserError(f"{chromium}: took no screenshot ({last}); try another version of it")
        shutil.copyfile(shot, path)


if __name__ == "__main__":
    command_line.run(main, define_flags)
