"""What the tests of predict share: drawn digits, and a run whose model knows them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model_definition.run_dir import Run, write_run
from predict.classifier import Classifier, Judgement
from predict.digits import find_digits

DIGITS = "0123456789"


def draw(text: str, *, size: int = 100, margin: int = 20) -> np.ndarray:
    """Black ink on white, uint8 [height, width]; the canvas is wider than high."""
    font = ImageFont.load_default(size)
    picture = Image.new("L", (size + 3 * margin, size + 2 * margin), 255)
    ImageDraw.Draw(picture).text((2 * margin, margin), text, fill=0, font=font)
    return np.asarray(picture)


def to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def write_test_run(
    logdir: Path,
    *,
    class_names: tuple[str, ...] = tuple(DIGITS),
    image_shape: tuple[int, int, int] = (28, 28, 1),
    image_preparation: str = "mnist",
) -> Run:
    """Writes a run folder without its exported model."""
    run = Run(
        logdir=logdir,
        model="lenet",
        architecture_text="flatten\noutput\n",
        data_dir=str(logdir / "data"),
        dataset_name="drawn",
        dataset_digest="0" * 64,
        image_shape=image_shape,
        image_preparation=image_preparation,
        class_names=class_names,
        config={},
        versions={},
    )
    write_run(run)
    return run


def export_matcher(run: Run, templates: np.ndarray, *, least_likeness: float | None = None) -> None:
    """Exports a model that finds the most alike of uint8 [num_classes, *image_shape] templates.

    With `least_likeness`, a cosine, it rejects what is less like every template.
    """
    import tensorflow as tf

    flat = templates.reshape(len(templates), -1).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)

    @tf.function(input_signature=[tf.TensorSpec([None, *run.image_shape], tf.uint8)])
    def match(pixels):
        images = tf.reshape(tf.cast(pixels, tf.float32), [-1, flat.shape[1]])
        likeness = tf.linalg.matmul(tf.nn.l2_normalize(images, 1), flat.T)
        probabilities = tf.nn.softmax(40 * likeness)
        if least_likeness is None:
            return probabilities
        return probabilities, tf.reduce_max(likeness, 1) - least_likeness

    converter = tf.lite.TFLiteConverter.from_concrete_functions([match.get_concrete_function()])
    run.export_path.parent.mkdir(parents=True)
    run.export_path.write_bytes(converter.convert())


def write_digit_run(logdir: Path, *, least_likeness: float | None = None) -> Run:
    """Writes a whole run, whose model reads what `draw` draws; see `export_matcher`."""
    run = write_test_run(logdir)
    prepared = [find_digits(to_rgb(draw(text)), run.image_shape, "mnist")[0] for text in DIGITS]
    templates = np.stack([digit.image for digit in prepared])
    export_matcher(run, templates, least_likeness=least_likeness)
    return run


class StubClassifier(Classifier):
    """Reads a digit from its first pixel, and rejects it where the pixel below is set."""

    def __init__(self, *, num_classes: int = 10, rejection: float | None = 0.0) -> None:
        self.num_classes = num_classes
        self.rejection = rejection
        self.batch_sizes: list[int] = []

    def judge(self, images: np.ndarray) -> Judgement:
        self.batch_sizes.append(len(images))
        labels = images[:, 0, 0, 0] % self.num_classes
        probabilities = np.full((len(images), self.num_classes), 0.1 / (self.num_classes - 1))
        probabilities[np.arange(len(images)), labels] = 0.9
        scores = np.where(images[:, 1, 0, 0], -1, 9).astype(np.float32)
        is_digit = (scores > 0) | (self.rejection is None)
        return Judgement(probabilities.astype(np.float32), scores, is_digit)


@contextmanager
def serve(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serves on localhost; `answer` writes each reply, and may break off as it likes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except ConnectionError:
                pass  # The client has hung up, as some tests want it to.

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
