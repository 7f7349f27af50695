from __future__ import annotations

import csv
import io

import numpy as np

from predict.answers import CSV_COLUMNS, format_csv, format_text
from predict.many import Answer
from predict.reader import ReadDigit, Reading

NAMES = tuple(f"class {number}" for number in range(47))


def read_digit(label=33, *, line=0, score=1.234, is_digit=True, num_classes=47):
    probabilities = [0.001] * num_classes
    probabilities[label], probabilities[5] = 0.7, 0.2
    return ReadDigit(
        box=(10, 20, 30, 40),
        line=line,
        digit=label,
        class_name=NAMES[label],
        probabilities=tuple(probabilities),
        score=score,
        is_digit=is_digit,
        image=np.zeros((1, 1, 1), np.uint8),
    )


def test_many_classes_show_the_likeliest():
    lines = format_text("a.png", Reading("class 33", (read_digit(),)), NAMES).splitlines()
    assert lines[0] == "a.png"
    assert lines[1] == "  class 33   70.00%  " + "█" * 28
    assert lines[2] == "   class 5   20.00%  " + "█" * 8
    assert len(lines) == 13
    assert lines[11:] == [
        "  (the 10 likeliest of 47 classes)",
        "  This is class 33, with a probability of 70.00%.",
    ]


def test_few_classes_show_all_in_order():
    reading = Reading("class 3", (read_digit(3, num_classes=7),))
    lines = format_text("a.png", reading, NAMES[:7]).splitlines()
    assert [line.split()[1] for line in lines[1:8]] == list("0123456")
    assert lines[1] == "  class 0    0.10%" and len(lines) == 9


def test_several_digits_are_a_table_below_the_text():
    digits = (read_digit(), read_digit(1, score=None), read_digit(2, line=1, is_digit=False))
    text = format_text("a.png", Reading("class 33class 1", digits), NAMES)
    assert text.splitlines() == [
        "a.png",
        "  class 33class 1",
        "",
        "  line  digit        probability    score  box (x y width height)",
        "     0  class 33          70.00%     1.23  10 20 30 40",
        "     0  class 1           70.00%           10 20 30 40",
        "     1  not a digit                  1.23  10 20 30 40",
    ]
    assert text.endswith("\n")


def parse(answer):
    return list(csv.DictReader(io.StringIO(format_csv(answer)), CSV_COLUMNS))


def test_csv_can_be_read_back():
    rejected = read_digit(1, score=None, is_digit=False)
    answer = Answer('a "b",\n.png', Reading("class 33", (read_digit(), rejected)), None)
    first, second = parse(answer)
    assert first == {
        "url": 'a "b",\n.png', "line": "0", "digit": "33", "class_name": "class 33",
        "probability": "0.7", "score": "1.234", "is_digit": "1",
        "x": "10", "y": "20", "width": "30", "height": "40", "error": "",
    }  # fmt: skip
    assert (second["is_digit"], second["score"]) == ("0", "")


def test_csv_of_failures():
    (failed,) = parse(Answer("a.png", None, "it is cut short"))
    assert {name: value for name, value in failed.items() if value} == {
        "url": "a.png",
        "error": "it is cut short",
    }
    rejected = Answer("a.png", Reading("", (read_digit(is_digit=False),)), "nothing is a digit")
    error, region = parse(rejected)
    assert error["error"] == "nothing is a digit" and error["digit"] == ""
    assert region["is_digit"] == "0" and region["error"] == ""
