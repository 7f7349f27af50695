from __future__ import annotations

import re

import pytest

from data_prep.command_line import UserError
from eval.comparison.output import output_folder


@pytest.mark.parametrize("name", ["", ".", "..", ".zoo", "a/b", "/zoo", "a\nb"])
def test_what_is_no_folders_name(tmp_path, name):
    with pytest.raises(UserError, match=f"^--name={re.escape(name)}: expected a name for the comp"):
        output_folder(tmp_path, name)


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_a_new_name_an_empty_folder_and_an_earlier_comparison_are_fine(tmp_path):
    folder = tmp_path / "my zoo"
    assert output_folder(tmp_path, "my zoo") == folder
    assert not folder.exists()
    folder.mkdir()
    assert output_folder(tmp_path, "my zoo") == folder
    write(folder, "results.json", '{"kind": "comparison"}')
    write(folder, "report.html", "")
    assert output_folder(tmp_path, "my zoo") == folder


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"results.json": '{"kind": "comparison"}', "notes.md": ""}, "holds notes.md, which no"),
        ({"results.json": '{"kind": "other"}'}, "its results.json is no comparison's"),
        ({"results.json": "[]"}, "its results.json is no comparison's"),
        ({"results.json": "{"}, "its results.json is no comparison's"),
        ({"results.txt": "mine"}, "its results.json is no comparison's"),
    ],
)
def test_anything_else_is_kept(tmp_path, files, what):
    for name, text in files.items():
        write(tmp_path / "zoo", name, text)
    message = rf"zoo: {what}.*; choose another --name, or move .*zoo away$"
    with pytest.raises(UserError, match=message):
        output_folder(tmp_path, "zoo")


def test_a_file_is_kept(tmp_path):
    write(tmp_path, "zoo", "mine")
    with pytest.raises(UserError, match=r"zoo: a file; choose another --name"):
        output_folder(tmp_path, "zoo")
