from __future__ import annotations

import json

import numpy as np
import pytest

from data_prep.command_line import UserError
from predict import reader
from predict.classifier import Judgement
from predict.digits import Digit, NoInkError, Place, Strokes
from predict.reader import Reading, find_in, judge_digits, read_image, read_images
from tests.predict_fixtures import StubClassifier, draw, to_rgb, write_test_run

NAMES = ("zero", "one", "two", "three", "four")


@pytest.fixture
def run(tmp_path):
    return write_test_run(tmp_path / "run", class_names=NAMES, image_shape=(13, 9, 3))


def digit(label, line=0, *, odd=False):
    """A place of a digit that `StubClassifier` reads as `label`, and rejects if it is odd."""
    image = np.zeros((13, 9, 3), np.uint8)
    image[0, 0, 0], image[1, 0, 0] = label, odd
    return Place((Digit(box=(label, 2, 3, 4), image=image, line=line),))


def test_text_has_the_lines_and_leaves_out_what_is_rejected(run):
    digits = [digit(3), digit(1, odd=True), digit(4), digit(0, 1, odd=True), digit(2, 2)]
    (reading,) = judge_digits([digits], run, StubClassifier(num_classes=5))
    assert reading.text == "threefour\ntwo"
    assert [one.digit for one in reading.digits] == [3, 1, 4, 0, 2]
    assert [one.is_digit for one in reading.digits] == [True, False, True, False, True]
    assert [one.line for one in reading.digits] == [0, 0, 0, 1, 2]
    assert [one.score for one in reading.digits] == [9, -1, 9, -1, 9]
    assert reading.digits[0].box == (3, 2, 3, 4)
    assert np.array_equal(reading.digits[1].image, digits[1].digits[0].image)
    assert sum(reading.digits[2].probabilities) == pytest.approx(1)
    assert reading.digits[2].probability == max(reading.digits[2].probabilities)


def test_nothing_accepted_gives_empty_text(run):
    (reading,) = judge_digits([[digit(3, odd=True)]], run, StubClassifier(num_classes=5))
    assert reading.text == "" and len(reading.digits) == 1


def test_without_calibration_there_is_no_score(run):
    classifier = StubClassifier(num_classes=5, rejection=None)
    (reading,) = judge_digits([[digit(3, odd=True)]], run, classifier)
    assert reading.text == "three"
    assert reading.digits[0].score is None and reading.digits[0].is_digit is True


def test_several_pictures_share_batches_of_a_bounded_size(run, monkeypatch):
    monkeypatch.setattr(reader, "_BATCH_SIZE", 4)
    classifier = StubClassifier(num_classes=5)
    found = [[digit(1), digit(2)], [digit(3)], [], [digit(4), digit(0), digit(1)]]
    readings = judge_digits(found, run, classifier)
    assert [one.text for one in readings] == ["onetwo", "three", "", "fourzeroone"]
    assert classifier.batch_sizes == [4, 2]


def test_no_pictures_ask_nothing_of_the_network(run):
    classifier = StubClassifier(num_classes=5)
    assert judge_digits([], run, classifier) == [] and classifier.batch_sizes == []


def test_json_can_be_written_and_is_complete(run):
    (reading,) = judge_digits([[digit(3, 1)]], run, StubClassifier(num_classes=5))
    answer = json.loads(json.dumps(reading.to_json()))
    (facts,) = answer["digits"]
    assert answer["text"] == "three"
    assert list(facts) == [
        "digit", "class_name", "probabilities", "score", "is_digit", "box", "line",
    ]  # fmt: skip
    assert (facts["digit"], facts["box"], facts["line"]) == (3, [3, 2, 3, 4], 1)


class Ruler(StubClassifier):
    """Reads every image as 1; is sure of it where the ink is 4 to 12 of 28 pixels wide."""

    def judge(self, images):
        self.batch_sizes.append(len(images))
        widths = np.array(
            [np.ptp(np.flatnonzero((image > 99).any(axis=0))) + 1 for image in images]
        )
        scores = np.where((widths >= 4) & (widths <= 12), 9, -3).astype(np.float32)
        probabilities = np.tile(np.eye(10, dtype=np.float32)[1], (len(images), 1))
        is_digit = (scores > 0) | (self.rejection is None)
        return Judgement(probabilities, scores, is_digit)


