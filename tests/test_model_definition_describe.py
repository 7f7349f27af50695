import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_definition.architecture import load_architecture
from model_definition.describe import format_table

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("conv 4 3x2 stride=2 # small\nflatten\noutput\n")
    return str(path)


def describe(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "model_definition/describe.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_table_has_a_line_for_every_layer_and_the_totals(model):
    architecture = load_architecture(model, image_shape=(13, 7, 3), num_classes=5)
    assert format_table(architecture).split("\n") == [
        "layer     as written           output  parameters  multiply-adds",
        "----------------------------------------------------------------",
        "images                         13x7x3",
        "conv1     conv 4 3x2 stride=2   7x4x4          76          2,016",
        "flatten1  flatten                 112           0              0",
        "output    output                    5         565            560",
        "----------------------------------------------------------------",
        "total                                         641          2,576",
    ]


def test_script_describes_lenet_from_any_folder(tmp_path):
    result = describe("lenet", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].split() == ["total", "3,274,634", "13,883,904"]


def test_script_prints_json(tmp_path, model):
    result = describe(model, "--json", "--image_shape=13,7,3", "--num_classes=5", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    description = json.loads(result.stdout)
    layers = description.pop("layers")
    assert description == {
        "filename": model,
        "image_shape": [13, 7, 3],
        "num_classes": 5,
        "num_parameters": 641,
        "multiply_adds": 2576,
    }
    assert [layer["name"] for layer in layers] == ["conv1", "flatten1", "output"]
    assert layers[0] == {
        "name": "conv1",
        "kind": "conv",
        "text": "conv 4 3x2 stride=2",
        "line": 1,
        "options": {
            "filters": 4,
            "kernel_size": [3, 2],
            "stride": [2, 2],
            "padding": "same",
            "activation": "relu",
            "l2": 0.0,
        },
        "input_shape": [13, 7, 3],
        "output_shape": [7, 4, 4],
        "num_parameters": 76,
        "multiply_adds": 2016,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected 1 positional argument(s), found: none"),
        (("lenat",), "'lenat': found neither a network of the zoo nor a file of that name"),
        (("lenet", "--image_shape=28"), "--image_shape: expected HEIGHT,WIDTH,CHANNELS"),
        (("lenet", "--image_shape=3,9,1"), "lenet.txt, line 5: maxpool's 2x2 is larger"),
        (("lenet", "--num_classes=0"), "num_classes"),
    ],
)
def test_mistakes_end_with_one_clear_line(tmp_path, arguments, message):
    result = describe(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_script_needs_no_heavy_package():
    program = (
        "import sys; import model_definition.describe; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'numpy')))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
