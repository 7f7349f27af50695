import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from model_definition.architecture import load_architecture
from model_definition.describe import format_description, format_table

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "model_definition/describe.py"
SIZE = ("--image_shape=13,7,3", "--num_classes=5")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("width = 4\nconv width 3x2 stride=2 # small\nflatten\noutput\n")
    return str(path)


def load(model: str, values: dict[str, str] | None = None):
    return load_architecture(model, image_shape=(13, 7, 3), num_classes=5, values=values or {})


def describe(*arguments: str, cwd: Path, seed: str = "0") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        check=False,
    )


def test_table_has_a_line_for_every_layer_and_the_totals(model):
    assert format_table(load(model)).split("\n") == [
        "layer     as written           output  receptive field  parameters  multiply-adds",
        "---------------------------------------------------------------------------------",
        "images                         13x7x3",
        "conv1     conv 4 3x2 stride=2   7x4x4              3x2          76          2,016",
        "flatten1  flatten                 112             13x7           0              0",
        "output    output                    5             13x7         565            560",
        "---------------------------------------------------------------------------------",
        "total                                                          641          2,576",
    ]


def test_table_says_what_a_residual_adds(tmp_path):
    path = tmp_path / "residuals.txt"
    path.write_text(
        "residual\nconv 3 3x3\nend\nresidual\nconv 4 3x3 stride=2\nend\nflatten\noutput"
    )
    lines = format_table(load(str(path))).split("\n")
    residuals = [line.split() for line in lines if line.startswith("residual")]
    assert residuals == [
        ["residual1", "residual", "(adds", "images)", "13x7x3", "3x3", "0", "0"],
        [
            *("residual2", "residual", "(adds", "residual1,", "projected)"),
            *("7x4x4", "5x5", "16", "336"),
        ],
    ]


def test_script_describes_lenet_from_any_folder(tmp_path):
    result = describe("lenet", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode().splitlines()[-1].split() == ["total", "3,274,634", "13,883,904"]


def test_script_prints_json(tmp_path, model):
    result = describe(model, "--json", *SIZE, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    description = json.loads(result.stdout)
    layers = description.pop("layers")
    assert description == {
        "filename": model,
        "image_shape": [13, 7, 3],
        "num_classes": 5,
        "values": {"width": "4"},
        "num_parameters": 641,
        "multiply_adds": 2576,
    }
    assert [layer["name"] for layer in layers] == ["conv1", "flatten1", "output"]
    assert layers[0] == {
        "name": "conv1",
        "kind": "conv",
        "text": "conv 4 3x2 stride=2",
        "line": 2,
        "options": {
            "filters": 4,
            "kernel_size": [3, 2],
            "stride": [2, 2],
            "padding": "same",
            "dilation": [1, 1],
            "activation": "relu",
            "bias": True,
            "initializer": "auto",
            "l2": 0.0,
        },
        "input_shape": [13, 7, 3],
        "output_shape": [7, 4, 4],
        "num_parameters": 76,
        "multiply_adds": 2016,
        "receptive_field": [3, 2],
        "shortcut": None,
    }
    assert describe(model, "--format=json", *SIZE, cwd=tmp_path).stdout == result.stdout
    assert describe(model, "--format=json", "--json", *SIZE, cwd=tmp_path).stdout == result.stdout


@pytest.mark.parametrize("name", ["lenet", "cnn9975", "resnet_mini"])
def test_yaml_is_the_same_document_as_json(name):
    architecture = load_architecture(name, image_shape=(28, 28, 1), num_classes=10)
    document = yaml.safe_load(format_description(architecture, "yaml"))
    assert document == json.loads(format_description(architecture, "json"))
    assert len(document["layers"]) == len(architecture.layers)


def test_script_prints_yaml_with_the_named_values_that_are_set(tmp_path, model):
    result = describe(model, "--format=yaml", "--model_set=width=9", *SIZE, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == format_description(load(model, {"width": "9"}), "yaml")
    assert yaml.safe_load(result.stdout)["layers"][0]["output_shape"] == [7, 4, 9]


def test_svg_is_the_same_in_every_process(tmp_path, model):
    results = [describe(model, "--format=svg", *SIZE, cwd=tmp_path, seed=s) for s in ("1", "2")]
    assert [(result.returncode, result.stderr) for result in results] == [(0, b"")] * 2
    assert results[0].stdout == results[1].stdout
    root = ElementTree.fromstring(results[0].stdout)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "mine: 641 parameters, 2,576 multiply-adds"


def test_png_goes_to_a_pipe_or_a_file_but_to_no_terminal(tmp_path, model):
    piped = describe(model, "--format=png", *SIZE, cwd=tmp_path)
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout.startswith(b"\x89PNG\r\n")
    written = describe(model, "--format=png", "--output=a.png", *SIZE, cwd=tmp_path)
    assert (written.returncode, written.stdout) == (0, b"")
    assert (tmp_path / "a.png").read_bytes() == piped.stdout
    ours, theirs = pty.openpty()
    command = [sys.executable, SCRIPT, model, "--format=png"]
    process = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 1
    message = "--format=png: a terminal cannot show a PNG; name a file with --output"
    assert process.stderr == f"describe.py: {message}\n"


def test_output_takes_the_place_of_what_was_there(tmp_path, model):
    (tmp_path / "table.txt").write_text("old")
    result = describe(model, "--output=table.txt", *SIZE, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, b"")
    assert result.stderr == b"wrote table.txt\n"
    assert (tmp_path / "table.txt").read_text() == format_table(load(model)) + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "table.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected 1 positional argument(s), found: none"),
        (("lenat",), "'lenat': found neither a network of the zoo nor a file of that name"),
        (("lenet", "--image_shape=28"), "--image_shape: expected HEIGHT,WIDTH,CHANNELS"),
        (("lenet", "--image_shape=3,9,1"), "lenet.txt, line 5: maxpool's 2x2 is larger"),
        (("lenet", "--num_classes=0"), "num_classes"),
        (("lenet", "--format=pdf"), "format"),
        (("lenet", "--json", "--format=yaml"), "--json contradicts --format=yaml; give one"),
        (("lenet", "--json", "--format=text"), "--json contradicts --format=text; give one"),
        (("lenet", "--model_set=width"), "--model_set=width: expected NAME=VALUE"),
        (("bn_cnn", "--model_set=width=1", "--model_set=width=2"), "width is set more than once"),
        (("lenet", "--model_set=width=2"), "there is no named value 'width' to set"),
        (("lenet", "--output=no/a.txt"), "--output=no/a.txt: there is no folder no; create it"),
        (("lenet", "--output=."), "--output=.: expected a file, found something else"),
        (("lenet", "--output="), "--output: expected a value, found an empty one"),
        (
            ("lenet", "--output=a.svg"),
            "--output=a.svg: expected a name for text, found one for svg",
        ),
        (("mine.txt", "--output=./mine.txt"), "--output=mine.txt: is the architecture itself"),
    ],
)
def test_mistakes_end_with_one_clear_line(tmp_path, model, arguments, message):
    before = Path(model).read_text()
    result = describe(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == b""
    assert message in result.stderr.decode()
    assert b"Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert Path(model).read_text() == before


def test_script_needs_no_heavy_package():
    program = (
        "import sys; import model_definition.describe; "
        "heavy = ('tensorflow', 'numpy', 'matplotlib', 'yaml'); "
        "sys.exit(any(name in sys.modules for name in heavy))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
