"""serve.py as a command: what it says, how it starts and stops."""

from __future__ import annotations

import signal
import socket

import pytest
import requests

from tests.predict_fixtures import write_test_run
from tests.server_fixtures import serve, write_runs


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("serve") / "runs")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_well(runs_dir, number):
    with serve(runs_dir / "digits") as server:
        assert requests.get(f"{server.url}/v1/models").json()["models"][0]["name"] == "digits"
        server.process.send_signal(number)
        said = server.process.communicate(timeout=20)[1]
        assert server.process.returncode == 0
    assert said == "serving digits; Ctrl-C stops\n"


def test_folder_of_runs_is_served_without_the_unfinished(runs_dir):
    with serve(runs_dir, "--allow_host=digits.example") as server:
        answer = requests.get(f"{server.url}/v1/models", headers={"Host": "digits.example:8501"})
        assert [model["name"] for model in answer.json()["models"]] == ["digits", "letters"]
        server.process.terminate()
        said = server.process.communicate()[1]
    assert "serve.py: left out: " in said and "unfinished/export/model.tflite" in said


def test_port_in_use(runs_dir, run_script):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_script("predict/serve.py", f"--logdir={runs_dir}", f"--port={port}")
    assert done.returncode == 1
    assert done.stderr == (
        f"serve.py: port {port} of 127.0.0.1 is in use; stop what uses it, or choose another "
        "--port\n"
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no.such.name.invalid", "not a known name or address; try 127.0.0.1"),
        ("192.0.2.1", "no address of this machine; try 127.0.0.1"),
    ],
)
def test_host_that_is_none(runs_dir, run_script, host, message):
    done = run_script("predict/serve.py", f"--logdir={runs_dir}", "--port=0", f"--host={host}")
    assert (done.returncode, done.stderr) == (1, f"serve.py: --host={host}: {message}\n")


def test_no_run(tmp_path, run_script):
    done = run_script("predict/serve.py", f"--logdir={tmp_path}", "--port=0")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"serve.py: {tmp_path}: expected a run folder, or a folder of finished runs, found neither"
    )
    assert done.stderr.count("\n") == 1
    done = run_script("predict/serve.py", f"--logdir={tmp_path / 'none'}", "--port=0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"serve.py: {tmp_path / 'none'}: no such run folder; ")


def test_run_without_a_model(tmp_path, run_script):
    write_test_run(tmp_path / "run")
    done = run_script("predict/serve.py", f"--logdir={tmp_path / 'run'}", "--port=0")
    assert done.returncode == 1
    assert "export/model.tflite: no such file" in done.stderr
    assert done.stderr.count("\n") == 1
