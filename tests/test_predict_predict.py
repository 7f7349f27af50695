from __future__ import annotations

import csv
import dataclasses
import fcntl
import io
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.page_composer import slant
from data_prep.command_line import UserError
from model_definition.run_dir import write_run
from predict.digits import find_digits, find_places
from predict.predict import name_files
from tests.predict_fixtures import (
    DIGITS,
    draw,
    export_matcher,
    serve,
    to_rgb,
    write_digit_run,
    write_test_run,
)

SCRIPT = Path(__file__).resolve().parents[1] / "predict" / "predict.py"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    run = write_digit_run(tmp_path_factory.mktemp("runs") / "drawn", least_likeness=0.7)
    return run.logdir


@pytest.fixture
def folder(tmp_path):
    for text in "147":
        Image.fromarray(draw(text)).save(tmp_path / f"{text}.png")
    Image.new("L", (40, 30), 200).save(tmp_path / "blank.png")
    Image.fromarray(draw("X")).save(tmp_path / "letter.png")
    font = ImageFont.load_default(100)
    page = Image.new("L", (640, 350), 255)
    ImageDraw.Draw(page).text((20, 10), "3 0 8", fill=0, font=font)
    ImageDraw.Draw(page).text((75, 190), "2 6 X", fill=0, font=font)
    page.save(tmp_path / "page.png")
    return tmp_path


def predict(folder, *arguments, python=(), stdin=""):
    """Runs the script from another folder than the project's."""
    return subprocess.run(
        [sys.executable, *python, SCRIPT, *map(str, arguments)],
        cwd=folder,
        input=stdin,
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


def test_several_runs_are_averaged(folder, logdir):
    alone = predict(folder, f"--logdir={logdir}", "7.png", "--json")
    shutil.copytree(logdir, folder / "copy")
    several = predict(folder, f"--logdir={logdir},copy", "7.png", "--json")
    assert (several.returncode, several.stdout) == (0, alone.stdout)
    shifted = predict(folder, "--logdir=copy", "--test_time_shifts=1", "7.png", "--json")
    found, before = (json.loads(result.stdout)["digits"][0] for result in (shifted, alone))
    assert found["digit"] == 7 and found["score"] == before["score"]
    assert found["probabilities"] != before["probabilities"]
    wrong = predict(folder, "--logdir=copy,nowhere", "7.png")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("predict.py: nowhere: no such run folder; name one that")


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
    assert digit["score"] == pytest.approx(0.3, abs=0.01)
    assert (digit["is_digit"], digit["line"]) == (True, 0)
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


def test_page_gives_its_text_and_a_row_for_each_digit(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "page.png")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:4] == ["page.png", "  308", "  26", ""]
    assert lines[4] == "  line  digit        probability    score  box (x y width height)"
    words = [line.split() for line in lines[5:11]]
    assert [row[:2] for row in words[:5]] == [list(row) for row in ("03", "00", "08", "12", "16")]
    assert words[0][2].endswith("%") and words[0][3] == "0.30" and len(words[0]) == 8
    assert words[5][:4] == ["1", "not", "a", "digit"] and float(words[5][4]) < 0
    assert len(lines) == 12 and lines[11] == ""


def test_page_in_json_has_lines_and_rejected_regions(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "page.png", "--json")
    answer = json.loads(result.stdout)
    assert answer["text"] == "308\n26" and "error" not in answer
    assert [digit["line"] for digit in answer["digits"]] == [0, 0, 0, 1, 1, 1]
    assert [digit["is_digit"] for digit in answer["digits"]] == [True] * 5 + [False]
    assert answer["digits"][5]["score"] < 0


def test_picture_without_any_digit_says_so(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "letter.png", "1.png", "--json")
    assert result.returncode == 1
    message = r"nothing on it is a digit: expected ink like that of the training images, found 1 "
    assert result.stderr.startswith(f"predict.py: letter.png: {message}")
    assert result.stderr.count("\n") == 1
    letter, one = map(json.loads, result.stdout.splitlines())
    assert letter["error"].startswith(message) and letter["text"] == ""
    assert [digit["is_digit"] for digit in letter["digits"]] == [False]
    assert one["text"] == "1"
    assert predict(folder, f"--logdir={logdir}", "letter.png").stdout == ""


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ({}, "an imported run has none"),
        (
            {"model": "lenet"},
            "train_lenet.py with the run's own flags adds it, given enough validation images",
        ),
    ],
)
def test_run_without_calibration_says_that_it_rejects_nothing(folder, config, remedy):
    write_run(dataclasses.replace(write_digit_run(folder / "run"), config=config))
    result = predict(folder, "--logdir=run", "letter.png", "1.png", "--json")
    assert result.returncode == 0
    assert result.stderr == (
        "predict.py: run: this run has no calibration, so whatever is found counts as a digit; "
        f"{remedy}\n"
    )
    assert result.stderr.count("\n") == 1
    (digit,) = json.loads(result.stdout.splitlines()[0])["digits"]
    assert digit["score"] is None and digit["is_digit"] is True


