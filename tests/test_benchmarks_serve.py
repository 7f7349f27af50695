"""benchmarks/serve.py measures a real server, and notices errors."""

from __future__ import annotations

import json

import pytest

from tests.server_fixtures import write_runs


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("benchmark") / "runs") / "digits"


def test_figures_as_json_and_as_a_table(logdir, run_script):
    options = (f"--logdir={logdir}", "--clients=1", "--clients=3", "--seconds=0.3")
    done = run_script("benchmarks/serve.py", *options, "--json")
    assert done.returncode == 0, done.stderr
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["clients"] for one in figures] == [1, 3]
    for one in figures:
        assert one["errors"] == 0
        assert 1 < one["requests_per_second"] < 100_000
        assert 0 < one["p50_ms"] <= one["p99_ms"] < 300


def test_server_that_does_not_start(tmp_path, run_script):
    done = run_script("benchmarks/serve.py", f"--logdir={tmp_path}")
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last == f"serve.py: {tmp_path}: the server did not start, and said why above"
