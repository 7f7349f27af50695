from __future__ import annotations

import json
import time

import pytest

from benchmarks import start
from data_prep.command_line import UserError
from tests.conftest import PROJECT
from tests.train_fixtures import write_dataset, write_model

FIGURES = {
    "import tensorflow": 4.0, "its import by our scripts": 2.0, "first step, Keras": 5.0,
    "first step, train_lenet.py": 4.0, "evaluate.py": 7.0,
}  # fmt: skip


def test_scripts_are_found_by_what_they_call(tmp_path):
    call = 'if __name__ == "__main__":\n    command_line.run(main, define_flags)\n'
    for path, text in {
        "train/train.py": call,
        "train/search/tune.py": call,
        "train/loop.py": "def run(main):\n    pass\n",
        "tests/test_train.py": call,
        ".venv/lib/train.py": call,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    assert start.find_scripts(tmp_path) == ["train/search/tune.py", "train/train.py"]
    ours = start.find_scripts(PROJECT)
    assert {"benchmarks/start.py", "train/train_lenet.py", "predict/predict.py"} <= set(ours)


def test_processes_are_timed_from_outside():
    before = time.perf_counter()
    seconds, cpu_seconds = start.time_process(["-c", "import time; time.sleep(0.3)"])
    assert 0.3 <= seconds <= time.perf_counter() - before
    assert 0 < cpu_seconds < seconds
    with pytest.raises(UserError, match="-c failed: no"):
        start.time_process(["-c", "import sys; sys.exit('no')"])


def test_the_first_run_is_not_counted(monkeypatch):
    times = iter([(9.0, 9.0), (1.0, 0.5), (3.0, 0.7), (2.0, 0.9)])
    monkeypatch.setattr(start, "time_process", lambda command: next(times))
    figures = start.measure_in_turn({"a": ["-c", ""]}, 3)
    assert figures == {"a": {"seconds": [2.0, 1.0, 3.0], "cpu_seconds": [0.7, 0.5, 0.9]}}
    assert start.format_figure("a", figures["a"]).split() == [
        "a", "2.00", "s", "(1.00", "to", "3.00)", "0.70", "CPU-seconds",
    ]  # fmt: skip


def test_the_real_first_step_is_timed(tmp_path):
    write_dataset(tmp_path / "data")
    model = write_model(tmp_path)
    flags = [f"--data_dir={tmp_path / 'data'}", "--logdir=FRESH", "--batch_size=8"]
    endless = [f"--model={model}", "--max_steps=100000", "--validate_every_steps=100000"]
    seconds, _ = start.time_process(["-c", start._OUR_STEP, *flags, *endless])
    assert seconds > 0.1
    with pytest.raises(UserError, match="nowhere"):  # The script's own message is passed on.
        start.time_process(["-c", start._OUR_STEP, "--data_dir=nowhere", "--logdir=FRESH"])


def test_ratios_are_of_processor_time():
    figures = {name: {"cpu_seconds": [cpu, 0, 0]} for name, cpu in FIGURES.items()}
    lines = start.format_ratios(figures, {"cpu_seconds": 3.5}, 10_000).splitlines()
    assert [line.split()[-1] for line in lines[:2]] == ["0.50", "0.80"]
    assert "10,000 images, beyond the import: 5.00 CPU-seconds, of which 3.50" in lines[2]


def test_kept_results_are_whole():
    results = json.loads((PROJECT / "benchmarks/results/start.json").read_text(encoding="utf-8"))
    assert set(FIGURES) <= set(results["figures"])
    assert len(results["commit"]) == 40
    assert results["evaluation"]["images"] == 10_000
    for figure in results["figures"].values():
        middle, low, high = figure["seconds"]
        assert 0 < low <= middle <= high
