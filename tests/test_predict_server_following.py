"""A server whose run gets new versions: no request fails, and the answers change."""

from __future__ import annotations

import shutil
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
import requests

from model_definition.run_dir import load_run
from model_definition.versions import Version, choose_version, publish_version, staged_version
from predict.digits import find_digits
from tests.predict_fixtures import DIGITS, draw, export_matcher, to_rgb, write_test_run
from tests.server_fixtures import draw_png, serve


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models: one reads a digit as itself, the other as the one after it."""
    run = write_test_run(tmp_path_factory.mktemp("models") / "run")
    prepared = [find_digits(to_rgb(draw(text)), run.image_shape, "mnist")[0] for text in DIGITS]
    templates = np.stack([digit.image for digit in prepared])
    contents = []
    for shift in (0, 1):
        export_matcher(run, np.roll(templates, shift, axis=0))
        contents.append(run.export_path.read_bytes())
        shutil.rmtree(run.export_dir)
    return templates[3], contents


@pytest.fixture
def logdir(tmp_path, models):
    run = write_test_run(tmp_path / "digits")
    run.export_dir.mkdir()
    run.export_path.write_bytes(models[1][0])
    return run.logdir


def publish(logdir, number, content):
    with staged_version(logdir) as staging:
        (staging / "model.tflite").write_bytes(content)
        description = Version(number, number - 1, "", "", "", 1, 0, {}, ())
        publish_version(logdir, staging, description)


def wait_for_version(server, number):
    url = f"{server.url}/v1/models/digits"
    for _ in range(300):
        [status] = requests.get(url).json()["model_version_status"]
        assert status["state"] == "AVAILABLE"
        if status["version"] == str(number):
            return
        time.sleep(0.1)
    raise AssertionError(f"version {number} was never served, still {status}")


def wait_for_answers(loads, digit):
    for _ in range(600):
        if all(load.answers and load.answers[-1][1] == digit for load in loads):
            return
        time.sleep(0.1)
    raise AssertionError([load.answers[-3:] for load in loads])


class Load(threading.Thread):
    """Asks without a pause, and notes each answer's status and digit."""

    def __init__(self, url, **request):
        super().__init__(daemon=True)
        self.answers = []
        self._url, self._request = url, request
        self._stop_asking = threading.Event()

    def run(self):
        with requests.Session() as session:
            while not self._stop_asking.is_set():
                answer = session.post(self._url, **self._request)
                self.answers.append((answer.status_code, self._read(answer.json())))

    def finish(self):
        self._stop_asking.set()
        self.join()

    @staticmethod
    def _read(answer):
        if "predictions" in answer:
            return int(np.argmax(answer["predictions"][0]))
        return int(answer["text"])


def test_new_version_is_served_without_a_failed_request(logdir, models):
    image, (_, next_model) = models
    body = {"instances": [image[:, :, 0].tolist()]}
    with serve(logdir) as server:
        predict = f"{server.url}/v1/models/digits:predict"
        png = {"data": draw_png("3"), "headers": {"Content-Type": "image/png"}}
        loads = [
            Load(predict, json=body),
            Load(predict, json=body),
            Load(f"{server.url}/v1/read", **png),
        ]
        for load in loads:
            load.start()
        wait_for_answers(loads, 3)
        publish(logdir, 2, next_model)
        wait_for_version(server, 2)
        wait_for_answers(loads, 4)
        metadata = requests.get(f"{server.url}/v1/models/digits/metadata").json()
        pinned = {n: f"{server.url}/v1/models/digits/versions/{n}" for n in (1, 2)}
        old, new = (requests.post(f"{url}:predict", json=body) for url in pinned.values())
        statuses = [requests.get(url).status_code for url in pinned.values()]
        choose_version(logdir, 1)
        wait_for_version(server, 1)
        wait_for_answers(loads, 3)
        for load in loads:
            load.finish()
    assert metadata["model_spec"]["version"] == "2"
    assert (old.status_code, old.json()) == (
        404,
        {"error": "Servable not found for request: Specific(digits, 1)"},
    )
    assert (new.status_code, int(np.argmax(new.json()["predictions"]))) == (200, 4)
    assert statuses == [404, 200]
    for load in loads:
        assert {status for status, _ in load.answers} == {200}
        digits = [digit for _, digit in load.answers]
        changes = [b for a, b in pairwise(digits) if a != b]
        assert (digits[0], changes) == (3, [4, 3])


def test_an_average_follows_its_members(tmp_path, logdir, models):
    image, (_, next_model) = models
    other = shutil.copytree(logdir, tmp_path / "other")
    body = {"instances": [image[:, :, 0].tolist()]}
    with serve(f"{logdir},{other}") as server:
        model = f"{server.url}/v1/models/digits+other"

        def wait_for(version):
            for _ in range(300):
                [status] = requests.get(model).json()["model_version_status"]
                if status["version"] == version:
                    return requests.post(f"{model}:predict", json=body).json()["predictions"][0]
                time.sleep(0.1)
            raise AssertionError(f"version {version} was never served, still {status}")

        before = wait_for("1")
        publish(other, 2, next_model)
        mixed = wait_for("2")
        read = requests.post(
            f"{server.url}/v1/read", data=draw_png("3"), headers={"Content-Type": "image/png"}
        ).json()
        publish(logdir, 2, next_model)
        both = wait_for("3")
        choose_version(logdir, 1)
        back = wait_for("4")
    assert (np.argmax(before), np.argmax(both)) == (3, 4)
    # Half the members read a three, half a four.
    assert mixed[3] == pytest.approx((before[3] + both[3]) / 2, abs=1e-6)
    assert mixed[4] == pytest.approx((before[4] + both[4]) / 2, abs=1e-6)
    np.testing.assert_allclose(read["digits"][0]["probabilities"], mixed, atol=1e-6)
    assert back == pytest.approx(mixed, abs=1e-6)


def test_damaged_version_leaves_the_old_one_serving(logdir, models):
    image, (_, next_model) = models
    body = {"instances": [image[:, :, 0].tolist()]}
    with serve(logdir) as server:
        publish(logdir, 2, b"no model")
        time.sleep(2.5)
        wait_for_version(server, 1)
        answer = requests.post(f"{server.url}/v1/models/digits:predict", json=body)
        assert int(np.argmax(answer.json()["predictions"])) == 3
        (logdir / "export/current").write_text("?")
        time.sleep(1.5)
        wait_for_version(server, 1)
        (logdir / "export/current").write_text("2\n")
        (logdir / "export/2/model.tflite").write_bytes(next_model)  # mended
        wait_for_version(server, 2)
        server.process.terminate()
        said = server.process.communicate()[1]
    assert said.count("still serving version 1 of digits: ") == 2
    assert "2/model.tflite: expected a LiteRT model" in said
    assert "current: expected the number of a version" in said
    assert "serving version 2 of digits, no longer 1\n" in said
    assert "Traceback" not in said


def test_server_starts_with_the_version_in_use(logdir, models):
    publish(logdir, 2, models[1][1])
    assert load_run(logdir).version == 2
    with serve(logdir) as server:
        wait_for_version(server, 2)
        [model] = requests.get(f"{server.url}/v1/models").json()["models"]
        assert (model["name"], model["version"]) == ("digits", 2)
