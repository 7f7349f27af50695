"""Reads many pictures: fetches ahead, classifies in batches, and answers in the order given.

Memory stays the same however many there are: a few files wait for their turn, one picture is
decoded at a time, and of those before it only the digits are kept until a batch is full.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict.classifier import Classifier
from predict.digits import Place
from predict.image_source import FetchLimits, decode_image, is_remote, load_bytes
from predict.reader import Reading, find_in, judge_digits

_NUM_FETCHED_AHEAD = 16  # files, each of at most `FetchLimits.num_bytes`
# A batch ends with whichever comes first. Pixels count where they are kept.
_NUM_PICTURES, _NUM_DIGITS, _NUM_PIXELS = 64, 256, 20_000_000


@dataclass(frozen=True)
class Answer:
    """What came of one picture.

    Attributes:
      url: where it was.
      reading: what stands on it; None where it could not be had, or is blank.
      error: why it could not be read, in one line; None where at least one digit was.
      pixels: uint8 [height, width, 3], the picture, where it was to be kept.
    """

    url: str
    reading: Reading | None
    error: str | None
    pixels: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the answer as JSON has it."""
        reading = {} if self.reading is None else self.reading.to_json()
        error = {} if self.error is None else {"error": self.error}
        return {"url": self.url, **reading, **error}


def answer_all(
    urls: Sequence[str],
    run: Run,
    classifier: Classifier,
    *,
    allow_private_urls: bool = False,
    keep_pixels: bool = False,
    is_deslanted: bool = False,
) -> Iterator[Answer]:
    """Reads pictures.

    Args:
      urls: `http://…`, `https://…`, `file://…`, or paths.
      run: how pictures are prepared, and the classes' names.
      classifier: the run's model.
      allow_private_urls: also fetches from addresses that are not on the public internet.
      keep_pixels: gives the pixels with the answers.
      is_deslanted: digits are read without their slant.

    Yields:
      An answer for each URL, in their order.

    Raises:
      UserError: the model is damaged.
    """
    found = _find_all(urls, run, allow_private_urls, keep_pixels, is_deslanted)
    for batch in _in_batches(found):
        to_judge = [one.places for one in batch if one.places]
        readings = iter(judge_digits(to_judge, run, classifier))
        for one in batch:
            yield _answer(one, next(readings) if one.places else None)


@dataclass(frozen=True)
class _Found:
    """A picture's digits before the network has seen them; none where there is an error."""

    url: str
    places: list[Place]
    error: str | None
    pixels: np.ndarray | None


def _find_all(
    urls: Sequence[str], run: Run, allow_private_urls: bool, keep_pixels: bool, is_deslanted: bool
) -> Iterator[_Found]:
    limits = FetchLimits()
    for url, load in zip(urls, _load_ahead(urls, allow_private_urls, limits), strict=True):
        try:
            pixels = decode_image(load(), limits)
            places = find_in(pixels, run, is_deslanted=is_deslanted)
        except UserError as error:
            yield _Found(url, [], str(error), None)
        else:
            yield _Found(url, places, None, pixels if keep_pixels else None)


def _load_ahead(
    urls: Sequence[str], allow_private_urls: bool, limits: FetchLimits
) -> Iterator[Callable[[], bytes]]:
    """Gives for each URL a function that returns its bytes, or raises why there are none."""
    ahead: deque[Callable[[], bytes]] = deque()
    for url in urls:
        load = functools.partial(load_bytes, url, allow_private_urls, limits)
        # A local file is not worth a thread.
        ahead.append(_start(load) if is_remote(url) else load)
        if len(ahead) == _NUM_FETCHED_AHEAD:
            yield ahead.popleft()
    yield from ahead


def _start(load: Callable[[], bytes]) -> Callable[[], bytes]:
    """Calls a function in a thread; returns one that waits for its result."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(load())
        except BaseException as error:  # Raised below, in the caller's thread.
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)  # Ctrl-C need not wait for a daemon.
    thread.start()

    def finish() -> bytes:
        # In short pieces, since a Ctrl-C that arrives just before a wait begins is heard after it.
        while thread.is_alive():
            thread.join(0.1)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return finish


def _in_batches(found: Iterator[_Found]) -> Iterator[list[_Found]]:
    batch: list[_Found] = []
    for one in found:
        batch.append(one)
        num_digits = sum(len(place.digits) for one in batch for place in one.places)
        num_pixels = sum(one.pixels.size // 3 for one in batch if one.pixels is not None)
        is_full = len(batch) == _NUM_PICTURES or num_digits >= _NUM_DIGITS
        if is_full or num_pixels >= _NUM_PIXELS:
            yield batch
            batch = []
    yield batch


def _answer(found: _Found, reading: Reading | None) -> Answer:
    error = found.error
    if reading is not None and not any(digit.is_digit for digit in reading.digits):
        best = max(digit.score or 0.0 for digit in reading.digits)
        error = (
            f"nothing on it is a digit: expected ink like that of the training images, found "
            f"{len(reading.digits)} region(s) unlike it (the best score is {best:.2f}); give a "
            "picture of digits"
        )
    return Answer(found.url, reading, error, found.pixels)
