"""Corrections: what is kept, under whichever circumstances, and that it can be trained on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.schema import decode_example, load_manifest
from model_definition.run_dir import load_run
from predict.server.errors import ApiError
from predict.server.feedback import FeedbackFile
from tests.predict_fixtures import write_test_run
from tests.server_fixtures import ROOT, draw_png, encode, serve, serve_limited, to_b64, write_runs

SHAPE = (13, 9, 3)
CLASSES = ("ant", "bee", "cow", "dog", "elk")
# Appends for ever, saying each number once its record is kept.
APPENDER = """
import sys
sys.path[0] = {root!r}
from pathlib import Path
import numpy as np
from model_definition.run_dir import load_run
from predict.server.feedback import FeedbackFile
run = load_run(Path({logdir!r}))
file = FeedbackFile(Path({folder!r}), run, 10**9)
number = {first}
while True:
    image = np.full(run.image_shape, number % 251, np.uint8)
    image[0, 0] = number // 65536, number // 256 % 256, number % 256
    file.append(image, number % 5, np.full(5, 0.2, np.float32))
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def run(tmp_path):
    return write_test_run(tmp_path / "run", class_names=CLASSES, image_shape=SHAPE)


def make_image(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, SHAPE, dtype=np.uint8)


PROBABILITIES = np.array([0.1, 0.2, 0.3, 0.15, 0.25], np.float32)


def read_records(folder: Path) -> list[tfrecord.Record]:
    return list(tfrecord.scan_records(folder / "feedback.tfrecord"))


def test_record_has_the_schemas_keys_and_the_answer(run, tmp_path):
    file = FeedbackFile(tmp_path / "feedback/run", run, 10_000)
    for n in range(3):
        file.append(make_image(n), n, PROBABILITIES)
    records = read_records(tmp_path / "feedback/run")
    assert [record.damage for record in records] == [None] * 3
    example = decode_example(records[2].data)
    assert (example.label, example.image_shape, example.image_format) == (2, SHAPE, "raw")
    assert example.encoded == make_image(2).tobytes()
    facts = json.loads((tmp_path / "feedback/run/feedback.json").read_text())
    assert facts == {
        "image_shape": list(SHAPE),
        "image_preparation": "mnist",
        "class_names": list(CLASSES),
    }


def test_tensorflow_reads_the_records(run, tmp_path):
    import tensorflow as tf

    FeedbackFile(tmp_path, run, 10_000).append(make_image(0), 4, PROBABILITIES)
    path = str(tmp_path / "feedback.tfrecord")
    (record,) = tf.data.TFRecordDataset(path).as_numpy_iterator()
    features = tf.train.Example.FromString(record).features.feature
    assert features["image/class/label"].int64_list.value == [4]
    assert features["prediction/label"].int64_list.value == [2]
    assert features["prediction/model"].bytes_list.value == [b"run"]
    found = features["prediction/probabilities"].float_list.value
    np.testing.assert_array_equal(np.array(found, np.float32), PROBABILITIES)


def test_size_is_capped(run, tmp_path):
    file = FeedbackFile(tmp_path, run, 1_500)
    with pytest.raises(ApiError, match=r"^the corrections fill their 1,500 bytes; --feedback_mb"):
        for n in range(10):
            file.append(make_image(n), 0, PROBABILITIES)
    assert 1 <= len(read_records(tmp_path)) < 10
    assert (tmp_path / "feedback.tfrecord").stat().st_size <= 1_500


def test_what_a_killed_append_left_is_cut_off_at_any_length(run, tmp_path):
    path = tmp_path / "feedback.tfrecord"
    FeedbackFile(tmp_path, run, 10_000).append(make_image(0), 0, PROBABILITIES)
    whole = path.read_bytes()
    for length in (1, 7, 11, 12, 13, 200, len(whole) - 1):
        path.write_bytes(whole + whole[:length])
        FeedbackFile(tmp_path, run, 10_000).append(make_image(1), 1, PROBABILITIES)
        records = read_records(tmp_path)
        assert [record.damage for record in records] == [None, None]
        assert decode_example(records[1].data).label == 1


def test_damage_is_not_written_over(run, tmp_path):
    path = tmp_path / "feedback.tfrecord"
    file = FeedbackFile(tmp_path, run, 10_000)
    for n in range(3):
        file.append(make_image(n), 0, PROBABILITIES)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # the length of the second record
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"record 1 .*its length does not match; move the file"):
        FeedbackFile(tmp_path, run, 10_000).append(make_image(1), 1, PROBABILITIES)
    assert path.read_bytes() == content


def test_other_classes_are_refused(run, tmp_path):
    FeedbackFile(tmp_path, run, 10_000).append(make_image(0), 0, PROBABILITIES)
    other = write_test_run(tmp_path / "other", class_names=CLASSES[:4], image_shape=SHAPE)
    with pytest.raises(UserError, match=r"feedback\.json: describes other images or classes; move"):
        FeedbackFile(tmp_path, other, 10_000).append(make_image(0), 0, PROBABILITIES[:4])


