"""The demo with the real converter, and stand-ins for the scripts that take long."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS = ["convert", "train", "evaluate", "predict", "see"]

TRAIN = """
import os, signal, sys, time
def stop(signum, frame):
    print("saved"); sys.exit(42)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
if os.path.exists("train-waits"):
    open("train-runs", "w").close()
    time.sleep(300)
sys.exit(int(os.environ.get("TRAIN_EXITS", "0")))
"""

# Answers each URL with the mean brightness of its image.
PREDICT = """
import io, json, sys, urllib.request
def read(url):
    import numpy as np
    from PIL import Image
    open_ = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    return str(round(np.asarray(Image.open(io.BytesIO(open_(url).read()))).mean()))
urls = [word.removeprefix("--url=") for word in sys.argv if "http://" in word]
assert "--allow_private_urls" in sys.argv
if "--json" in sys.argv:
    digits = [{"probabilities": [0.25, 0.75]}]
    for url in urls:
        print(json.dumps({"url": url, "text": read(url), "digits": digits}))
else:
    print("a table for", *urls)
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the project in which nothing trains."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "data_prep", folder / "data_prep")
    (folder / "predict").mkdir()
    shutil.copy(ROOT / "predict/demo.py", folder / "predict")
    for name, text in (
        ("train/train_lenet.py", TRAIN),
        ("eval/evaluate.py", "print('accuracy 0.5')"),
        ("predict/predict.py", PREDICT),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def mnist_files(tmp_path):
    """MNIST's four files, small; image i is of class i % 7, and all its pixels are i % 7 + 10."""
    folder = tmp_path / "files"
    folder.mkdir()
    for part, count in (("train", 24), ("t10k", 12)):
        labels = np.arange(count, dtype=np.uint8) % 7
        images = np.broadcast_to(labels[:, None, None] + np.uint8(10), (count, 28, 28))
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">II", 0x801, count)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


@contextlib.contextmanager
def start_demo(project: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    # A closed port as the proxy: whatever network there is, no mirror answers.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    with subprocess.Popen(
        [sys.executable, str(project / "predict/demo.py"), *arguments],
        cwd=project,
        env={**os.environ, **nowhere, "no_proxy": "", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal's Ctrl-C reaches
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # which is how it should be
                os.killpg(process.pid, signal.SIGKILL)


def run_demo(project: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    with start_demo(project, *arguments, **variables) as process:
        output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors


def find_steps(output: str) -> list[str]:
    return [line.split()[4] for line in output.splitlines() if line.startswith("Step ")]


def find_commands(output: str) -> list[str]:
    """The commands that were shown, without the path of Python."""
    lines = [shlex.split(line) for line in output.splitlines() if line.startswith("$ ")]
    return [" ".join(words[2:]) for words in lines]


def test_demo_runs_five_steps_on_mnist_and_again_with_what_is_there(project, mnist_files):
    options = [f"--from_dir={mnist_files}", "--max_steps=20"]
    code, output, errors = run_demo(project, *options)
    assert code == 0, errors
    assert find_steps(output) == STEPS
    commands = find_commands(output)
    assert commands[:3] == [
        f"data_prep/convert.py --dataset=mnist --from_dir={mnist_files}",
        "train/train_lenet.py --data_dir=data/mnist --logdir=runs/demo-mnist --max_steps=20",
        "eval/evaluate.py --logdir=runs/demo-mnist --split=test",
    ]
    assert commands[-2:] == [
        "-m tensorboard.main --logdir=runs",
        "predict/predict.py --logdir=runs/demo-mnist --url=IMAGE",
    ]
    # In order, though the scripts write to the same pipe: what a step prints comes after its name.
    assert output.index("accuracy 0.5") > output.index("Step 3 of 5: evaluate it on the test split")
    assert output.index("a table for http://127.0.0.1:") > output.index("Step 4 of 5")
    table = [line.split()[1:] for line in output.splitlines() if line.startswith("http://")]
    assert table == [[str(label), str(label + 10), "75.00%"] for label in range(5)]
    assert "synthetic" not in output

    code, output, errors = run_demo(project)  # again: without a network, and without the files
    assert code == 0, errors
    assert "mnist in data/mnist: already there, verified and kept" in output
    assert find_steps(output) == STEPS


def test_demo_without_a_mirror_goes_on_with_synthetic_digits(project):
    code, output, errors = run_demo(project, "--limit=30")
    assert code == 0, errors
    assert "no mirror gave train-images-idx3-ubyte.gz" in errors
    assert "No mirror of MNIST answers, so the demo goes on with synthetic digits" in output
    assert "make demo FROM_DIR=/path/to/the/folder" in output
    steps = [line for line in output.splitlines() if line.startswith("Step ")]
    assert find_steps(output) == ["convert", *STEPS]
    assert all("synthetic digits (not MNIST)" in step for step in steps[1:5])
    commands = find_commands(output)
    assert commands[1] == "data_prep/convert.py --dataset=synthetic --limit=30"
    assert commands[2].endswith("--data_dir=data/synthetic --logdir=runs/demo-synthetic")
    assert not (project / "data/mnist").exists()


def test_other_trouble_with_mnist_stops_the_demo(project):
    code, output, errors = run_demo(project, "--from_dir=nowhere")
    assert code == 1
    assert "--from_dir=nowhere: no such folder" in errors
    assert errors.endswith(
        "demo.py: stopped, because data_prep/convert.py ended with exit code 1\n"
    )
    assert find_steps(output) == ["convert"]


def test_failed_step_stops_the_demo_with_its_exit_code(project, mnist_files):
    code, output, errors = run_demo(project, f"--from_dir={mnist_files}", TRAIN_EXITS="3")
    assert code == 3
    assert errors.endswith(
        "demo.py: stopped, because train/train_lenet.py ended with exit code 3\n"
    )
    assert find_steps(output) == ["convert", "train"]


@pytest.mark.parametrize(
    ("target", "signum", "code", "last_line"),
    [
        # A terminal sends Ctrl-C to every process there: once to each.
        (
            "group",
            signal.SIGINT,
            42,
            "stopped, because train/train_lenet.py ended with exit code 42",
        ),
        ("demo", signal.SIGTERM, 143, "stopped by SIGTERM"),
    ],
)
def test_stopped_demo_lets_training_save(project, mnist_files, target, signum, code, last_line):
    (project / "train-waits").touch()
    with start_demo(project, f"--from_dir={mnist_files}") as process:
        deadline = time.monotonic() + 60
        while not (project / "train-runs").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        if target == "group":
            os.killpg(process.pid, signum)
        else:
            process.send_signal(signum)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert output.endswith("saved\n")
    assert errors.endswith(f"demo.py: {last_line}\n")
