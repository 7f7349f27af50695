"""Runs the networks: in one thread, and in one go whatever came in while the thread was busy.

A network takes less time for each image of a batch than for one alone. Nobody waits for a batch to
fill, though: an image that finds the thread idle goes through at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from model_definition.run_dir import Run
from predict.server.errors import BusyError
from predict.server.limits import ServerLimits
from predict.server.metrics import Metrics
from predict.server.runs import load_served

_LOADED_RUNS = 8  # in memory at a time; another one takes the place of the longest unused


@dataclass(frozen=True)
class _Waiting:
    """Images of one request that wait for a run's network."""

    run: Run
    images: np.ndarray
    answer: asyncio.Future[np.ndarray]


class Inference:
    """The served runs' networks, behind a queue."""

    def __init__(self, limits: ServerLimits, metrics: Metrics) -> None:
        """Loads nothing yet.

        Args:
          limits: how many images wait, and how many go through at once.
          metrics: told of each batch.
        """
        self._limits = limits
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._num_waiting = 0  # images
        self._is_running = False
        self._thread = ThreadPoolExecutor(1, "inference")
        # Once a network is in use the thread alone calls it: LiteRT's interpreters are not made for
        # several.
        self._load = functools.lru_cache(_LOADED_RUNS)(load_served)

    def warm_up(self, run: Run) -> None:
        """Loads a run's network and runs it once, in the caller's thread, before it is in use.

        Raises:
          UserError: it is missing or damaged.
        """
        self._load(run).predict(np.zeros((1, *run.image_shape), np.uint8))

    async def predict(self, run: Run, images: np.ndarray) -> np.ndarray:
        """Classifies images.

        Args:
          run: the run, in the version that is asked.
          images: uint8 [n, height, width, channels], of the shape that the run reads, n > 0.

        Returns:
          float32 [n, num_classes], probabilities.

        Raises:
          BusyError: too many images wait.
          UserError: the network is damaged.
        """
        size = self._limits.batch_images
        parts = [
            await self._enqueue(run, images[start : start + size])
            for start in range(0, len(images), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _enqueue(self, run: Run, images: np.ndarray) -> asyncio.Future[np.ndarray]:
        if self._num_waiting + len(images) > self._limits.waiting_images:
            raise BusyError(f"{self._num_waiting} images wait for the network")
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(run, images, answer))
        self._num_waiting += len(images)
        if not self._is_running:
            self._run_next()
        return answer

    def _run_next(self) -> None:
        """Starts the thread on what has waited longest, and on all that fits into one batch."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            fits = size + len(first.images) <= self._limits.batch_images
            if batch and (first.run != batch[0].run or not fits):
                break
            batch.append(self._waiting.popleft())
            size += len(first.images)
        self._is_running = bool(batch)
        if batch:
            images = batch[0].images
            if len(batch) > 1:
                images = np.concatenate([request.images for request in batch])
            self._metrics.batch_images.observe(size)
            loop = asyncio.get_running_loop()
            self._thread.submit(self._run, loop, batch, images)

    def _run(
        self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], images: np.ndarray
    ) -> None:
        """Runs in the thread."""
        outcome: np.ndarray | Exception
        try:
            outcome = self._load(batch[0].run).predict(images)
        except Exception as error:  # Raised where the request waits.
            outcome = error
        loop.call_soon_threadsafe(self._finish, batch, outcome)

    def _finish(self, batch: list[_Waiting], outcome: np.ndarray | Exception) -> None:
        start = 0
        for request in batch:
            stop = start + len(request.images)
            self._num_waiting -= len(request.images)
            if request.answer.done():  # Cancelled, for the server stops.
                pass
            elif isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome[start:stop])
            start = stop
        self._run_next()
