from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.command_line import UserError
from predict.digits import find_digits
from predict.predict import format_answer, name_inputs
from tests.predict_fixtures import DIGITS, draw, serve, to_rgb, write_digit_run, write_test_run

SCRIPT = Path(__file__).resolve().parents[1] / "predict" / "predict.py"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    return write_digit_run(tmp_path_factory.mktemp("runs") / "drawn").logdir


@pytest.fixture
def folder(tmp_path):
    for text in "147":
        Image.fromarray(draw(text)).save(tmp_path / f"{text}.png")
    Image.new("L", (40, 30), 200).save(tmp_path / "blank.png")
    return tmp_path


def predict(folder, *arguments, python=()):
    """Runs the script from another folder than the project's."""
    return subprocess.run(
        [sys.executable, *python, SCRIPT, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_table_and_answer(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "--url=7.png")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "7.png" and len(lines) == 13
    assert [line.split()[0] for line in lines[1:11]] == list(DIGITS)
    assert lines[8].count("█") == max(line.count("█") for line in lines) > 30
    assert len({line.index("%") for line in lines[1:11]}) == 1  # aligned
    assert lines[11].startswith("  This is 7, with a probability of ")


def test_several_of_which_one_fails(folder, logdir):
    urls = ["--url=1.png", "--url", "gone.png", "4.png"]
    result = predict(folder, f"--logdir={logdir}", *urls)
    assert result.returncode == 1
    assert result.stderr == "predict.py: gone.png: there is no such file; check the path\n"
    answers = [line for line in result.stdout.splitlines() if "This is" in line]
    assert [line[:11] for line in answers] == ["  This is 1", "  This is 4"]


def test_json_is_one_object_a_line(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "--json", "7.png", "blank.png", "4.png")
    assert result.returncode == 1
    assert result.stderr.startswith("predict.py: blank.png: no ink found: ")
    seven, blank, four = map(json.loads, result.stdout.splitlines())
    assert set(blank) == {"url", "error"} and blank["error"].startswith("no ink found: ")
    assert (seven["url"], seven["text"], four["text"]) == ("7.png", "7", "4")
    (digit,) = seven["digits"]
    assert digit["digit"] == 7 and digit["class_name"] == "7"
    assert len(digit["probabilities"]) == 10
    assert np.argmax(digit["probabilities"]) == 7
    assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert tuple(digit["box"]) == find_digits(to_rgb(draw("7")), (28, 28, 1), "mnist")[0].box


def test_json_is_one_document_for_one_url(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "--json", "--url=1.png")
    assert result.returncode == 0
    assert json.loads(result.stdout)["text"] == "1"


def test_by_url_from_this_machine_only_when_allowed(folder, logdir):
    data = (folder / "4.png").read_bytes()

    def answer(handler):
        handler.send_response(200 if handler.path == "/4" else 404)
        handler.end_headers()
        handler.wfile.write(data)

    with serve(answer) as url:
        refused = predict(folder, f"--logdir={logdir}", f"--url={url}/4")
        allowed = predict(
            folder, f"--logdir={logdir}", "--allow_private_urls", "--json", f"{url}/4", f"{url}/5"
        )
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr == (
        f"predict.py: {url}/4: 127.0.0.1 has the address 127.0.0.1, which is not on the public "
        "internet; --allow_private_urls permits it\n"
    )
    answers = map(json.loads, allowed.stdout.splitlines())
    assert [answer.get("text") for answer in answers] == ["4", None]
    assert "the server answered 404 (Not Found)" in allowed.stderr


def test_save_input_shows_what_the_network_saw(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "7.png", "--save_input=seen.png")
    assert result.returncode == 0
    (expected,) = find_digits(to_rgb(draw("7")), (28, 28, 1), "mnist")
    seen = np.asarray(Image.open(folder / "seen.png"))
    assert np.array_equal(seen, np.kron(expected.image[:, :, 0], np.ones((10, 10), np.uint8)))


def test_save_input_numbers_several(folder, logdir):
    before = set(os.listdir(folder))
    predict(folder, f"--logdir={logdir}", "7.png", "gone.png", "1.png", "--save_input=seen.png")
    assert set(os.listdir(folder)) - before == {"seen-1.png", "seen-3.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a picture to read, found none; name one with --url=URL"),
        (["1.png", "--logdir=nowhere"], "nowhere: no such run folder; "),
        (["1.png", "--save_input=a.jpg"], "--save_input: expected a name that ends in .png, found"),
        (["1.png", "--save_input=no/a.png"], "--save_input: there is no folder no; create it"),
    ],
)
def test_mistakes_get_one_line(folder, arguments, message):
    result = predict(folder, *arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"predict.py: {message}")
    assert result.stderr.count("\n") == 1


def test_run_without_an_exported_model(folder):
    write_test_run(folder / "run")
    result = predict(folder, "--logdir=run", "1.png")
    assert result.returncode == 1
    assert result.stderr.startswith("predict.py: run/export/model.tflite: no such file; ")


def test_name_that_is_no_text(folder, logdir):
    name = os.fsdecode(b"\xff.png")
    os.link(folder / "1.png", folder / name)
    for flag in ("--json", "--nojson"):
        result = predict(folder, f"--logdir={logdir}", name, flag)
        assert (result.returncode, result.stderr) == (0, "")
        assert "udcff.png" in result.stdout


def test_a_local_file_needs_few_imports(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "1.png", python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert {"numpy", "PIL.PngImagePlugin", "ai_edge_litert.interpreter"} <= imported
    unneeded = {"tensorflow", "scipy", "matplotlib", "requests", "urllib3", "numpy.ma"}
    assert imported.isdisjoint(unneeded)


def test_many_classes_show_the_likeliest():
    names = tuple(f"class {number}" for number in range(47))
    probabilities = [0.001] * 47
    probabilities[33], probabilities[5] = 0.7, 0.2
    digit = {"digit": 33, "class_name": names[33], "probabilities": probabilities, "box": [0] * 4}
    answer = {"url": "a.png", "text": names[33], "digits": [digit]}
    lines = format_answer(answer, names).splitlines()
    assert lines[1] == "  class 33   70.00%  " + "█" * 28
    assert lines[2] == "   class 5   20.00%  " + "█" * 8
    assert len(lines) == 13
    assert lines[11:] == [
        "  (the 10 likeliest of 47 classes)",
        "  This is class 33, with a probability of 70.00%.",
    ]


def test_names_of_inputs(tmp_path):
    path = tmp_path / "in.put.png"
    assert name_inputs(None, 2) == [None, None]
    assert name_inputs(str(path), 1) == [path]
    assert name_inputs(str(path), 2) == [tmp_path / "in.put-1.png", tmp_path / "in.put-2.png"]
    with pytest.raises(UserError, match=r"ends in \.png, found 'input'"):
        name_inputs("input", 1)
