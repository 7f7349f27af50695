"""serve.py as a command: what it says, how it starts and stops."""

from __future__ import annotations

import shutil
import signal
import socket

import numpy as np
import pytest
import requests

from model_definition.ensemble import load_ensemble, write_ensemble
from predict.averaged import load_averaged
from predict.digits import find_digits
from tests.predict_fixtures import draw, to_rgb, write_test_run
from tests.server_fixtures import draw_png, encode, serve, to_b64, write_runs


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


def test_runs_are_averaged_as_one_model(runs_dir, tmp_path):
    """A list is one model; in a folder, an ensemble is one among others."""
    shutil.copytree(runs_dir / "digits", tmp_path / "ens/member-0")
    shutil.copytree(runs_dir / "digits", tmp_path / "ens/member-1")
    write_ensemble(tmp_path / "ens", {"member-0": "1/4", "member-1": "2/4"})
    shutil.copytree(runs_dir / "letters", tmp_path / "letters")
    files = {"instances": [to_b64(draw_png("7"))], "signature_name": "image_bytes"}

    def ask(server, name):
        return requests.post(f"{server.url}/v1/models/{name}:predict", json=files).json()

    with serve(tmp_path, "--test_time_shifts=1") as server:
        models = requests.get(f"{server.url}/v1/models").json()["models"]
        assert [model["name"] for model in models] == ["ens", "letters"]
        averaged = ask(server, "ens")["predictions"][0]
    named = f"{tmp_path}/ens/member-0,{tmp_path}/ens/member-1"
    feedback = {"image": to_b64(encode(np.zeros((28, 28), np.uint8))), "label": "3"}
    with serve(named) as server:
        models = requests.get(f"{server.url}/v1/models").json()["models"]
        assert [model["name"] for model in models] == ["member-0+member-1"]
        plain = ask(server, "member-0+member-1")["predictions"][0]
        assert requests.post(f"{server.url}/v1/feedback", json=feedback).status_code == 200
    assert (tmp_path / "ens/feedback/member-0+member-1/feedback.tfrecord").is_file()
    digits = find_digits(to_rgb(draw("7")), (28, 28, 1), "mnist")
    classifier = load_averaged(load_ensemble(str(tmp_path / "ens")), 1)
    np.testing.assert_allclose(averaged, classifier.predict(digits[0].image[None])[0], atol=1e-5)
    assert np.argmax(plain) == np.argmax(averaged) == 7
    assert np.abs(np.subtract(plain, averaged)).max() > 1e-3


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
