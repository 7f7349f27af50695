from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from predict.exports.table import find_format
from tests.export_fixtures import EVERY_KIND, make_run, make_source
from tests.train_fixtures import CLASS_NAMES, write_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_model")
    manifest = write_dataset(folder / "tiny")
    return make_source(make_run(folder / "net", folder / "tiny", manifest, EVERY_KIND))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("saved_model")
    find_format("saved_model").write(made[0], folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


def test_pixels_are_the_default(signatures, made):
    _, reference = made
    found = signatures["serving_default"](pixels=tf.constant(reference.images))
    assert set(found) == {"classes", "probabilities"}
    np.testing.assert_allclose(found["probabilities"], reference.probabilities, atol=1e-6)
    likeliest = [CLASS_NAMES[label] for label in reference.probabilities.argmax(axis=1)]
    assert [name.decode() for name in found["classes"].numpy()] == likeliest


def test_png_files_answer_as_their_pixels(signatures, made):
    _, reference = made
    files = [tf.io.encode_png(image).numpy() for image in reference.images[:4]]
    found = signatures["image_bytes"](image_bytes=tf.constant(files))
    expected = reference.probabilities[:4]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert found["classes"].shape == [4]


def test_files_of_other_kinds_and_sizes(signatures):
    grey = np.full((26, 18, 1), 90, np.uint8)
    grey[13:] = 200
    rgba = np.concatenate([np.repeat(grey, 3, axis=2), np.full_like(grey, 255)], axis=2)
    small = np.repeat(grey[::2, ::2], 3, axis=2)
    small[6] = 145  # Half of the two rows above, half of the two below: what averaging gives.
    files = [
        tf.io.encode_png(grey).numpy(),
        tf.io.encode_png(rgba).numpy(),
        tf.io.encode_jpeg(grey, quality=100).numpy(),
    ]
    found = signatures["image_bytes"](image_bytes=tf.constant(files))["probabilities"]
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=2e-3)


def test_file_that_is_no_picture_is_an_error(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        signatures["image_bytes"](image_bytes=tf.constant([b"junk"]))
