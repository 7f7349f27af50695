"""Reads pictures: pixels in, the text on them and each of its digits out.

The one way from pixels to answers that the command line, the server and the benchmarks share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict.classifier import Classifier
from predict.digits import Box, Digit, Place, find_places
from predict.page.division import Span

# From this score on nothing speaks against a digit, in nats; one in ten has less.
_SURE = 6.0
# What speaks against a run of parts that ink alone does not speak for, and against each height by
# which a digit is wider than high: few digits are, but most of what is two.
_UNUSUAL, _WIDER_THAN_HIGH = 1.0, 8.0
# A picture with more places that the network is not sure of is not of digits.
_MOST_UNSURE = 100
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


def read_image(
    pixels: np.ndarray, run: Run, classifier: Classifier, *, is_deslanted: bool = False
) -> Reading:
    """Reads one picture.

    Args:
      pixels: uint8 [height, width, 3], RGB, upright.
      run: how pictures are prepared, and the classes' names.
      classifier: the run's model.
      is_deslanted: digits are read without their slant; see `find_in`.

    Returns:
      What stands on it.

    Raises:
      NoInkError: nothing on it could be a digit.
      UserError: the model is damaged.
    """
    (reading,) = judge_digits([find_in(pixels, run, is_deslanted=is_deslanted)], run, classifier)
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
    found: list[list[Place] | UserError] = []
    for pixels in pictures:
        try:
            found.append(find_in(pixels, run))
        except UserError as error:
            found.append(error)
    readings = iter(judge_digits([one for one in found if isinstance(one, list)], run, classifier))
    return [next(readings) if isinstance(one, list) else one for one in found]


def find_in(pixels: np.ndarray, run: Run, *, is_deslanted: bool = False) -> list[Place]:
    """Finds a picture's digits and prepares them as the run's training images were.

    Args:
      pixels: uint8 [height, width, 3], RGB, upright.
      run: how pictures are prepared.
      is_deslanted: each digit's slant is taken away, where digits are brought to MNIST's form.

    Returns:
      At least one place, in reading order.

    Raises:
      NoInkError: nothing on it could be a digit.
    """
    return find_places(pixels, run.image_shape, run.image_preparation, is_deslanted=is_deslanted)


def judge_digits(
    found: Sequence[Sequence[Place]], run: Run, classifier: Classifier
) -> list[Reading]:
    """Reads the digits that were found on several pictures, in as few batches as possible.

    Where the network is not sure that something is a digit, it may be two that touch, or a part of
    one: what it would be otherwise divided is looked at too, and the most likely division taken.

    Args:
      found: each picture's places, from `find_in`.
      run: the classes' names.
      classifier: the run's model.

    Returns:
      What stands on each picture.

    Raises:
      UserError: the model is damaged.
    """
    digits = [digit for places in found for place in places for digit in place.digits]
    answers = _read(digits, run, classifier)
    read = [[[next(answers) for _ in place.digits] for place in places] for places in found]
    _divide_unsure(found, read, run, classifier)
    readings = []
    for page in read:
        regions = tuple(digit for place in page for digit in place)
        readings.append(Reading(_join(regions), regions))
    return readings


def _divide_unsure(
    found: Sequence[Sequence[Place]],
    read: list[list[list[ReadDigit]]],
    run: Run,
    classifier: Classifier,
) -> None:
    """Puts better divisions in the place of those that the network is not sure of, in `read`."""
    unsure = []
    for places, page in zip(found, read, strict=True):
        here = [
            (place, page, index)
            for index, place in enumerate(places)
            if place.strokes is not None and any(_is_unsure(digit) for digit in page[index])
        ]
        if len(here) <= _MOST_UNSURE:
            unsure += here
    divided = [place.divide() for place, _, _ in unsure]
    candidates = [digit for digits, _ in divided if len(digits) > 1 for digit in digits.values()]
    answers = _read(candidates, run, classifier)
    for (_, page, index), (digits, usual) in zip(unsure, divided, strict=True):
        if len(digits) > 1:
            judged = {span: next(answers) for span in digits}
            chosen = _choose_division(judged, usual)
            if chosen != usual:
                page[index] = [judged[span] for span in chosen]


def _is_unsure(digit: ReadDigit) -> bool:
    return digit.score is not None and digit.score < _SURE


def _choose_division(judged: Mapping[Span, ReadDigit], usual: tuple[Span, ...]) -> tuple[Span, ...]:
    """Chooses the runs of parts that are digits: the cheapest way from the first to the last part.

    Args:
      judged: each run, and what the network says of it.
      usual: the runs that ink alone speaks for.
    """
    best: dict[int, tuple[float, tuple[Span, ...]]] = {0: (0.0, ())}
    for span in sorted(judged, key=lambda span: (span[1], span[0])):
        start, end = span
        if start in best:  # All ways to there are known, for their runs end before this one.
            cost, before = best[start]
            cost += _cost(judged[span]) + (0.0 if span in usual else _UNUSUAL)
            if end not in best or cost < best[end][0]:
                best[end] = (cost, (*before, span))
    return best[max(end for _, end in judged)][1]


def _cost(digit: ReadDigit) -> float:
    """Returns what speaks against a digit, in nats: its score, its label, and its width."""
    assert digit.score is not None, "without scores nothing is unsure"
    wider = max(0.0, digit.box[2] / digit.box[3] - 1)
    unsure = max(0.0, _SURE - digit.score) - math.log(max(digit.probability, 1e-9))
    return unsure + _WIDER_THAN_HIGH * wider


def _read(digits: Sequence[Digit], run: Run, classifier: Classifier) -> Iterator[ReadDigit]:
    """Gives what the network says of each digit."""
    answers = _classify([digit.image for digit in digits], classifier)
    for digit, (probabilities, score, is_digit) in zip(digits, answers, strict=True):
        label = int(probabilities.argmax())
        yield ReadDigit(
            box=digit.box,
            line=digit.line,
            digit=label,
            class_name=run.class_names[label],
            probabilities=tuple(probabilities.tolist()),
            score=None if classifier.rejection is None else float(score),
            is_digit=bool(is_digit),
            image=digit.image,
        )


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
