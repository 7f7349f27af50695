from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import predict_start
from data_prep.command_line import UserError


def test_pictures_are_one_digit_and_a_page_of_fifty(tmp_path, make_dataset):
    data_dir = tmp_path / "data"
    make_dataset(data_dir, image_shape=(28, 28, 1), num_test=71)
    one, page = predict_start.write_pictures(data_dir, tmp_path).values()
    assert np.asarray(Image.open(one)).shape == (28, 28)
    pixels = np.asarray(Image.open(page))
    assert pixels.shape == (3000, 4000, 3) and page.suffix == ".jpg"
    assert pixels[:50].mean() > 200 and pixels.min() < 140  # paper, and ink on it


def answer(monkeypatch, text):
    """Stands in for the processes: rows of CSV from predict.py, then the other's text."""
    outputs = [("url,class_name\na,3\na,1\n", 0.25), (text, 2.0)]
    monkeypatch.setattr(predict_start, "run", lambda command: outputs.pop(0))


def test_ratio_of_the_medians(tmp_path, monkeypatch, capsys):
    answer(monkeypatch, "31\n")
    predict_start.measure("page", tmp_path, "run", tmp_path, 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1:3] for line in lines] == [
        ["predict.py", "0.25"], ["tensorflow", "2.00"], ["ratio", "8.0"],
    ]  # fmt: skip


def test_answers_that_differ_are_an_error(tmp_path, monkeypatch):
    answer(monkeypatch, "37\n")
    with pytest.raises(UserError, match="page: the answers differ: 31 and 37"):
        predict_start.measure("page", tmp_path, "run", tmp_path, 1)


def test_failing_script_is_told():
    with pytest.raises(UserError, match="-c failed: no"):
        predict_start.run(["-c", "import sys; sys.exit('no')"])
