"""The endpoints: what is asked where, and in which form it is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from model_definition.run_dir import Run
from predict.server import api_description as described
from predict.server import serving_api
from predict.server.errors import ApiError, encode_error, translate
from predict.server.guard import App, Guard, Receive, Send
from predict.server.metrics import CONTENT_TYPE
from predict.server.service import Service
from predict.server.web_files import load_web_files


def make_app(service: Service) -> App:
    """Makes the ASGI application.

    Args:
      service: does the work.
    """
    api = FastAPI(
        title="Digits",
        description=described.INTRODUCTION,
        version=serving_api.API_VERSION,
        docs_url=None,  # They load scripts from elsewhere; /docs is our own.
        redoc_url=None,
    )
    _add_errors(api)
    _add_model_endpoints(api, service)
    _add_picture_endpoints(api, service)
    _add_page(api)
    fast_predict = _make_fast_predict(service)

    async def dispatch(scope: Any, receive: Receive, send: Send) -> None:
        # The one path that must be fast goes by all that FastAPI would do for it.
        if scope["method"] == "POST" and scope["path"].startswith("/v1/models/"):
            await fast_predict(scope, receive, send)
        else:
            await api(scope, receive, send)

    return Guard(
        dispatch,
        host_names=service.config.host_names,
        endpoints=_name_endpoint,
        limits=service.config.limits,
        metrics=service.metrics,
    )


def _make_fast_predict(service: Service) -> App:
    async def fast_predict(scope: Any, receive: Receive, send: Send) -> None:
        body = await service.predict(scope["path"], (await receive())["body"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return fast_predict


def _add_errors(api: FastAPI) -> None:
    """Gives every error of FastAPI and of the endpoints the one form."""

    async def answer(request: Request, error: Exception) -> Response:
        method, path = request.method, request.url.path[:200]
        if isinstance(error, HTTPException):
            error = ApiError(error.status_code, f"{error.detail}: {method} {path}")
            if error.status == 404 and path.startswith("/v1/"):  # As TensorFlow Serving says it.
                error = ApiError(400, f"Malformed request: {method} {path}")
        told = translate(error, f"{method} {path}")
        body, headers = encode_error(told)
        return Response(body, told.status, {k.decode(): v.decode() for k, v in headers})

    for kind in (ApiError, HTTPException, Exception):
        api.add_exception_handler(kind, answer)


def _add_model_endpoints(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", tags=["models"])
    async def list_models() -> dict[str, Any]:
        """Lists the models; the page offers them."""
        return {"models": [_describe_run(name, run) for name, run in service.runs.items()]}

    @api.get("/v1/models/{name}", tags=["models"])
    async def get_status(name: str) -> dict[str, Any]:
        """Tells which version of a model is ready, as TensorFlow Serving does."""
        if ":" in name:  # No name has one: it is a verb, which takes POST.
            raise ApiError(400, f"Malformed request: GET /v1/models/{name[:200]}")
        return serving_api.describe_status(service.find_run(name))

    @api.get("/v1/models/{name}/metadata", tags=["models"])
    async def get_metadata(name: str) -> dict[str, Any]:
        """Describes a model's inputs and outputs, as TensorFlow Serving does."""
        return serving_api.describe_metadata(name, service.find_run(name))

    @api.get("/v1/models/{name}/versions/{version}", tags=["models"])
    async def get_version_status(name: str, version: str) -> dict[str, Any]:
        """The same for one version: the one that is served."""
        return serving_api.describe_status(service.find_run(name, version))

    @api.get("/v1/models/{name}/versions/{version}/metadata", tags=["models"])
    async def get_version_metadata(name: str, version: str) -> dict[str, Any]:
        """The same for one version: the one that is served."""
        return serving_api.describe_metadata(name, service.find_run(name, version))

    # These two are answered before they reach FastAPI; here they are described.
    @api.post("/v1/models/{name}:predict", tags=["models"], openapi_extra=described.PREDICT)
    async def predict(name: str) -> None:
        """Classifies images, as TensorFlow Serving does."""
        raise NotImplementedError

    @api.post(
        "/v1/models/{name}/versions/{version}:predict",
        tags=["models"],
        openapi_extra=described.PREDICT,
    )
    async def predict_by_version(name: str, version: str) -> None:
        """The same by one version: the one that is served."""
        raise NotImplementedError


def _add_picture_endpoints(api: FastAPI, service: Service) -> None:
    @api.post("/v1/read", tags=["pictures"], openapi_extra=described.READ)
    async def read(request: Request) -> dict[str, Any]:
        """Finds and reads the digits of a whole picture."""
        content_type = request.headers.get("content-type", "")
        return await service.read(content_type, await request.body(), dict(request.query_params))

    @api.post("/v1/feedback", tags=["pictures"], openapi_extra=described.FEEDBACK)
    async def keep_feedback(request: Request) -> dict[str, Any]:
        """Keeps a correction for training."""
        content_type = request.headers.get("content-type", "")
        return await service.keep_feedback(content_type, await request.body())

    @api.get("/healthz", tags=["operation"])
    async def check_health() -> dict[str, str]:
        """Answers as long as the server takes requests."""
        return {"status": "ok"}

    @api.get("/metrics", tags=["operation"], response_class=Response)
    async def get_metrics() -> Response:
        """Gives the server's figures in Prometheus's text format."""
        return Response(service.metrics.render(), headers={"content-type": CONTENT_TYPE})


def _add_page(api: FastAPI) -> None:
    files = load_web_files()

    async def get_page(request: Request) -> Response:
        file = files[request.url.path]
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers={"etag": file.etag})
        headers = {"etag": file.etag, "cache-control": "no-cache", "content-type": file.media_type}
        return Response(file.content, headers=headers)

    for path in files:
        api.add_route(path, get_page, ["GET"], include_in_schema=False)


def _describe_run(name: str, run: Run) -> dict[str, Any]:
    return {
        "name": name,
        "version": run.version,
        "classes": list(run.class_names),
        "image_shape": list(run.image_shape),
        "dataset": run.dataset_name,
        "architecture": Path(run.model).stem,
    }


def _name_endpoint(path: str) -> str:
    """Returns the endpoint that a path belongs to, one of a few, for Prometheus."""
    if path.startswith("/v1/models"):
        return "predict" if path.endswith(":predict") else "models"
    known = {"/v1/read": "read", "/v1/feedback": "feedback"}
    known |= {"/healthz": "healthz", "/metrics": "metrics", "/": "page"}
    return known.get(path, "other")
