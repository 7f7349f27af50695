"""Images on their way through the network: together, in order, and never too many."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict.server import inference
from predict.server.errors import BusyError
from predict.server.inference import Inference
from predict.server.limits import ServerLimits
from predict.server.metrics import Metrics
from tests.predict_fixtures import write_test_run

SHAPE = (13, 9, 3)


class SlowClassifier:
    """Answers an image with its first pixel; waits for `gate` before each batch."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def predict(self, images: np.ndarray) -> np.ndarray:
        assert self.gate.acquire(timeout=10)
        self.batches.append(images[:, 0, 0, 0].tolist())
        return images[:, 0, 0].astype(np.float32)


@pytest.fixture
def classifiers(monkeypatch):
    made: dict[str, SlowClassifier] = {}

    def load(run):
        return made.setdefault(run.logdir.name, SlowClassifier())

    monkeypatch.setattr(inference, "load_served", load)
    return made


@pytest.fixture
def runs(tmp_path):
    return {name: write_test_run(tmp_path / name, image_shape=SHAPE) for name in ("a", "b")}


@pytest.fixture
def make_inference():
    made = []

    def make(**limits):
        made.append(Inference(ServerLimits(**limits), Metrics()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def images(*values: int) -> np.ndarray:
    result = np.zeros((len(values), *SHAPE), np.uint8)
    result[:, 0, 0, 0] = values
    return result


async def ask(network: Inference, run: Run, *values: int) -> list[float]:
    return (await network.predict(run, images(*values)))[:, 0].tolist()


def test_what_waits_goes_through_together(make_inference, runs, classifiers):
    network = make_inference(batch_images=4)

    async def run() -> list:
        tasks = [asyncio.ensure_future(ask(network, runs["a"], n)) for n in range(1, 7)]
        await asyncio.sleep(0.05)
        classifiers["a"].gate.release(10)
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [[1], [2], [3], [4], [5], [6]]
    assert classifiers["a"].batches == [[1], [2, 3, 4, 5], [6]]


def test_networks_are_not_mixed(make_inference, runs, classifiers):
    network = make_inference()

    async def run() -> list:
        names = "aabba"
        tasks = [asyncio.ensure_future(ask(network, runs[name], n)) for n, name in enumerate(names)]
        while "a" not in classifiers:
            await asyncio.sleep(0.01)
        classifiers["b"] = SlowClassifier()
        for classifier in classifiers.values():
            classifier.gate.release(10)
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [[0], [1], [2], [3], [4]]
    assert classifiers["a"].batches == [[0], [1], [4]]
    assert classifiers["b"].batches == [[2, 3]]


def test_many_images_of_one_request_leave_room_for_others(make_inference, runs, classifiers):
    network = make_inference(batch_images=4)

    async def run() -> tuple[list[float], list[float]]:
        large = asyncio.ensure_future(ask(network, runs["a"], *range(10)))
        await asyncio.sleep(0.05)
        small = asyncio.ensure_future(ask(network, runs["a"], 77))
        await asyncio.sleep(0.05)
        classifiers["a"].gate.release(10)
        return await asyncio.gather(large, small)

    large, small = asyncio.run(run())
    assert (large, small) == (list(range(10)), [77])
    assert classifiers["a"].batches.index([77]) == 1  # after the first four, not after all ten


def test_images_too_many_are_refused_until_some_are_done(make_inference, runs, classifiers):
    network = make_inference(waiting_images=3)

    async def run() -> None:
        waiting = asyncio.ensure_future(ask(network, runs["a"], 1, 2))
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError, match="2 images wait for the network"):
            await ask(network, runs["a"], 3, 4)
        classifiers["a"].gate.release(10)
        assert await waiting == [1, 2]
        assert await ask(network, runs["a"], 3, 4) == [3, 4]

    asyncio.run(run())


def test_error_reaches_every_request_of_its_batch_and_no_other(make_inference, runs, monkeypatch):
    calls = []

    def load(run):
        calls.append(run)
        if len(calls) < 2:
            raise UserError("damaged")
        classifier = SlowClassifier()
        classifier.gate.release(10)
        return classifier

    monkeypatch.setattr(inference, "load_served", load)
    network = make_inference()

    async def run() -> None:
        with pytest.raises(UserError, match="damaged"):
            await ask(network, runs["a"], 1)
        assert await ask(network, runs["a"], 2) == [2]

    asyncio.run(run())


def test_versions_of_a_run_are_not_mixed(make_inference, runs, monkeypatch):
    loaded = []

    def load(run):
        loaded.append(run.version)
        classifier = SlowClassifier()
        classifier.gate.release(10)
        return classifier

    monkeypatch.setattr(inference, "load_served", load)
    network, updated = make_inference(), replace(runs["a"], version=2)

    async def run() -> list:
        order = (runs["a"], updated, runs["a"], updated)
        return await asyncio.gather(*(ask(network, run, n) for n, run in enumerate(order)))

    network.warm_up(runs["a"])
    assert loaded == [1]
    assert asyncio.run(run()) == [[0], [1], [2], [3]]
    assert loaded == [1, 2]
