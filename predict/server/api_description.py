"""What OpenAPI is told of the endpoints whose bodies FastAPI does not read itself."""

from __future__ import annotations

from typing import Any

INTRODUCTION = (
    "Reads digits in pictures. The endpoints under /v1/models are those of TensorFlow Serving's "
    'REST API. Every error is answered as {"error": "..."}.'
)


def _json_body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _describe(content: dict[str, Any], answer: dict[str, Any], meaning: str) -> dict[str, Any]:
    error = {"application/json": {"example": {"error": "what was expected, and what was found"}}}
    return {
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": meaning,
                "content": {"application/json": {"example": answer}},
            },
            "4XX": {"description": "The request is refused.", "content": error},
            "503": {"description": "Busy; Retry-After says when to ask again.", "content": error},
        },
    }


_PROBABILITIES = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.99, 0.0, 0.01]
_FILE: dict[str, Any] = {
    "type": "object",
    "properties": {"b64": {"type": "string", "format": "byte"}},
    "required": ["b64"],
}

PREDICT = _describe(
    _json_body(
        {
            "type": "object",
            "description": (
                "One of instances and inputs: images as nested arrays of whole numbers of 0 to "
                "255, [n, height, width] or [n, height, width, channels], or PNG or JPEG files of "
                'one digit each as {"b64": ...}.'
            ),
            "properties": {
                "instances": {"type": "array", "items": {"oneOf": [{"type": "array"}, _FILE]}},
                "inputs": {"type": "array", "items": {"oneOf": [{"type": "array"}, _FILE]}},
                "signature_name": {"type": "string"},
            },
        },
        {"instances": [{"b64": "iVBORw0KGgo..."}]},
    ),
    {"predictions": [_PROBABILITIES]},
    "The probability of each class; under outputs where inputs were given.",
)
READ = _describe(
    {
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
        **_json_body(
            {
                "type": "object",
                "description": "One of url and b64.",
                "properties": {
                    "url": {"type": "string", "description": "http or https, public hosts only"},
                    "b64": {"type": "string", "format": "byte"},
                    "model": {"type": "string"},
                    "inputs": {"type": "boolean"},
                    "picture": {"type": "boolean"},
                },
            },
            {"url": "https://example.org/page.jpg"},
        ),
    },
    {
        "model": "lenet",
        "text": "7",
        "digits": [
            {
                "digit": 7,
                "class_name": "7",
                "probabilities": _PROBABILITIES,
                "score": 1.0,
                "is_digit": True,
                "box": [40, 32, 60, 80],
                "line": 0,
            }
        ],
        "width": 200,
        "height": 150,
    },
    "The text and its digits, with their boxes in pixels: x, y, width, height.",
)
READ["parameters"] = [
    {"name": "model", "in": "query", "schema": {"type": "string"}, "description": "a run's name"},
    {
        "name": "inputs",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "adds to each digit what the network read, as a PNG file in a data URL",
    },
    {
        "name": "picture",
        "in": "query",
        "schema": {"type": "boolean"},
        "description": "adds the picture, upright and reduced, as a JPEG file in a data URL",
    },
]
FEEDBACK = _describe(
    _json_body(
        {
            "type": "object",
            "properties": {
                "model": {"type": "string"},
                "image": {**_FILE, "description": "PNG, what the network read"},
                "label": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "required": ["image", "label"],
        },
        {"model": "lenet", "image": {"b64": "iVBORw0KGgo..."}, "label": "7"},
    ),
    {"model": "lenet", "label": "7", "answer": "1", "probability": 0.61},
    "The correction is kept.",
)