def place_of_bars(*bars, joined=False, num_digits=1):
    """A place of upright bars, from a first to a last column, read at first as squares."""
    ink, pieces = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    for number, (left, right) in enumerate(bars, start=1):
        ink[:, left:right], pieces[:, left:right] = 255, number
    if joined:
        ink[30:34, : bars[-1][0]] = 255
        pieces = (ink > 0).astype(np.uint8)
    square = Digit((0, 0, 60, 40), np.full((28, 28, 1), 255, np.uint8))
    return Place((square,) * num_digits, Strokes(ink, pieces, (100, 200), 2.0))


def test_what_touches_is_divided_as_the_network_reads_it(tmp_path):
    run, classifier = write_test_run(tmp_path / "run"), Ruler()
    place = place_of_bars((0, 12), (30, 42), joined=True)
    (reading,) = judge_digits([[place]], run, classifier)
    assert reading.text == "11" and len(classifier.batch_sizes) == 2
    (first, second) = reading.digits
    assert first.box[:2] == (100, 200) and first.box[3] == second.box[3] == 80
    assert first.box[0] + first.box[2] <= second.box[0] < 160
    assert second.box[0] + second.box[2] == 100 + 2 * 42


def test_parts_of_a_broken_digit_are_joined_as_the_network_reads_them(tmp_path):
    run = write_test_run(tmp_path / "run")
    place = place_of_bars((0, 4), (8, 16), num_digits=2)
    (reading,) = judge_digits([[place]], run, Ruler())
    assert [digit.box for digit in reading.digits] == [(100, 200, 32, 80)]


def test_only_what_the_network_is_unsure_of_is_divided(tmp_path, monkeypatch):
    run = write_test_run(tmp_path / "run")
    unsure, classifier = place_of_bars((0, 12), (30, 42), joined=True), Ruler()
    image = np.zeros((28, 28, 1), np.uint8)
    image[:, 10:16] = 255
    sure = Place((Digit((0, 0, 60, 40), image),), unsure.strokes)
    (reading,) = judge_digits([[sure]], run, classifier)
    assert len(reading.digits) == 1 and classifier.batch_sizes == [1]
    (reading,) = judge_digits([[unsure]], run, Ruler(rejection=None))  # It has no scores.
    assert len(reading.digits) == 1
    monkeypatch.setattr(reader, "_MOST_UNSURE", 1)
    one, several = judge_digits([[unsure], [unsure, unsure]], run, Ruler())
    assert (len(one.digits), len(several.digits)) == (2, 2)


def test_one_blank_picture_among_several_is_an_error_of_its_own(tmp_path):
    run = write_test_run(tmp_path / "run")
    classifier = StubClassifier()
    blank = np.full((30, 40, 3), 200, np.uint8)
    three, nothing, four = read_images(
        (pixels for pixels in (to_rgb(draw("3")), blank, to_rgb(draw("4")))), run, classifier
    )
    assert isinstance(three, Reading) and isinstance(four, Reading)
    assert len(three.digits) == len(four.digits) == 1 and classifier.batch_sizes == [2]
    assert isinstance(nothing, NoInkError)
    with pytest.raises(NoInkError):
        read_image(blank, run, classifier)
    assert read_image(to_rgb(draw("3")), run, classifier) == three


def test_a_damaged_model_is_no_fault_of_the_picture(tmp_path):
    class Damaged(StubClassifier):
        def judge(self, images):
            raise UserError("damaged")

    run = write_test_run(tmp_path / "run")
    with pytest.raises(UserError, match="damaged"):
        read_images([to_rgb(draw("3"))], run, Damaged())


def test_digits_are_prepared_as_the_run_says(tmp_path):
    run = write_test_run(tmp_path / "run", image_shape=(13, 9, 3), image_preparation="resize")
    pixels = np.arange(13 * 9 * 3, dtype=np.uint8).reshape(13, 9, 3)
    (found,) = find_in(pixels, run)
    assert np.array_equal(found.digits[0].image, pixels)