def test_csv_is_a_line_for_each_digit(folder, logdir):
    os.rename(folder / "1.png", folder / 'one, "ink".png')
    result = predict(
        folder, f"--logdir={logdir}", 'one, "ink".png', "page.png", "gone.png", "--csv"
    )
    assert result.returncode == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert ",".join(rows[0]) == (
        "url,line,digit,class_name,probability,score,is_digit,x,y,width,height,error"
    )
    assert [row["url"] for row in rows] == ['one, "ink".png', *["page.png"] * 6, "gone.png"]
    assert [row["class_name"] for row in rows[:6]] == list("130826")
    assert [row["is_digit"] for row in rows] == ["1"] * 6 + ["0", ""]
    assert rows[7]["error"] == "there is no such file; check the path" and rows[0]["error"] == ""
    assert float(rows[0]["probability"]) > 0.9
    box = find_digits(to_rgb(draw("1")), (28, 28, 1), "mnist")[0].box
    assert tuple(int(rows[0][name]) for name in ("x", "y", "width", "height")) == box


@pytest.mark.parametrize("where", ["file", "flag", "argument"])
def test_list_of_pictures(folder, logdir, where):
    text = "\ufeff4.png\r\n\n  gone.png \n7.png"
    (folder / "list.txt").write_text(text, encoding="utf-8")
    given = {"file": "--urls_file=list.txt", "flag": "--urls_file=-", "argument": "-"}[where]
    arguments = [f"--logdir={logdir}", "--json", "1.png", given]
    result = predict(folder, *arguments, stdin="" if where == "file" else text)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["url"] for answer in answers] == ["1.png", "4.png", "gone.png", "7.png"]
    assert [answer.get("text") for answer in answers] == ["1", "4", None, "7"]


def test_patterns_of_paths(folder, logdir):
    (folder / "in").mkdir()
    os.rename(folder / "7.png", folder / "in" / "7.png")
    os.rename(folder / "4.png", folder / "[4].png")
    arguments = ["**/[0-9].png", "--url=[4].png", "none*.png"]
    result = predict(folder, f"--logdir={logdir}", "--json", *arguments)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["url"] for answer in answers] == ["[4].png", "1.png", "in/7.png", "none*.png"]
    assert [answer.get("text") for answer in answers] == ["4", "1", "7", None]
    assert answers[3]["error"] == "there is no such file; check the path"


def test_bar_on_a_terminal_while_the_answers_go_elsewhere(folder, logdir):
    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, SCRIPT, f"--logdir={logdir}", "--json", "1.png", "gone.png", "4.png"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        assert process.stdout is not None
        output = process.stdout.read()
        shown = b""
        try:
            while piece := os.read(keyboard, 1 << 16):
                shown += piece
        except OSError:  # as Linux ends a terminal
            pass
    os.close(keyboard)
    assert len(output.splitlines()) == 3 and process.returncode == 1
    assert b"read: " in shown and b"/3" in shown
    assert b"\x1b[Kpredict.py: gone.png: there is no such file" in shown


def test_ctrl_c_does_not_wait_for_a_stalled_server(folder, logdir):
    asked, stop = threading.Event(), threading.Event()

    def stall(handler):
        asked.set()
        stop.wait(20)

    with serve(stall) as url:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, f"--logdir={logdir}", "--allow_private_urls", url, url],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asked.wait(20)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=20)[1]
        stop.set()
    assert time.monotonic() - start < 5
    assert (process.returncode, error) == (130, "predict.py: stopped by Ctrl-C\n")


def test_save_input_shows_what_the_network_saw(folder, logdir):
    result = predict(folder, f"--logdir={logdir}", "7.png", "--save_input=seen.png")
    assert result.returncode == 0
    (expected,) = find_digits(to_rgb(draw("7")), (28, 28, 1), "mnist")
    seen = np.asarray(Image.open(folder / "seen.png"))
    assert np.array_equal(seen, np.kron(expected.image[:, :, 0], np.ones((10, 10), np.uint8)))


def test_deslanted_digit_is_what_the_network_sees(folder, logdir):
    leaning = 255 - slant(255 - draw("7")[None], 30)[0]
    Image.fromarray(leaning).save(folder / "leaning.png")
    result = predict(
        folder, f"--logdir={logdir}", "leaning.png", "--deslant", "--save_input=seen.png"
    )
    assert result.returncode == 0, result.stderr
    (place,) = find_places(to_rgb(leaning), (28, 28, 1), "mnist", is_deslanted=True)
    seen = np.asarray(Image.open(folder / "seen.png"))
    (digit,) = place.digits
    assert np.array_equal(seen, np.kron(digit.image[:, :, 0], np.ones((10, 10), np.uint8)))
    (slanted,) = find_digits(to_rgb(leaning), (28, 28, 1), "mnist")
    assert not np.array_equal(digit.image, slanted.image) and digit.box == slanted.box


