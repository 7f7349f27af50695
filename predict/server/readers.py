"""Reads pictures in processes of their own.

Decoders meet bytes from anywhere, and a page of paper takes a while. In another process a picture
can neither hold up the digits that are classified meanwhile, nor bring the server down: a reader
that takes too long or crashes is replaced.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict.classifier import Classifier
from predict.digits import NoInkError
from predict.image_source import FetchLimits, ImageError, decode_image
from predict.reader import find_in, read_image
from predict.server.errors import ApiError, BusyError, StoppingError, translate
from predict.server.limits import ServerLimits
from predict.server.metrics import Metrics
from predict.server.runs import load_served

# What a reader can do: a task's name, and its function.
_Job = tuple[str, Run, Any]  # task, run in the version that is asked, the task's data
_LOADED_RUNS = 4  # a reader
_SHOWN_SIDE = 1_600  # pixels of the larger side of a picture that is sent back


class Readers:
    """A few processes that read pictures, and the queue before them."""

    def __init__(self, limits: ServerLimits, metrics: Metrics) -> None:
        """Starts the processes, and does not wait for them.

        Args:
          limits: how many processes, how many pictures wait, and what one may cost.
          metrics: told of each restart.
        """
        self._limits = limits
        self._metrics = metrics
        self._num_waiting = 0
        self._threads = ThreadPoolExecutor(limits.readers, "reader")  # each waits for a process
        self._readers = [_Reader(limits.picture) for _ in range(limits.readers)]
        self._idle: queue.SimpleQueue[_Reader] = queue.SimpleQueue()
        for reader in self._readers:
            self._idle.put(reader)
        self._is_closed = False
        self._closing = threading.Lock()  # against a reader that is replaced meanwhile

    async def read(
        self, run: Run, data: bytes, *, with_inputs: bool, with_picture: bool
    ) -> dict[str, Any]:
        """Reads a picture.

        Args:
          run: whose network reads it.
          data: a PNG or JPEG file.
          with_inputs: adds to each digit its `input`, what the network read, as a data URL.
          with_picture: adds the `picture`, upright and not too large, as a data URL.

        Returns:
          The reading as JSON has it, with the picture's `width` and `height`.

        Raises:
          ApiError: the bytes are no picture, nothing is on it, or it took too long.
        """
        answer = await self._run(("read", run, (data, with_inputs, with_picture)))
        return dict(answer)

    async def prepare(self, run: Run, files: tuple[bytes, ...]) -> np.ndarray:
        """Turns pictures of one digit each into what a network reads.

        Args:
          run: whose network is to read it.
          files: PNG or JPEG files.

        Returns:
          uint8 [n, height, width, channels].

        Raises:
          ApiError: a file is no picture of exactly one digit.
        """
        return np.concatenate([await self._run(("prepare", run, file)) for file in files])

    async def decode(self, run: Run, data: bytes) -> np.ndarray:
        """Decodes a picture that is in the form that a network reads.

        Returns:
          uint8 [height, width, channels].

        Raises:
          ApiError: it is no picture of that size.
        """
        image = await self._run(("decode", run, data))
        assert isinstance(image, np.ndarray)
        return image

    def close(self) -> None:
        """Ends the processes, whatever they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._closing:
            self._is_closed = True
            for reader in self._readers:
                reader.kill()

    async def _run(self, job: _Job) -> Any:
        if self._num_waiting >= self._limits.waiting_pictures:
            raise BusyError(f"{self._num_waiting} pictures are being read")
        self._num_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._run_in_reader, job)
        finally:
            self._num_waiting -= 1

    def _run_in_reader(self, job: _Job) -> Any:
        """Runs in one of the threads, of which there are as many as readers."""
        reader = self._idle.get()
        try:
            return reader.run(job, self._limits.read_seconds)
        except _ReaderLostError as error:
            with self._closing:
                if self._is_closed:
                    raise StoppingError from error
                self._metrics.reader_restarts.inc()
                reader.restart()
            raise ApiError(error.status, str(error)) from error
        finally:
            self._idle.put(reader)


class _ReaderLostError(Exception):
    """A reader cannot be used any more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Reader:
    """One process, seen from the server."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._start()

    def _start(self) -> None:
        # Not forked: the server has threads, whose locks a copy would keep for ever.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve_jobs, args=(theirs, self._limits), name="reader", daemon=True
        )
        self._process.start()
        theirs.close()

    def run(self, job: _Job, seconds: float) -> Any:
        try:
            self._connection.send(job)
            if not self._connection.poll(seconds):
                raise _ReaderLostError(
                    503, f"reading the picture took more than {seconds:g} s; give a simpler one"
                )
            is_done, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _ReaderLostError(500, "reading the picture failed; give another one") from error
        if not is_done:
            raise ApiError(*answer)
        return answer

    def restart(self) -> None:
        self._connection.close()
        self.kill()
        self._start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve_jobs(connection: Connection, limits: FetchLimits) -> None:
    """Is the process: does one job after the other until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The server finishes its requests first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    load = functools.lru_cache(_LOADED_RUNS)(load_served)
    while True:
        try:
            task, run, data = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[bool, Any]
        try:
            answer = True, _TASKS[task](data, run, functools.partial(load, run), limits)
        except ImageError as error:
            answer = False, (400, str(error))
        except ApiError as error:
            answer = False, (error.status, str(error))
        except NoInkError as error:
            answer = False, (422, str(error))
        except UserError as error:
            answer = False, (500, str(translate(error, task)))
        except Exception:
            traceback.print_exc()
            answer = False, (500, "an error of the server; its log says more")
        connection.send(answer)


def _read(
    data: tuple[bytes, bool, bool], run: Run, load: Callable[[], Classifier], limits: FetchLimits
) -> dict[str, Any]:
    file, with_inputs, with_picture = data
    pixels = decode_image(file, limits)
    reading = read_image(pixels, run, load())
    answer = {**reading.to_json(), "width": pixels.shape[1], "height": pixels.shape[0]}
    if with_inputs:
        for digit, described in zip(reading.digits, answer["digits"], strict=True):
            described["input"] = _encode_url(digit.image, "PNG")
    if with_picture:
        factor = -(-max(pixels.shape[:2]) // _SHOWN_SIDE)
        answer["picture"] = _encode_url(pixels[::factor, ::factor], "JPEG")
    return answer


def _prepare(
    data: bytes, run: Run, load: Callable[[], Classifier], limits: FetchLimits
) -> np.ndarray:
    places = find_in(decode_image(data, limits), run)
    digits = [digit for place in places for digit in place.digits]
    if len(digits) != 1:
        raise ApiError(
            400, f"expected a picture of one digit, found {len(digits)}; /v1/read reads them all"
        )
    return digits[0].image[None]


def _decode(
    data: bytes, run: Run, load: Callable[[], Classifier], limits: FetchLimits
) -> np.ndarray:
    pixels = decode_image(data, limits)
    height, width, channels = run.image_shape
    if pixels.shape[:2] != (height, width):
        raise ApiError(
            400,
            f"expected the image that the network read, {width} x {height} pixels, found "
            f"{pixels.shape[1]} x {pixels.shape[0]}",
        )
    return pixels[:, :, :channels]


_TASKS: Mapping[str, Callable[..., Any]] = {"read": _read, "prepare": _prepare, "decode": _decode}


def _encode_url(image: np.ndarray, format_name: str) -> str:
    """Returns uint8 [height, width, 1 or 3] as a file in a data URL."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format_name)
    encoded = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{format_name.lower()};base64,{encoded}"
