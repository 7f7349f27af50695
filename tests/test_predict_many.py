from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from predict import many
from predict.many import answer_all
from tests.predict_fixtures import StubClassifier, draw, serve, write_test_run


@pytest.fixture
def run(tmp_path):
    return write_test_run(tmp_path / "run", image_shape=(13, 9, 3), image_preparation="resize")


def write_picture(path, label, *, odd=False):
    """A picture that `StubClassifier` reads as `label`."""
    pixels = np.zeros((13, 9, 3), np.uint8)
    pixels[0, 0, 0], pixels[1, 0, 0] = label, odd
    Image.fromarray(pixels).save(path)
    return str(path)


def test_answers_come_in_order_whatever_fails(tmp_path, run):
    urls = [write_picture(tmp_path / f"{label}.png", label) for label in range(5)]
    urls.insert(2, str(tmp_path / "gone.png"))
    urls.insert(5, write_picture(tmp_path / "odd.png", 7, odd=True))
    answers = list(answer_all(urls, run, StubClassifier()))
    assert [answer.url for answer in answers] == urls
    assert [answer.reading and answer.reading.text for answer in answers] == [
        "0", "1", None, "2", "3", "", "4",
    ]  # fmt: skip
    assert answers[2].error == "there is no such file; check the path"
    assert answers[5].error == (
        "nothing on it is a digit: expected ink like that of the training images, found 1 "
        "region(s) unlike it (the best score is -1.00); give a picture of digits"
    )
    assert [answers[number].error for number in (0, 1, 3, 4, 6)] == [None] * 5
    assert all(answer.pixels is None for answer in answers)


def test_json_of_each_kind_of_answer(tmp_path, run):
    urls = [
        write_picture(tmp_path / "a.png", 3),
        write_picture(tmp_path / "b.png", 3, odd=True),
        str(tmp_path),
    ]
    read, rejected, failed = (set(one.to_json()) for one in answer_all(urls, run, StubClassifier()))
    assert read == {"url", "text", "digits"}
    assert rejected == {"url", "text", "digits", "error"}
    assert failed == {"url", "error"}


@pytest.mark.parametrize(
    ("limit", "keep_pixels"), [("_NUM_PICTURES", False), ("_NUM_DIGITS", False), ("_NUM_PIXELS", 1)]
)
def test_pictures_are_classified_in_batches(tmp_path, run, monkeypatch, limit, keep_pixels):
    monkeypatch.setattr(many, limit, 3 * 13 * 9 if limit == "_NUM_PIXELS" else 3)
    urls = [write_picture(tmp_path / f"{label}.png", label) for label in range(7)]
    classifier = StubClassifier()
    answers = list(answer_all(urls, run, classifier, keep_pixels=keep_pixels))
    assert "".join(answer.reading.text for answer in answers if answer.reading) == "0123456"
    assert classifier.batch_sizes == [3, 3, 1]
    assert all((answer.pixels is not None) == keep_pixels for answer in answers)


def test_failures_fill_a_batch_too(tmp_path, run, monkeypatch):
    """So that a long list of dead links is not silent until its end."""
    monkeypatch.setattr(many, "_NUM_PICTURES", 3)
    answers = answer_all([str(tmp_path / "gone")] * 7, run, StubClassifier())
    assert next(answers).error == "there is no such file; check the path"


def test_fetches_run_side_by_side_within_a_bound(tmp_path, run, monkeypatch):
    monkeypatch.setattr(many, "_NUM_FETCHED_AHEAD", 5)
    write_picture(tmp_path / "7.png", 7)
    data = (tmp_path / "7.png").read_bytes()
    lock, running, most = threading.Lock(), [], []

    def answer(handler):
        with lock:
            running.append(handler.path)
            most.append(len(running))
        time.sleep(0.1)
        with lock:
            running.remove(handler.path)
        number = int(handler.path[1:])
        handler.send_response(404 if number == 3 else 200)
        handler.end_headers()
        handler.wfile.write(data)

    with serve(answer) as url:
        urls = [f"{url}/{number}" for number in range(15)]
        start = time.monotonic()
        answers = list(answer_all(urls, run, StubClassifier(), allow_private_urls=True))
        seconds = time.monotonic() - start
    assert [answer.url for answer in answers] == urls
    assert [one.reading.text if one.reading else None for one in answers] == (
        ["7"] * 3 + [None] + ["7"] * 11
    )
    assert str(answers[3].error).startswith("the server answered 404")
    assert max(most) == 5 and seconds < 15 * 0.1


def test_ctrl_c_that_interrupts_no_wait_is_heard_soon(run):
    """As where it arrives just before the main thread begins to wait for a fetch."""
    asked, stop = threading.Event(), threading.Event()

    def stall(handler):
        asked.set()
        stop.wait(20)

    def interrupt():
        asked.wait(20)
        time.sleep(0.3)  # The main thread waits by now, and its mask leaves the signal to this one.
        os.kill(os.getpid(), signal.SIGINT)

    with serve(stall) as url:
        threading.Thread(target=interrupt, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        start = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                list(answer_all([url], run, StubClassifier(), allow_private_urls=True))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            stop.set()
    assert time.monotonic() - start < 5


def test_a_bug_in_a_thread_is_not_swallowed(run, monkeypatch):
    def fail(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(many, "load_bytes", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        list(answer_all(["http://a.example/"], run, StubClassifier()))


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, run):
    path = tmp_path / "large.png"
    Image.new("L", (130, 100)).save(path)  # 39 kB of pixels in RGB

    def measure(count):
        tracemalloc.start()
        for _ in answer_all([str(path)] * count, run, StubClassifier()):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert measure(150) < measure(70) * 1.3


def test_page_of_digits_is_one_picture(tmp_path):
    run = write_test_run(tmp_path / "run")
    line = np.concatenate([draw("3"), draw("4")], axis=1)
    Image.fromarray(line).save(tmp_path / "line.png")
    classifier = StubClassifier()
    (answer,) = answer_all([str(tmp_path / "line.png")], run, classifier)
    assert answer.reading is not None and len(answer.reading.digits) == 2
    assert classifier.batch_sizes == [2]
