from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest

from data_prep.command_line import UserError
from predict.url_list import gather_urls, read_list


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "c.jpg", "[x].png"):
        (tmp_path / name).touch()
    return tmp_path


def write_stdin(monkeypatch, data):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_order_is_that_of_the_command_line_then_that_of_the_list(folder, monkeypatch):
    (folder / "list").write_text("4\n5\n")
    write_stdin(monkeypatch, b"2\n3")
    assert gather_urls(["1", "-", "http://a/*?b"], "list") == ["1", "2", "3", "http://a/*?b", *"45"]


def test_patterns_give_sorted_paths(folder, monkeypatch):
    assert gather_urls(["*.png", "c.*"], None) == ["[x].png", "a.png", "b.png", "c.jpg"]
    monkeypatch.setenv("HOME", str(folder))
    assert gather_urls(["~/?.jpg"], None) == [f"{folder}/c.jpg"]


def test_patterns_reach_into_folders(folder):
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "deep" / "d.png").touch()
    assert gather_urls(["**/d.png"], None) == ["in/deep/d.png"]


@pytest.mark.parametrize("name", ["[x].png", "none?.png", "x" * 5000 + "*", "a\0*"])
def test_what_exists_or_matches_nothing_stays_as_it_is(name):
    assert gather_urls([name], None) == [name]


def test_list_is_read_as_it_comes_from_any_system(folder):
    data = b"\xef\xbb\xbfone.png \r\n\r\n\t two words.png\n\xff.png\n"
    (folder / "list").write_bytes(data)
    assert read_list("list") == ["one.png", "two words.png", os.fsdecode(b"\xff.png")]


def test_lists_in_lists_and_patterns_in_lists(folder):
    (folder / "list").write_text("-\n*.jpg\n")
    assert gather_urls([], "list") == ["-", "c.jpg"]  # a file that is called so


@pytest.mark.parametrize(
    ("given", "urls_file", "message"),
    [
        ([], None, "expected a picture to read, found none; name one with --url=URL"),
        (["-"], None, "expected a picture to read, found an empty list; name one with --url=URL"),
        ([], "empty", "expected a picture to read, found an empty list; name one with --url=URL"),
        (["-", "-"], None, "expected one list on stdin, found - more than once; give it once"),
        (["-"], "-", "expected one list on stdin, found - more than once; give it once"),
        ([], "gone", "--urls_file: gone cannot be read: no such file or directory"),
        ([], ".", r"--urls_file: \. cannot be read: is a directory"),
        ([], "data", "--urls_file: expected text with a URL on each line, found other data in da"),
    ],
)
def test_mistakes(folder, monkeypatch, given, urls_file, message):
    (folder / "empty").write_text("\n \n")
    (folder / "data").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    write_stdin(monkeypatch, b"")
    with pytest.raises(UserError, match=f"^{message}"):
        gather_urls(given, urls_file)


def test_stdin_that_the_shell_has_closed(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="expected a list of pictures on stdin, found it closed"):
        gather_urls(["-"], None)
