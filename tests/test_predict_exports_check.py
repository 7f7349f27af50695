import dataclasses

import numpy as np
import pytest

from data_prep.command_line import UserError
from predict.exports.check import compare
from predict.exports.formats import Tolerance
from predict.exports.table import FORMATS, choose_formats, describe_formats, find_format

TOLERANCE = Tolerance(0.1, 0.25, "")
EXPECTED = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]], np.float32)


def test_comparison_counts_what_differs():
    found = EXPECTED.copy()
    found[1] += [0.05, -0.05]
    found[3] = [0.7, 0.3]
    comparison = compare(EXPECTED, found, TOLERANCE)
    assert dataclasses.astuple(comparison) == (4, pytest.approx(0.3), 1, 0.25)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_beyond_every_tolerance(wrong):
    found = EXPECTED.copy()
    found[2, 0] = wrong
    comparison = compare(EXPECTED, found, Tolerance(1e9, 0.0, ""))
    assert comparison.largest_difference == np.inf
    assert comparison.share_beyond == 0.25


@pytest.mark.parametrize("found", [EXPECTED[:3], EXPECTED[:, :1], EXPECTED[0]])
def test_another_shape_is_refused(found):
    with pytest.raises(UserError, match=r"^expected probabilities of shape \[4, 2\], found \["):
        compare(EXPECTED, found, TOLERANCE)


def test_formats_are_chosen_once_and_in_order():
    onnx, text = find_format("onnx"), find_format("text")
    assert choose_formats(["text", "onnx", "text"]) == (onnx, text)
    assert choose_formats(["text", "all"]) == FORMATS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "^--format: expected one or several, joined by commas, found none; the formats are "),
        (["onnx", "tflite"], "^--format: there is no format 'tflite'; the formats are keras, h5, "),
        ([""], "^--format: there is no format ''; "),
    ],
)
def test_unknown_formats_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        choose_formats(names)


def test_names_and_files_are_unlike_each_other_and_explained():
    assert len({format.name for format in FORMATS}) == len(FORMATS)
    files = {format.filename("model") for format in FORMATS}
    assert len(files) == len(FORMATS)
    assert "model.tflite" not in files  # Prediction's own, in the same folder.
    for format in FORMATS:
        assert f"\n{format.name} " in f"\n{describe_formats()}"
        assert format.summary in describe_formats()
