from __future__ import annotations

import json

import numpy as np
import pytest

from data_prep.command_line import UserError
from predict import reader
from predict.digits import Digit, NoInkError
from predict.reader import Reading, find_in, judge_digits, read_image, read_images
from tests.predict_fixtures import StubClassifier, draw, to_rgb, write_test_run

NAMES = ("zero", "one", "two", "three", "four")


@pytest.fixture
def run(tmp_path):
    return write_test_run(tmp_path / "run", class_names=NAMES, image_shape=(13, 9, 3))


def digit(label, line=0, *, odd=False):
    """A digit that `StubClassifier` reads as `label`, and rejects if it is odd."""
    image = np.zeros((13, 9, 3), np.uint8)
    image[0, 0, 0], image[1, 0, 0] = label, odd
    return Digit(box=(label, 2, 3, 4), image=image, line=line)


def test_text_has_the_lines_and_leaves_out_what_is_rejected(run):
    digits = [digit(3), digit(1, odd=True), digit(4), digit(0, 1, odd=True), digit(2, 2)]
    (reading,) = judge_digits([digits], run, StubClassifier(num_classes=5))
    assert reading.text == "threefour\ntwo"
    assert [one.digit for one in reading.digits] == [3, 1, 4, 0, 2]
    assert [one.is_digit for one in reading.digits] == [True, False, True, False, True]
    assert [one.line for one in reading.digits] == [0, 0, 0, 1, 2]
    assert [one.score for one in reading.digits] == [1, -1, 1, -1, 1]
    assert reading.digits[0].box == (3, 2, 3, 4)
    assert np.array_equal(reading.digits[1].image, digits[1].image)
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
    assert np.array_equal(found.image, pixels)
