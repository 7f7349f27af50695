"""TensorFlow Serving's REST API: what requests look like, and what is answered.

The forms are those of https://www.tensorflow.org/tfx/serving/api_rest: `instances` lists one image
after the other and is answered with `predictions`; `inputs` holds the whole input and is answered
with `outputs`. The network has one input, `pixels`, and one output, `probabilities`, so both may be
given without their names. An image is an array of whole numbers, or `{"b64": ...}`, a PNG or JPEG
file, for which `image_bytes` is the input's name.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from model_definition.run_dir import Run
from predict.server.errors import ApiError

API_VERSION = "1"
_PIXELS, _FILES, _OUTPUT = "pixels", "image_bytes", "probabilities"
_SIGNATURES = {"serving_default": _PIXELS, _FILES: _FILES}
_MOST_FILES = 64  # a request; each takes milliseconds to decode
_ANSWER_KEYS = {"instances": "predictions", "inputs": "outputs"}


@dataclass(frozen=True)
class PredictRequest:
    """A request's images, as pixels or as files.

    Attributes:
      pixels: uint8 [n, height, width, channels], n > 0; None where files are given.
      files: PNG or JPEG files; empty where pixels are given.
      answer_key: what the answer goes under.
    """

    pixels: np.ndarray | None
    files: tuple[bytes, ...]
    answer_key: str


def parse_predict(body: bytes, run: Run) -> PredictRequest:
    """Reads the body of a `:predict` request.

    Args:
      body: JSON.
      run: says which images its network reads.

    Returns:
      The request.

    Raises:
      ApiError: it is no such request; says what was expected and found.
    """
    request = load_object(body)
    keys = [key for key in _ANSWER_KEYS if key in request]
    if len(keys) != 1:
        found = "both" if keys else "neither"
        raise ApiError(400, f'expected one of "instances" and "inputs", found {found}')
    signature = request.get("signature_name", "serving_default") or "serving_default"
    if not isinstance(signature, str) or signature not in _SIGNATURES:
        raise ApiError(
            400,
            f'Serving signature name: "{signature}" not found in signature def; expected one of '
            f"{', '.join(_SIGNATURES)}",
        )
    images = _without_names(request[keys[0]], is_rows=keys[0] == "instances")
    if not isinstance(images, list) or not images:
        raise ApiError(400, f'expected a list of at least one image as "{keys[0]}"')
    answer_key = _ANSWER_KEYS[keys[0]]
    if any(isinstance(image, dict) for image in images):
        if len(images) > _MOST_FILES:
            raise ApiError(
                400, f"expected at most {_MOST_FILES} files in a request, found {len(images)}"
            )
        return PredictRequest(None, tuple(decode_base64(image) for image in images), answer_key)
    return PredictRequest(_to_pixels(images, run.image_shape), (), answer_key)


def load_object(body: bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      ApiError: the body is anything else.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise ApiError(400, "expected a JSON object as the body, found something else")
    return value


def decode_base64(value: Any) -> bytes:
    """Decodes `{"b64": "..."}`.

    Raises:
      ApiError: the value is anything else.
    """
    if not isinstance(value, dict) or set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise ApiError(400, 'expected {"b64": "..."} with a PNG or JPEG file for every image')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"Unable to base64 decode: {error}") from error


def _without_names(images: Any, *, is_rows: bool) -> Any:
    """Takes off the input's name: of the whole column, or of each row."""
    if not is_rows:
        return _without_name(images)
    return [_without_name(image) for image in images] if isinstance(images, list) else images


def _without_name(value: Any) -> Any:
    if not isinstance(value, dict) or "b64" in value:
        return value
    if len(value) != 1 or next(iter(value)) not in (_PIXELS, _FILES):
        raise ApiError(
            400, f"expected the input {_PIXELS} or {_FILES}, found {', '.join(value)[:100]!r}"
        )
    return next(iter(value.values()))


def _to_pixels(images: list[Any], image_shape: tuple[int, int, int]) -> np.ndarray:
    """Turns nested lists into an array.

    Not by `np.array`, which would turn text of unequal lengths into an array far larger than the
    request, and fractions into whole numbers.
    """
    height, width, channels = image_shape
    sizes: tuple[int, ...] = image_shape
    if channels == 1 and _rank(images) == 3:
        sizes = (height, width)
    values = images
    for size in sizes:
        if not all(isinstance(value, list) and len(value) == size for value in values):
            grey = f" or [n, {height}, {width}]" if channels == 1 else ""
            raise ApiError(
                400,
                f"expected pixels of shape [n, {height}, {width}, {channels}]{grey}, found "
                f"{_spell_shape(images)}",
            )
        values = list(itertools.chain.from_iterable(values))
    try:
        pixels = bytes(values)
        if bool in set(map(type, values)):  # To Python, true is the number 1.
            raise TypeError
    except (TypeError, ValueError) as error:
        wrong = next(value for value in values if not _is_level(value))
        found = orjson.dumps(wrong)[:40].decode(errors="replace")
        raise ApiError(
            400, f"expected pixels as whole numbers of 0 to 255, found {found}"
        ) from error
    return np.frombuffer(pixels, np.uint8).reshape(len(images), *image_shape)


def _rank(value: Any) -> int:
    rank = 0
    while isinstance(value, list) and value:
        value, rank = value[0], rank + 1
    return rank


def _spell_shape(value: Any) -> str:
    """Describes nested lists by their first elements."""
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        value = value[0] if value else None
    return f"{sizes[:10]}, or rows of several lengths"


def _is_level(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def encode_predictions(request: PredictRequest, probabilities: np.ndarray) -> bytes:
    """Returns the body of the answer to a `:predict` request.

    Args:
      request: what was asked.
      probabilities: float32 [n, num_classes].
    """
    return orjson.dumps(
        {request.answer_key: np.ascontiguousarray(probabilities)},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def describe_status(run: Run) -> dict[str, Any]:
    """Returns what `GET /v1/models/NAME` answers."""
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": str(run.version), "state": "AVAILABLE", "status": status}
    return {"model_version_status": [version]}


def describe_metadata(name: str, run: Run) -> dict[str, Any]:
    """Returns what `GET /v1/models/NAME/metadata` answers."""
    output = _describe_tensor("DT_FLOAT", (-1, len(run.class_names)), _OUTPUT)
    inputs = {
        "serving_default": _describe_tensor("DT_UINT8", (-1, *run.image_shape), _PIXELS),
        _FILES: _describe_tensor("DT_STRING", (-1,), _FILES),
    }
    signatures = {
        signature: {
            "inputs": {_SIGNATURES[signature]: tensor},
            "outputs": {_OUTPUT: output},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for signature, tensor in inputs.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(run.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _describe_tensor(dtype: str, shape: tuple[int, ...], name: str) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {
        "dtype": dtype,
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{name}:0",
    }
