"""The corrections that serve.py keeps, as a source of images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.conversion import convert
from data_prep.dataset_folder import ConversionOptions
from data_prep.feedback import read_feedback
from data_prep.schema import ExampleEncoder, encode_features

SHAPE = (13, 9, 3)
FACTS = {"image_shape": SHAPE, "image_preparation": "resize", "class_names": ["ant", "bee", "cow"]}


def make_image(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, SHAPE, dtype=np.uint8)


def frame(data: bytes) -> bytes:
    return tfrecord.frame(data, tfrecord.crc32c(data))


def encode(n: int, label: int, shape=SHAPE) -> bytes:
    return ExampleEncoder(shape, "raw").encode(make_image(n).tobytes(), label)


@pytest.fixture
def folder(tmp_path):
    """300 corrections, which do not fit into one batch."""
    folder = tmp_path / "feedback"
    folder.mkdir()
    (folder / "feedback.json").write_text(json.dumps(FACTS))
    records = b"".join(frame(encode(n, n % 3)) for n in range(300))
    (folder / "feedback.tfrecord").write_bytes(records)
    return folder


def test_all_are_read_in_order(folder):
    source = read_feedback(folder)
    assert source.class_names == ("ant", "bee", "cow")
    assert source.image_preparation == "resize"
    assert source.splits["train"].num_examples == 300
    batches = list(source.splits["train"].read())
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(images, [make_image(n) for n in range(300)])
    np.testing.assert_array_equal(labels, [n % 3 for n in range(300)])


def test_what_is_appended_while_it_is_read_waits_for_the_next_time(folder):
    source = read_feedback(folder)
    with (folder / "feedback.tfrecord").open("ab") as file:
        file.write(frame(encode(300, 0)))
    assert sum(len(labels) for _, labels in source.splits["train"].read()) == 300


def test_unfinished_record_is_left_out(folder, capsys):
    with (folder / "feedback.tfrecord").open("ab") as file:
        file.write(frame(encode(300, 0))[:-5])
    assert read_feedback(folder).splits["train"].num_examples == 300
    assert "record 300 (at byte " in capsys.readouterr().err


def test_preparation_reaches_the_manifest(folder, tmp_path):
    conversion = convert(ConversionOptions("feedback"), data_dir=tmp_path / "d", from_dir=folder)
    assert conversion.manifest.image_preparation == "resize"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("feedback.tfrecord", None, r"feedback\.tfrecord: missing; name the folder"),
        ("feedback.json", None, r"feedback\.json: missing; name the folder"),
        ("feedback.json", b"{", r"feedback\.json: not what serve\.py writes \("),
        ("feedback.json", b'{"image_shape": [13, 9, 3]}', r"feedback\.json: not what serve\.py"),
        ("feedback.tfrecord", b"", r"holds no correction yet"),
        ("feedback.tfrecord", frame(encode(0, 3)), r"record 0 .*with a label below 3, found"),
        (
            "feedback.tfrecord",
            frame(encode(0, 0, (9, 13, 3))),
            r"expected an image of \(13, 9, 3\)",
        ),
        ("feedback.tfrecord", frame(b"x"), r"record 0 .*: not a tf\.train\.Example; restore"),
        ("feedback.tfrecord", frame(encode(0, 0))[:-1] + b"\0", r"of its data does not match"),
    ],
)
def test_damage_is_named(folder, name, content, message):
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_feedback(folder)


def test_features_of_every_kind_are_encoded_as_tensorflow_does():
    import tensorflow as tf

    features: dict[str, int | bytes | tuple[float, ...]]
    features = {"b": (0.5, -1.25), "a": 70_000, "c": b"\0\xff" * 100}
    example = tf.train.Example()
    example.features.feature["a"].int64_list.value.append(70_000)
    example.features.feature["b"].float_list.value.extend([0.5, -1.25])
    example.features.feature["c"].bytes_list.value.append(b"\0\xff" * 100)
    assert encode_features(features) == example.SerializeToString(deterministic=True)
