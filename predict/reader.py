"""Reads pictures: pixels in, the text on them and each of its digits out.

The one way from pixels to answers that the command line, the server and the benchmarks share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict.classifier import Classifier
from predict.digits import Box, Digit, find_digits

_BATCH_SIZE = 256  # images: more at a time are no faster, and a picture of noise may have many


@dataclass(frozen=True)
class ReadDigit:
    """One region of a picture, and what the network says of it.

    Attributes:
      box: x, y, width and height of its ink, in pixels of the picture.
      line: the line of text that it stands in; 0 is the topmost.
      digit: the likeliest label.
      class_name: that label's name.
      probabilities: of each label; they add up to 1.
      score: how much it is like a training image, more being liker; None where the run has no
        calibration to tell by.
      is_digit: False where it is too unlike the training images for its answer to count.
      image: uint8 [height, width, channels], what the network read.
    """

    box: Box
    line: int
    digit: int
    class_name: str
    probabilities: tuple[float, ...]
    score: float | None
    is_digit: bool
    image: np.ndarray = field(repr=False, compare=False)

    @property
    def probability(self) -> float:
        """The probability of the answer, 0 to 1."""
        return self.probabilities[self.digit]

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the image, as JSON has it."""
        return {
            "digit": self.digit,
            "class_name": self.class_name,
            "probabilities": list(self.probabilities),
            "score": self.score,
            "is_digit": self.is_digit,
            "box": list(self.box),
            "line": self.line,
        }


@dataclass(frozen=True)
class Reading:
    """What stands on a picture.

    Attributes:
      text: the names of the digits in reading order, lines parted by line breaks. Rejected regions
        are left out, so it is empty where all are.
      digits: every region in reading order, rejected ones among them.
    """

    text: str
    digits: tuple[ReadDigit, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the reading as JSON has it."""
        return {"text": self.text, "digits": [digit.to_json() for digit in self.digits]}


def read_image(pixels: np.ndarray, run: Run, classifier: Classifier) -> Reading:
    """Reads one picture.

    Args:
      pixels: uint8 [height, width, 3], RGB, upright.
      run: how pictures are prepared, and the classes' names.
      classifier: the run's model.

    Returns:
      What stands on it.

    Raises:
      NoInkError: nothing on it could be a digit.
      UserError: the model is damaged.
    """
    (reading,) = judge_digits([find_in(pixels, run)], run, classifier)
    return reading


def read_images(
    pictures: Iterable[np.ndarray], run: Run, classifier: Classifier
) -> list[Reading | UserError]:
    """Reads several pictures with one pass through the network.

    Args:
      pictures: each uint8 [height, width, 3], RGB, upright. One is looked at after the other, so
        a generator need not hold them all.
      run: how pictures are prepared, and the classes' names.
      classifier: the run's model.

    Returns:
      For each picture its reading, or the error that `read_image` would have raised.

    Raises:
      UserError: the model is damaged.
    """
    found: list[list[Digit] | UserError] = []
    for pixels in pictures:
        try:
            found.append(find_in(pixels, run))
        except UserError as error:
            found.append(error)
    readings = iter(judge_digits([one for one in found if isinstance(one, list)], run, classifier))
    return [next(readings) if isinstance(one, list) else one for one in found]


def find_in(pixels: np.ndarray, run: Run) -> list[Digit]:
    """Finds a picture's digits and prepares them as the run's training images were.

    Args:
      pixels: uint8 [height, width, 3], RGB, upright.
      run: how pictures are prepared.

    Returns:
      At least one digit, in reading order.

    Raises:
      NoInkError: nothing on it could be a digit.
    """
    return find_digits(pixels, run.image_shape, run.image_preparation)


def judge_digits(
    found: Sequence[Sequence[Digit]], run: Run, classifier: Classifier
) -> list[Reading]:
    """Reads the digits that were found on several pictures, in as few batches as possible.

    Args:
      found: each picture's digits, from `find_in`.
      run: the classes' names.
      classifier: the run's model.

    Returns:
      What stands on each picture.

    Raises:
      UserError: the model is damaged.
    """
    answers = _classify([digit.image for digits in found for digit in digits], classifier)
    readings = []
    for digits in found:
        read = []
        for digit in digits:
            probabilities, score, is_digit = next(answers)
            label = int(probabilities.argmax())
            read.append(
                ReadDigit(
                    box=digit.box,
                    line=digit.line,
                    digit=label,
                    class_name=run.class_names[label],
                    probabilities=tuple(probabilities.tolist()),
                    score=None if classifier.rejection is None else float(score),
                    is_digit=bool(is_digit),
                    image=digit.image,
                )
            )
        readings.append(Reading(_join(read), tuple(read)))
    return readings


def _classify(
    images: Sequence[np.ndarray], classifier: Classifier
) -> Iterator[tuple[np.ndarray, np.float32, np.bool_]]:
    """Gives each image's probabilities, score and whether it is accepted."""
    for start in range(0, len(images), _BATCH_SIZE):
        judged = classifier.judge(np.stack(images[start : start + _BATCH_SIZE]))
        yield from zip(judged.probabilities, judged.scores, judged.is_digit, strict=True)


def _join(digits: Sequence[ReadDigit]) -> str:
    lines: dict[int, str] = {}
    for digit in digits:
        if digit.is_digit:
            lines[digit.line] = lines.get(digit.line, "") + digit.class_name
    return "\n".join(lines.values())