def test_two_processes_append_and_are_killed(run, tmp_path):
    kept: set[int] = set()

    def start(first: int) -> tuple[subprocess.Popen[str], threading.Thread]:
        program = APPENDER.format(
            root=str(ROOT), logdir=str(run.logdir), folder=str(tmp_path / "feedback"), first=first
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = process.stdout
        thread = threading.Thread(target=lambda: kept.update(map(int, lines)))
        thread.start()
        return process, thread

    for attempt in range(2):
        started = [start(1_000_000 * (2 * attempt + place)) for place in range(2)]
        target = len(kept) + 60
        end = time.monotonic() + 30
        while not (tmp_path / "feedback/feedback.tfrecord").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        # `kept` is filled at the end of each thread, so the file's growth is watched instead.
        while len(read_records(tmp_path / "feedback")) < target:
            assert time.monotonic() < end
            time.sleep(0.01)
        for process, _ in started:
            process.send_signal(signal.SIGKILL)
        for process, thread in started:
            process.wait()
            thread.join()
            assert process.stdout is not None
            process.stdout.close()
    FeedbackFile(tmp_path / "feedback", run, 10**9).append(make_image(0), 0, PROBABILITIES)
    records = read_records(tmp_path / "feedback")
    assert all(record.damage is None for record in records)
    corners = [decode_example(record.data).encoded[:3] for record in records[:-1]]
    numbers = [int.from_bytes(corner, "big") for corner in corners]
    assert len(set(numbers)) == len(numbers)
    assert kept <= set(numbers)  # What was said to be kept, is.
    assert len(numbers) <= len(kept) + 4  # Each of the killed may have kept one unsaid.


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("feedback") / "runs")


@pytest.fixture(scope="module")
def server(runs_dir):
    with serve(runs_dir) as running:
        yield running


def read_input(server) -> dict[str, str]:
    """What the network reads of a drawn 7."""
    answer = requests.post(
        f"{server.url}/v1/read", json={**to_b64(draw_png("7")), "inputs": True}
    ).json()
    return {"b64": answer["digits"][0]["input"].partition(",")[2]}


def test_last_correction_of_an_image_becomes_a_dataset(server, runs_dir, run_script, tmp_path):
    image = read_input(server)
    for label in ("1", 4, "7"):
        request = {"model": "digits", "image": image, "label": label}
        answer = requests.post(f"{server.url}/v1/feedback", json=request)
        assert answer.status_code == 200, answer.text
        assert answer.json()["label"] == str(label)
        assert answer.json()["answer"] == "7"
        assert answer.json()["probability"] > 0.9
    folder = runs_dir / "feedback/digits"
    records = read_records(folder)
    assert [decode_example(record.data).label for record in records] == [1, 4, 7]
    size = len(decode_example(records[0].data).encoded)
    assert size == np.prod(load_run(runs_dir / "digits").image_shape)

    data_dir = tmp_path / "corrections"
    done = run_script(
        "data_prep/convert.py",
        "--dataset=feedback",
        f"--from_dir={folder}",
        f"--data_dir={data_dir}",
        "--validation_size=0",
        "--test_size=0",
    )
    assert done.returncode == 0, done.stderr
    manifest = load_manifest(data_dir)
    assert {name: split.class_counts for name, split in manifest.splits.items()} == {
        "train": (0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
    }
    assert manifest.class_names == tuple("0123456789")
    done = run_script("data_prep/verify.py", f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"label": "seven"}, 400, 'expected as "label" one of 0 1 2 3 4 5 6 7 8 9, or its place'),
        ({"label": 10}, 400, 'expected as "label" one of 0 1 2'),
        ({"label": None}, 400, 'expected as "label" one of 0 1 2'),
        ({"label": True}, 400, 'expected as "label" one of 0 1 2'),
        ({"image": "x"}, 400, 'expected {"b64": "..."}'),
        ({"image": {"b64": "AAAA"}}, 400, "expected a PNG or JPEG image, found bytes that begin"),
        (
            {"image": to_b64(encode(np.zeros((13, 9), np.uint8)))},
            400,
            "expected the image that the network read, 28 x 28 pixels, found 9 x 13",
        ),
        ({"model": "../digits"}, 404, "Servable not found for request: Latest(../digits)"),
    ],
)
def test_wrong_correction_is_refused_in_words(server, change, status, message):
    image = to_b64(encode(np.zeros((28, 28), np.uint8)))
    request = {"model": "letters", "image": image, "label": "a", **change}
    if "label" in change:
        request["model"] = "digits"
    answer = requests.post(f"{server.url}/v1/feedback", json=request)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


def test_full_folder_is_said(runs_dir):
    with serve_limited(runs_dir / "letters", feedback_bytes=500) as server:
        image = to_b64(encode(np.zeros((28, 28), np.uint8)))
        answer = requests.post(f"{server.url}/v1/feedback", json={"image": image, "label": "a"})
        assert answer.status_code == 507
        assert answer.json()["error"].startswith("the corrections fill their 500 bytes")
