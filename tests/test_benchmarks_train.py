"""The benchmark of training, in miniature."""

import json
import re
import sys

import numpy as np
import pytest

from benchmarks import train
from tests.train_fixtures import start_script, write_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns what the benchmark printed of three contestants, and the results it kept."""
    folder = tmp_path_factory.mktemp("benchmark")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (140, 28, 28, 1), dtype=np.uint8)
    write_dataset(
        folder / "data",
        examples={"train": (images, random.integers(0, 10, 140))},
        class_names=[str(digit) for digit in range(10)],
    )
    # A Python with nothing installed stands for one without the peers.
    bare_python = folder / "python"
    bare_python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{_WITHOUT_TORCH}" "$@"\n')
    bare_python.chmod(0o755)
    process = start_script(
        "benchmarks/train.py",
        *(f"--data_dir={folder / 'data'}", f"--results={folder / 'train.json'}"),
        *("--repeats=1", "--steps=20", f"--peers_python={bare_python}"),
        *("--only=ours", "--only=ours, bare", "--only=PyTorch"),
    )
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    return stdout, json.loads((folder / "train.json").read_text(encoding="utf-8"))


_WITHOUT_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def test_measures_the_script_and_the_bare_graph(finished):
    stdout, results = finished
    (script,), (bare,) = results["contestants"]["ours"], results["contestants"]["ours, bare"]
    assert script["images_per_second"] > 0
    assert 0 <= script["input_wait_share"] < 1
    assert bare["images_per_second"] > 0
    assert bare["cpu_ms"] > 0
    assert bare["gflops"] > 0
    assert f"matrix product in float32: {bare['gflops']:.0f} GFLOP/s" in stdout
    assert "ours: input pipeline, hooks and summaries are " in stdout


def test_says_on_what_and_with_what(finished):
    _, results = finished
    assert results["contestants"]["ours, bare"][0]["versions"].keys() == {"tensorflow", "numpy"}
    assert re.match(r"\d+ x \S", results["machine"])
    assert results["batch_size"] == 128
    assert results["steps"] == 20
    assert len(results["commit"]) in (0, 40)  # A checkout without git has none.


def test_a_peer_that_is_not_installed_is_named(finished):
    stdout, results = finished
    assert results["missing"] == {"PyTorch": "torch is not installed"}
    assert "PyTorch: torch is not installed\n" in stdout
    assert "PyTorch" not in results["contestants"]


def test_unknown_contestant_is_refused():
    process = start_script("benchmarks/train.py", "--only=Theano")
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert "expected some of: ours, ours, bare, ours, bfloat16," in stderr
    assert "Traceback" not in stderr


def test_table_compares_with_the_fastest_peer():
    def entry(speed, gflops=100.0):
        return {"images_per_second": speed, "gflops": gflops, "cpu_ms": 64.0}

    contestants = {
        "ours": [{"images_per_second": speed} for speed in (1500.0, 900.0, 1600.0)],
        "ours, bare": [entry(1600.0)],
        "PyTorch": [entry(500.0)],
        "Keras, torch": [entry(750.0, gflops=160.0)],
        "PyTorch, augmented": [entry(2000.0)],
    }
    table = train.format_table({"contestants": contestants, "missing": {}})
    assert table.startswith("matrix product in float32: 160 GFLOP/s at best\n")
    assert "1,500 images/s  (900 to 1,600)" in table
    assert "ours: 2.00 times Keras, torch" in table
    assert "ours: input pipeline, hooks and summaries are 6.2% of a step" in table
    assert "ours, augmented" not in table
    # 1,500 images of 82 MFLOP each are 123 of 160 GFLOP.
    assert " 77% of the product" in table


def test_precisions_are_compared_apart():
    def entry(speed, gflops):
        return [{"images_per_second": speed, "gflops": gflops, "cpu_ms": 64.0}]

    contestants = {
        "ours": entry(1500.0, 160.0),
        "ours, bfloat16": entry(3000.0, 600.0),
        "PyTorch": entry(1000.0, 150.0),
        "PyTorch, channels_last, bfloat16": entry(2000.0, 500.0),
    }
    lines = train.format_table({"contestants": contestants, "missing": {}}).splitlines()
    assert lines[:2] == [
        "matrix product in float32: 160 GFLOP/s at best",
        "matrix product in bfloat16: 600 GFLOP/s at best",
    ]
    assert "41% of the product" in lines[3]  # 246 of 600 GFLOP/s
    assert lines[-2:] == [
        "ours: 1.50 times PyTorch",
        "ours, bfloat16: 1.50 times PyTorch, channels_last, bfloat16",
    ]


def test_counts_lenets_arithmetic():
    from model_definition.architecture import load_architecture

    architecture = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    assert architecture.num_parameters == 3_274_634
    conv1 = 25 * 32 * 28 * 28
    assert train._IMAGE_MULTIPLY_ADDS == 3 * architecture.multiply_adds - conv1
