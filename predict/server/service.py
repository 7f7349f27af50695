"""What the endpoints do, apart from HTTP: predict, read, keep a correction."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.command_line import UserError
from model_definition.run_dir import Run
from predict import fetch
from predict.image_source import ImageError
from predict.server import serving_api
from predict.server.errors import ApiError, BusyError
from predict.server.feedback import FeedbackFile
from predict.server.following import VersionFollower
from predict.server.inference import Inference
from predict.server.limits import ServerLimits
from predict.server.metrics import Metrics
from predict.server.readers import Readers

_PREDICT_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?:(?P<verb>\w+)"
)
_LARGE_JSON = 50_000  # bytes; parsing more takes so long that it is done beside the others


@dataclass(frozen=True)
class ServerConfig:
    """What is served, and to whom.

    Attributes:
      runs: by name; the first is the page's choice at first.
      feedback_dir: each run's corrections go to a folder of its name in this one.
      feedback_bytes: the most that a run's corrections may take.
      host_names: by which clients may call this server, besides localhost and addresses.
      limits: how much it takes on.
    """

    runs: Mapping[str, Run]
    feedback_dir: Path
    feedback_bytes: int = 64_000_000
    host_names: tuple[str, ...] = ()
    limits: ServerLimits = field(default_factory=ServerLimits)


class Service:
    """The endpoints' work, and the processes and threads that do it.

    Attributes:
      config: what is served, and to whom.
      runs: the served runs by name, each in the version that is served now.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Starts the readers and loads the first run's network.

        Raises:
          UserError: that network is missing or damaged.
        """
        self.config = config
        self.runs = dict(config.runs)
        self.metrics = Metrics()
        self.inference = Inference(config.limits, self.metrics)
        self.inference.warm_up(next(iter(self.runs.values())))
        self.readers = Readers(config.limits, self.metrics)
        self._follower = VersionFollower(self.runs, self.inference.warm_up)
        # For what waits on disks, networks, or large texts: small work, and little of it.
        self._threads = ThreadPoolExecutor(config.limits.fetches + 2, "worker")
        self._num_fetches = 0
        self._feedback = {
            name: FeedbackFile(config.feedback_dir / name, run, config.feedback_bytes)
            for name, run in config.runs.items()
        }

    def close(self) -> None:
        """Ends the threads and processes."""
        self._follower.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.inference.close()
        self.readers.close()

    def find_run(self, name: str, version: str | None = None) -> Run:
        """Returns a served run.

        Raises:
          ApiError: there is none of this name and version.
        """
        run = self.runs.get(name)
        if run is None or version not in (None, str(run.version)):
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ApiError(404, f"Servable not found for request: {which}")
        return run

    async def predict(self, path: str, body: bytes) -> bytes:
        """Answers `POST /v1/models/NAME:predict`.

        Args:
          path: the request's.
          body: the request's.

        Returns:
          The answer, JSON.

        Raises:
          ApiError: there is no such model, or the request is not what it reads.
        """
        match = _PREDICT_PATH.fullmatch(path)
        if match is None or match["verb"] not in ("predict", "classify", "regress"):
            raise ApiError(400, f"Malformed request: POST {path}")
        run = self.find_run(match["name"], match["version"])
        if match["verb"] != "predict":
            raise ApiError(
                400,
                f"Expected {match['verb']} signature method_name to be tensorflow/serving/"
                f"{match['verb']}. Was: tensorflow/serving/predict",
            )
        if len(body) > _LARGE_JSON:
            request = await self._run_in_thread(serving_api.parse_predict, body, run)
        else:
            request = serving_api.parse_predict(body, run)
        pixels = request.pixels
        if pixels is None:
            pixels = await self.readers.prepare(run, request.files)
        return serving_api.encode_predictions(request, await self.inference.predict(run, pixels))

    async def read(self, content_type: str, body: bytes, query: Mapping[str, str]) -> dict:
        """Answers `POST /v1/read`.

        Args:
          content_type: the body's: `image/png`, `image/jpeg`, or JSON.
          body: a picture, or an object with `url` or `b64`.
          query: `model` names the run, the first one without it; `inputs=true` adds what the
            network read, `picture=true` the picture. In JSON they may stand in the object.

        Returns:
          The reading.

        Raises:
          ApiError: the picture cannot be had or read.
        """
        if content_type.startswith("image/"):
            request: Mapping[str, Any] = query
            data = body
        else:
            _require_json(content_type, "image/png, image/jpeg or application/json")
            request = {**query, **await self._run_in_thread(serving_api.load_object, body)}
            data = await self._get_picture(request)
        name = request.get("model", next(iter(self.runs)))
        if not isinstance(name, str):
            raise ApiError(400, 'expected a name as "model"')
        answer = await self.readers.read(
            self.find_run(name),
            data,
            with_inputs=request.get("inputs") in (True, "true"),
            with_picture=request.get("picture") in (True, "true"),
        )
        return {"model": name, **answer}

    async def keep_feedback(self, content_type: str, body: bytes) -> dict[str, Any]:
        """Answers `POST /v1/feedback`: keeps an image with the label that it should have had.

        Raises:
          ApiError: the request lacks something, or the corrections have grown too large.
        """
        _require_json(content_type)
        request = serving_api.load_object(body)
        name = request.get("model", next(iter(self.runs)))
        if not isinstance(name, str):
            raise ApiError(400, 'expected a name as "model"')
        run = self.find_run(name)
        label = _find_label(request.get("label"), run)
        if "image" not in request:
            raise ApiError(
                400, 'expected {"image": {"b64": "..."}, "label": ...}, found no "image"'
            )
        image = await self.readers.decode(run, serving_api.decode_base64(request["image"]))
        # Answered anew, so that what is kept is what this network says, not what a client says.
        probabilities = (await self.inference.predict(run, image[None]))[0]
        try:
            await self._run_in_thread(self._feedback[name].append, image, label, probabilities)
        except OSError as error:
            raise ApiError(507, f"the correction cannot be kept: {error.strerror}") from error
        except UserError as error:  # Its text names files of this machine.
            logging.getLogger("uvicorn.error").error("%s", error)
            raise ApiError(
                500, "the corrections cannot be added to; the server's log says why"
            ) from error
        self.metrics.feedback.labels(name).inc()
        answered = int(probabilities.argmax())
        return {
            "model": name,
            "label": run.class_names[label],
            "answer": run.class_names[answered],
            "probability": float(probabilities[answered]),
        }

    async def _get_picture(self, request: Mapping[str, Any]) -> bytes:
        if ("url" in request) == ("b64" in request):
            found = "both" if "url" in request else "neither"
            raise ApiError(400, f'expected one of "url" and "b64", found {found}')
        if "b64" in request:
            return serving_api.decode_base64({"b64": request["b64"]})
        url = request["url"]
        if not isinstance(url, str) or not re.match(r"https?://", url, re.IGNORECASE):
            raise ApiError(400, "expected a URL that begins with http:// or https://")
        if self._num_fetches >= self.config.limits.fetches:
            raise BusyError(f"{self._num_fetches} pictures are being fetched")
        self._num_fetches += 1
        try:
            # Never from this machine or its network, whatever a request says.
            return await self._run_in_thread(fetch.fetch, url, False, self.config.limits.picture)
        except ImageError as error:
            # Without the advice to permit such addresses: that is not for a client to decide.
            raise ApiError(400, str(error).partition("; --")[0]) from error
        finally:
            self._num_fetches -= 1

    async def _run_in_thread(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _require_json(content_type: str, accepted: str = "application/json") -> None:
    """Refuses what another site's page could send without asking first; names what is accepted."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, f"expected {accepted} as Content-Type, found {content_type[:100]!r}")


def _find_label(value: Any, run: Run) -> int:
    """Returns a label that is given by its number or its name."""
    if isinstance(value, str) and value in run.class_names:
        return run.class_names.index(value)
    if type(value) is int and 0 <= value < len(run.class_names):
        return value
    names = " ".join(run.class_names[:20])
    raise ApiError(400, f'expected as "label" one of {names}, or its place from 0')
