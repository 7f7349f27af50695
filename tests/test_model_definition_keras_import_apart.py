from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from data_prep.command_line import UserError
from model_definition.keras_import import apart
from model_definition.keras_import.apart import read_apart
from model_definition.keras_import.container import load_keras_file

PATH = Path("model.h5")


def test_answer_comes_back():
    assert read_apart(PATH, sorted, [3, 1, 2], reverse=True) == [3, 2, 1]


def test_error_comes_back(tmp_path):
    with pytest.raises(UserError, match=r"missing\.keras: no such file; expected a model"):
        read_apart(PATH, load_keras_file, tmp_path / "missing.keras")


def test_answer_too_deep_to_be_sent_is_one_line(tmp_path, capfd):
    path = tmp_path / "deep.json"
    path.write_text('{"class_name": "Sequential", "config": ' + "[" * 800 + "]" * 800 + "}")
    with pytest.raises(UserError, match=r"deep\.json: damaged, for it is nested too deeply; save"):
        read_apart(path, load_keras_file, path)
    assert capfd.readouterr().err == ""


def test_crash_is_an_error():
    with pytest.raises(UserError, match=r"model\.h5: damaged, for reading it crashes the library"):
        read_apart(PATH, os.abort)


def test_reading_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr(apart, "_PATIENCE", 0.5)
    with pytest.raises(UserError, match=r"model\.h5: damaged, for reading it does not end; save"):
        read_apart(PATH, time.sleep, 600)
