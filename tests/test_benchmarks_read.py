"""The benchmarks of reading and converting in miniature, with the peers that are in .venv."""

import json

import pytest

from benchmarks import read_ways
from benchmarks.comparing import format_line, run_apart
from data_prep.command_line import UserError


@pytest.fixture
def data_dir(tmp_path, make_dataset):
    make_dataset(tmp_path / "data", image_shape=(6, 5, 1), num_train=600)
    return tmp_path / "data"


@pytest.mark.parametrize("way", [way for way, (_, module) in read_ways.WAYS.items() if not module])
def test_every_way_in_the_environment_gives_speeds(data_dir, tmp_path, way):
    speeds = read_ways.read(way, data_dir, tmp_path, 1)
    assert speeds.keys() == {"first", "later"} and min(speeds.values()) > 0


def test_missing_peer_is_named_and_the_rest_measured(data_dir, tmp_path, run_script):
    result = run_script(
        "benchmarks/read.py",
        f"--data_dir={data_dir}",
        "--ways=ours,TFDS guide,webdataset",
        "--repeats=1",
        f"--results={tmp_path / 'read.json'}",
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("TFDS guide: left out, as ")
    assert lines[1].startswith("webdataset: left out, as webdataset is not installed")
    assert [line.split(": ")[1].split()[0] for line in lines[2:]] == ["ours", "ours"]
    facts = json.loads((tmp_path / "read.json").read_text())
    assert facts["figures"].keys() == {"first", "later"}
    assert "numpy" in facts["versions"] and facts["machine"]


def test_conversion_is_measured(tmp_path, mnist_dir, run_script):
    result = run_script(
        "benchmarks/convert.py",
        f"--from_dir={mnist_dir}",
        "--repeats=1",
        "--synthetic_images=50",
        f"--results={tmp_path / 'convert.json'}",
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "convert.json").read_text())["figures"]
    assert {"ours", "ours, 50 drawn"} <= figures["seconds"].keys()
    assert all(10 < peak < 2000 for peaks in figures["peak_megabytes"].values() for peak in peaks)


def test_failing_process_is_told():
    with pytest.raises(UserError, match=r"^-c raise SystemExit.* failed: no$"):
        run_apart(["-c", "raise SystemExit('no')"])


def test_line_has_median_spread_and_ratio():
    assert format_line("way", [3.0, 1.0, 2.0], "s").split() == [
        "way", "2.00", "s", "(1.00", "to", "3.00)",
    ]  # fmt: skip
    assert format_line("way", [1000.0], "images/s", 0.5).split()[-3:] == ["ours:", "0.50", "x"]