def test_deslanting_is_refused_where_no_digit_is_brought_to_a_form(folder):
    run = write_test_run(folder / "whole", image_preparation="resize")
    export_matcher(run, np.eye(10, 28 * 28).reshape(10, 28, 28, 1))
    result = predict(folder, f"--logdir={run.logdir}", "7.png", "--deslant")
    assert result.returncode == 1 and result.stdout == ""
    message = "--deslant: expected a run that reads digits in MNIST's form, found "
    assert result.stderr.startswith(f"predict.py: {message}{run.logdir}")


def test_pictures_of_several_are_numbered(folder, logdir):
    before = set(os.listdir(folder))
    options = ["--save_input=seen.png", "--annotate=marked.PNG"]
    predict(folder, f"--logdir={logdir}", "7.png", "gone.png", "letter.png", *options)
    new = {"seen-1.png", "seen-3.png", "marked-1.PNG", "marked-3.PNG"}
    assert set(os.listdir(folder)) - before == new
    marked = np.asarray(Image.open(folder / "marked-1.PNG"))
    assert marked.shape == (*(3 * side for side in draw("7").shape), 3)  # enlarged to be legible


def test_mistyped_output_is_no_loss(folder, logdir):
    before = (folder / "page.png").read_bytes()
    for flag, url in (
        ("annotate", "page.png"),
        ("annotate", f"./../{folder.name}/page.png"),
        ("annotate", f"FILE://{folder}/page.png"),
        ("save_input", f"file://localhost{folder}/p%61ge.png"),
    ):
        result = predict(folder, f"--logdir={logdir}", url, f"--{flag}=page.png")
        assert result.returncode == 1
        message = f"--{flag}: expected a name of its own, found that of the picture {url}, whi"
        assert result.stderr.startswith(f"predict.py: {message}")
    assert (folder / "page.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a picture to read, found none; name one with --url=URL"),
        (["-"], "expected a picture to read, found an empty list; name one with --url=URL"),
        (["-", "--urls_file=-"], "expected one list on stdin, found - more than once; give it"),
        (["--urls_file=no.txt"], "--urls_file: no.txt cannot be read: no such file or directory"),
        (["--urls_file=1.png"], "--urls_file: expected text with a URL on each line, found other"),
        (["1.png", "--json", "--csv"], "expected one of --json and --csv, found both; give one"),
        (["1.png", "--annotate=a.jpg"], "--annotate: expected a name that ends in .png, found"),
        (["1.png", "--annotate=no/a.png"], "--annotate: there is no folder no; create it first"),
        (["1.png", "--annotate=a.png", "--save_input=a.png"], "--annotate and --save_input name"),
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
    unneeded = {
        "tensorflow", "scipy", "matplotlib", "requests", "urllib3", "http.client", "ssl",
        "numpy.ma", "PIL.ImageDraw", "PIL.JpegImagePlugin", "fastapi", "concurrent.futures",
        "predict.fetch", "predict.annotate", "tqdm",
    }  # fmt: skip
    assert imported & unneeded == set()


def test_two_outputs_of_one_name_are_refused(folder, logdir):
    flags = ["--annotate=new.png", f"--save_input=../{folder.name}/new.png"]
    result = predict(folder, f"--logdir={logdir}", "1.png", *flags)
    assert result.returncode == 1 and not (folder / "new.png").exists()
    assert result.stderr.startswith("predict.py: --annotate and --save_input name the same file")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/proc/x.png", "/proc/x.png: no such file or directory; it may have been moved or remo"),
        ("taken.png", "taken.png: is a directory; a file is expected where a folder is; choose"),
    ],
)
def test_output_that_cannot_be_written_is_named(folder, logdir, name, message):
    (folder / "taken.png").mkdir(exist_ok=True)
    result = predict(folder, f"--logdir={logdir}", "1.png", f"--annotate={name}")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        line for line in [result.stderr.strip()] if message in line
    ]


def test_names_do_not_steer_the_terminal(folder, logdir):
    name = "with\x1b[31mred\n.png"
    os.link(folder / "1.png", folder / name)
    result = predict(folder, f"--logdir={logdir}", name, "gone\x1b[0m.png")
    (folder / name).unlink()
    assert result.stdout.startswith("with\\x1b[31mred\\n.png\n")
    assert result.stderr.startswith("predict.py: gone\\x1b[0m.png: there is no such file")


def test_names_of_files(tmp_path):
    path = tmp_path / "in.put.png"
    two = ["a.png", "b.png"]
    assert name_files("annotate", None, two) == [None, None]
    assert name_files("annotate", str(path), ["a.png"]) == [path]
    numbered = [tmp_path / "in.put-1.png", tmp_path / "in.put-2.png"]
    assert name_files("annotate", str(path), two) == numbered
    with pytest.raises(UserError, match=r"^--annotate: expected a name that ends in \.png, found"):
        name_files("annotate", "input", ["a.png"])
    with pytest.raises(
        UserError, match=r"found that of the picture \S+in\.put-2\.png, which would"
    ):
        name_files("annotate", str(path), ["a.png", str(numbered[1])])
