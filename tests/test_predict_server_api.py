"""The server's endpoints, as an HTTP client sees them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import requests
from PIL import Image

from model_definition.run_dir import load_run
from predict.classifier import load_classifier
from tests.predict_fixtures import draw, to_rgb
from tests.server_fixtures import draw_png, encode, serve, to_b64, write_runs


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("server") / "runs")


@pytest.fixture(scope="module")
def server(runs_dir):
    with serve(runs_dir) as running:
        yield running


def make_images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def test_rows_are_answered_with_predictions(server, runs_dir):
    images = make_images(3)
    answer = requests.post(
        f"{server.url}/v1/models/digits:predict", json={"instances": images.tolist()}
    )
    assert answer.status_code == 200
    assert list(answer.json()) == ["predictions"]
    expected = load_classifier(load_run(runs_dir / "digits")).predict(images[..., None])
    np.testing.assert_allclose(answer.json()["predictions"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "request_body",
    [
        {"inputs": make_images(2)[..., None].tolist()},
        {"inputs": {"pixels": make_images(2).tolist()}},
        {"inputs": make_images(2).tolist(), "signature_name": "serving_default"},
    ],
)
def test_columns_are_answered_with_outputs(server, request_body):
    url = f"{server.url}/v1/models/digits/versions/1:predict"
    answer = requests.post(url, json=request_body).json()
    by_rows = requests.post(url, json={"instances": make_images(2).tolist()}).json()
    assert answer == {"outputs": by_rows["predictions"]}


def test_named_rows(server):
    url = f"{server.url}/v1/models/digits:predict"
    image = make_images(1)[0].tolist()
    named = requests.post(url, json={"instances": [{"pixels": image}]})
    assert named.json() == requests.post(url, json={"instances": [image]}).json()


def test_more_images_than_go_through_at_once(server):
    url = f"{server.url}/v1/models/digits:predict"
    images = make_images(75)
    together = requests.post(url, json={"instances": images.tolist()}).json()["predictions"]
    alone = requests.post(url, json={"instances": images[70:71].tolist()}).json()["predictions"]
    assert len(together) == 75
    np.testing.assert_allclose(together[70], alone[0], rtol=1e-4)


@pytest.mark.parametrize("form", ["value", "named"])
def test_images_as_files(server, form):
    files = [to_b64(draw_png("7")), to_b64(encode(to_rgb(draw("2")), "JPEG"))]
    instances = files if form == "value" else [{"image_bytes": file} for file in files]
    answer = requests.post(f"{server.url}/v1/models/digits:predict", json={"instances": instances})
    assert [int(np.argmax(row)) for row in answer.json()["predictions"]] == [7, 2]


def test_any_content_type_as_tensorflow_servings_clients_send_it(server):
    answer = requests.post(
        f"{server.url}/v1/models/digits:predict",
        data=json.dumps({"instances": make_images(1).tolist()}),
        headers={"Content-Type": "application/x-www-form-urlencoded"},  # curl's
    )
    assert answer.status_code == 200


SHAPES = "expected pixels of shape [n, 28, 28, 1] or [n, 28, 28], found "
LEVELS = "expected pixels as whole numbers of 0 to 255, found "


def with_pixel(value) -> list:
    image = np.zeros((28, 28), int).tolist()
    image[3][4] = value
    return [image]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"instances": [1', "JSON Parse error: "),
        ("[1]", "expected a JSON object as the body, found something else"),
        ({}, 'expected one of "instances" and "inputs", found neither'),
        ({"instances": [], "inputs": []}, 'expected one of "instances" and "inputs", found both'),
        ({"instances": []}, 'expected a list of at least one image as "instances"'),
        ({"instances": 7}, 'expected a list of at least one image as "instances"'),
        ({"instances": [7]}, SHAPES + "[1], or rows"),
        ({"instances": np.zeros((2, 28, 27), int).tolist()}, SHAPES + "[2, 28, 27], or rows"),
        ({"instances": np.zeros((2, 28, 28, 3), int).tolist()}, SHAPES + "[2, 28, 28, 3], or rows"),
        ({"instances": with_pixel(256)}, LEVELS + "256"),
        ({"instances": with_pixel(-1)}, LEVELS + "-1"),
        ({"instances": with_pixel(0.5)}, LEVELS + "0.5"),
        ({"instances": with_pixel("9" * 10_000)}, LEVELS + '"9999'),
        ({"instances": with_pixel(None)}, LEVELS + "null"),
        ({"instances": with_pixel(True)}, LEVELS + "true"),
        ({"inputs": with_pixel(False)}, LEVELS + "false"),
        ({"instances": with_pixel([1])}, LEVELS + "[1]"),
        ({"instances": [], "signature_name": "x"}, 'Serving signature name: "x" not found'),
        ({"instances": [{"image": 1}]}, "expected the input pixels or image_bytes, found 'image'"),
        ({"instances": [{"b64": "*"}]}, "Unable to base64 decode: "),
        ({"instances": [to_b64(b"")] * 65}, "expected at most 64 files in a request, found 65"),
        ({"instances": [{"b64": 1}]}, 'expected {"b64": "..."} with a PNG or JPEG file'),
        ({"instances": [to_b64(b"GIF89a")]}, "expected a PNG or JPEG image, found a GIF image"),
    ],
)
def test_wrong_predict_request_is_refused_in_words(server, body, message):
    data = body if isinstance(body, str) else json.dumps(body)
    answer = requests.post(f"{server.url}/v1/models/digits:predict", data=data)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("GET", "models/none", 404, "Servable not found for request: Latest(none)"),
        ("GET", "models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("GET", "models/unfinished", 404, "Servable not found for request: Latest(unfinished)"),
        (
            "POST",
            "models/digits/versions/2:predict",
            404,
            "Servable not found for request: Specific(digits, 2)",
        ),
        (
            "GET",
            "models/digits/versions/2",
            404,
            "Servable not found for request: Specific(digits, 2)",
        ),
        ("POST", "models/digits:fit", 400, "Malformed request: POST /v1/models/digits:fit"),
        ("POST", "models/digits", 400, "Malformed request: POST /v1/models/digits"),
        (
            "POST",
            "models/digits:classify",
            400,
            "Expected classify signature method_name to be tensorflow/serving/classify. Was: "
            "tensorflow/serving/predict",
        ),
        ("GET", "nothing", 400, "Malformed request: GET /v1/nothing"),
        ("GET", "models/..%2f..%2fetc", 400, "Malformed request: GET /v1/models/../../etc"),
        ("DELETE", "models/digits", 405, "Method Not Allowed: DELETE /v1/models/digits"),
    ],
)
def test_what_is_not_there(server, method, path, status, message):
    answer = requests.request(method, f"{server.url}/v1/{path}", data="{}" * (method == "POST"))
    assert (answer.status_code, answer.json()) == (status, {"error": message})


def test_status_and_metadata(server):
    status = requests.get(f"{server.url}/v1/models/digits").json()
    assert status == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    metadata = requests.get(f"{server.url}/v1/models/digits/versions/1/metadata").json()
    assert metadata["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["pixels"]["dtype"] == "DT_UINT8"
    sizes = [d["size"] for d in signature["inputs"]["pixels"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "28", "28", "1"]
    sizes = [d["size"] for d in signature["outputs"]["probabilities"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "10"]


def test_models_are_listed(server):
    models = requests.get(f"{server.url}/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["digits", "letters"]
    assert models[1]["classes"] == list("abcdefghij")
    assert models[0]["image_shape"] == [28, 28, 1]


def test_picture_is_read(server):
    picture = np.concatenate([draw("4"), draw("2")], axis=1)
    answer = requests.post(
        f"{server.url}/v1/read?inputs=true",
        data=encode(picture),
        headers={"Content-Type": "image/png"},
    ).json()
    assert (answer["model"], answer["text"]) == ("digits", "42")
    assert (answer["width"], answer["height"]) == (picture.shape[1], picture.shape[0])
    first, second = answer["digits"]
    assert (first["digit"], first["class_name"], first["line"]) == (4, "4", 0)
    assert first["box"][0] < picture.shape[1] / 2 < second["box"][0]
    assert len(first["probabilities"]) == 10
    assert first["input"].startswith("data:image/png;base64,")
    assert "picture" not in answer


def test_picture_is_read_by_another_model_and_given_back(server):
    request = {**to_b64(draw_png("3")), "model": "letters", "picture": True}
    answer = requests.post(f"{server.url}/v1/read", json=request).json()
    assert (answer["model"], answer["text"]) == ("letters", "d")
    assert answer["picture"].startswith("data:image/jpeg;base64,")
    assert "input" not in answer["digits"][0]


@pytest.mark.parametrize(
    ("request_body", "status", "message"),
    [
        ({}, 400, 'expected one of "url" and "b64", found neither'),
        ({"url": "http://x", "b64": ""}, 400, 'expected one of "url" and "b64", found both'),
        ({"url": "/etc/passwd"}, 400, "expected a URL that begins with http:// or https://"),
        ({"url": "file:///etc/passwd"}, 400, "expected a URL that begins with http://"),
        ({"url": 7}, 400, "expected a URL that begins with http:// or https://"),
        ({"b64": "AAAA", "model": "none"}, 404, "Servable not found for request: Latest(none)"),
        ({"b64": "AAAA", "model": ["x"]}, 400, 'expected a name as "model"'),
        ({"b64": "AAAA"}, 400, "expected a PNG or JPEG image, found bytes that begin with 00"),
        (to_b64(encode(np.full((40, 50), 200, np.uint8))), 422, "no ink found: "),
    ],
)
def test_wrong_read_request_is_refused_in_words(server, request_body, status, message):
    answer = requests.post(f"{server.url}/v1/read", json=request_body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
def test_server_fetches_nothing_from_its_own_network(server, host):
    port = server.address[1]
    request = {"url": f"http://{host}:{port}/icon.svg", "allow_private_urls": True}
    answer = requests.post(f"{server.url}/v1/read", json=request)
    assert answer.status_code == 400
    assert "which is not on the public internet" in answer.json()["error"]
    assert "allow_private_urls" not in answer.json()["error"]  # Not for a client to decide.


def test_bodies_that_other_sites_pages_could_send_are_refused(server):
    for path, accepted in (("read", "image/png, image/jpeg or "), ("feedback", "")):
        answer = requests.post(
            f"{server.url}/v1/{path}", data="{}", headers={"Content-Type": "text/plain"}
        )
        assert answer.status_code == 415
        assert answer.json()["error"] == (
            f"expected {accepted}application/json as Content-Type, found 'text/plain'"
        )


def test_correction_without_its_image(server):
    request = {**to_b64(encode(draw("7"))), "label": 7}
    answer = requests.post(f"{server.url}/v1/feedback", json=request)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        'expected {"image": {"b64": "..."}, "label": ...}, found no "image"'
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_pages_are_refused(server, headers):
    for path in ("read", "feedback", "models/digits:predict"):
        answer = requests.post(f"{server.url}/v1/{path}", json={}, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"].startswith("expected a request of this server's own page")


def test_own_page_is_not_refused(server):
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    answer = requests.post(
        f"{server.url}/v1/models/digits:predict",
        json={"instances": make_images(1).tolist()},
        headers=headers,
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("", 421),
        ("localhost.evil.example:80", 421),
        ("localhost", 200),
        ("LOCALHOST:8501", 200),
        ("192.168.1.5:8501", 200),
        ("[::1]:8501", 200),
    ],
)
def test_names_that_may_have_been_rebound_are_refused(server, host, status):
    answer = requests.get(f"{server.url}/healthz", headers={"Host": host})
    assert answer.status_code == status
    if status != 200:
        assert "--allow_host permits a name" in answer.json()["error"]


def test_every_answer_has_the_security_headers(server):
    for path in ("/", "/page.js", "/healthz", "/nothing", "/v1/models/none"):
        headers = requests.get(server.url + path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
        assert "server" not in headers


def test_page_needs_nothing_from_elsewhere(server):
    for path in ("/", "/docs", "/page.js", "/answer.js", "/api.js", "/drawing.js", "/style.css"):
        answer = requests.get(server.url + path)
        assert answer.status_code == 200
        assert "http://" not in answer.text and "url(" not in answer.text
        assert answer.text.count("https://") == answer.text.count('placeholder="https://…"')
        again = requests.get(server.url + path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["/../serve.py", "/%2e%2e/serve.py", "/web/index.html", "/style"])
def test_no_path_leads_to_other_files(server, path):
    connection = requests.Session()
    request = requests.Request("GET", server.url).prepare()
    request.url = server.url + path  # as it stands, not normalised
    assert connection.send(request).status_code == 404


def test_openapi_describes_every_endpoint(server):
    description = requests.get(f"{server.url}/openapi.json").json()
    assert {
        "/v1/models",
        "/v1/models/{name}",
        "/v1/models/{name}/metadata",
        "/v1/models/{name}:predict",
        "/v1/read",
        "/v1/feedback",
        "/healthz",
        "/metrics",
    } <= set(description["paths"])
    predict = description["paths"]["/v1/models/{name}:predict"]["post"]
    assert "instances" in predict["requestBody"]["content"]["application/json"]["example"]


def test_metrics_count_requests(server):
    def read_counter(line: str) -> float:
        text = requests.get(f"{server.url}/metrics").text
        return sum(float(one.split()[-1]) for one in text.splitlines() if one.startswith(line))

    line = 'digits_requests_total{endpoint="healthz",status="200"}'
    before = read_counter(line)
    requests.get(f"{server.url}/healthz")
    requests.get(f"{server.url}/healthz")
    assert read_counter(line) == before + 2
    assert read_counter("digits_requests_in_progress ") == 1  # the one that asks


def test_unpacked_pictures_only(server):
    answer = requests.post(
        f"{server.url}/v1/read",
        data=b"x",
        headers={"Content-Type": "image/png", "Content-Encoding": "gzip"},
    )
    assert answer.status_code == 415


def test_picture_of_two_digits_is_no_image_to_classify(server):
    picture = encode(np.concatenate([draw("4"), draw("2")], axis=1))
    answer = requests.post(
        f"{server.url}/v1/models/digits:predict", json={"instances": [to_b64(picture)]}
    )
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("expected a picture of one digit, found 2; /v1/read")


def test_too_many_pixels_are_refused_unread(server):
    file = encode(np.zeros((2, 2), np.uint8))
    bomb = bytearray(file)
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2  # the width and height that it claims
    answer = requests.post(
        f"{server.url}/v1/read", data=bytes(bomb), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 400
    assert Image.MAX_IMAGE_PIXELS is not None  # left as it was
