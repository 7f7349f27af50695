import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train_fixtures import MODEL, make_config, write_dataset, write_model
from train import loop
from train.loop import train
from train.optimizer import learning_rate_at
from train.summaries import _draw_filters


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder of 14 steps, two epochs, with scalars after every fourth step."""
    folder = tmp_path_factory.mktemp("summaries")
    write_dataset(folder / "data")
    config = make_config(write_model(folder), epochs=2.0, summary_every_steps=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "export_litert", lambda *_: None)
        train(config, data_dir=folder / "data", logdir=folder / "run")
    return folder / "run", config


def read_events(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def test_scalars_of_training(run):
    logdir, config = run
    events = read_events(logdir / "train")
    names = {"loss", "accuracy", "learning_rate", "gradient_norm"}
    assert set(events.Tags()["scalars"]) == names | {"images_per_second", "input_wait_share"}
    values = {name: events.Scalars(name) for name in events.Tags()["scalars"]}
    for name, scalars in values.items():
        assert [scalar.step for scalar in scalars] == [4, 8, 12], name
        assert np.all(np.isfinite([scalar.value for scalar in scalars]))
    rates = learning_rate_at(
        tf.constant([3, 7, 11]), config, total_steps=14, steps_an_epoch=53 / 8
    ).numpy()
    assert [scalar.value for scalar in values["learning_rate"]] == pytest.approx(rates)
    assert all(scalar.value > 0 for scalar in values["images_per_second"])
    assert all(0 <= scalar.value <= 1 for scalar in values["input_wait_share"])
    assert all(0 <= scalar.value <= 1 for scalar in values["accuracy"])
    assert all(scalar.value > 0 for scalar in values["gradient_norm"])


def test_validation_is_a_run_of_its_own(run):
    logdir, _ = run
    events = read_events(logdir / "validation")
    history = json.loads((logdir / "history.json").read_text(encoding="utf-8"))
    assert set(events.Tags()["scalars"]) == {"accuracy", "loss", "mean_squared_error"}
    for name in events.Tags()["scalars"]:
        found = [(scalar.step, scalar.value) for scalar in events.Scalars(name)]
        assert found == [(entry["step"], pytest.approx(entry[name])) for entry in history]
    assert [entry["step"] for entry in history] == [7, 14]


def decode(image):
    return np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))


def test_images_and_filters(run):
    logdir, _ = run
    events = read_events(logdir / "train")
    assert set(events.Tags()["images"]) == {
        *(f"images/image/{i}" for i in range(8)),
        "filters/image",
    }
    for i in range(8):
        steps = [image.step for image in events.Images(f"images/image/{i}")]
        assert steps == [7, 14]
        assert decode(events.Images(f"images/image/{i}")[0]).shape == (13, 9, 3)
    # Four filters of 3x3 in two rows of two, a pixel between them, eight times enlarged.
    assert decode(events.Images("filters/image")[-1]).shape == (64, 64, 3)


def test_histograms_of_weights_and_activations(run):
    logdir, _ = run
    events = read_events(logdir / "train")
    layers = ["conv1", "maxpool1", "flatten1", "dropout1", "output"]
    expected = {f"{layer}/output" for layer in layers}
    expected |= {
        f"{layer}/{kind}" for layer in ("conv1", "output") for kind in ("weights", "biases")
    }
    assert set(events.Tags()["histograms"]) == expected
    assert events.Histograms("conv1/weights")[-1].histogram_value.num == 3 * 3 * 3 * 4


def test_graph_flags_and_architecture(run):
    logdir, _ = run
    events = read_events(logdir / "train")
    names = {node.name for node in events.Graph().node}
    assert {"conv1/weights", "output/biases"} <= names
    texts = {
        tag.removesuffix("/text_summary"): events.Tensors(tag)[0]
        .tensor_proto.string_val[0]
        .decode()
        for tag in events.Tags()["tensors"]
    }
    assert set(texts) == {"flags", "architecture"}
    assert "| learning_rate | 0.01 |\n| " in texts["flags"]
    assert "| max_steps | null |\n" in texts["flags"]
    assert texts["architecture"].replace("    ", "") == MODEL


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (5, 2, 3), (32, 6, 6)])
def test_filters_are_tiled_in_their_order(n, rows, columns):
    kernels = np.random.default_rng(0).normal(size=(3, 5, 1, n)).astype(np.float32)
    picture = _draw_filters(tf.constant(kernels)).numpy()
    assert picture.shape == (1, rows * 4 * 8, columns * 6 * 8, 1)
    assert picture.min() >= 0
    assert picture.max() == pytest.approx(1, abs=1e-6)
    small = picture[0, ::8, ::8, 0]
    scaled = (kernels - kernels.min()) / (kernels.max() - kernels.min())
    for i in range(n):
        row, column = divmod(i, columns)
        tile = small[row * 4 : row * 4 + 3, column * 6 : column * 6 + 5]
        np.testing.assert_allclose(tile, scaled[:, :, 0, i], atol=1e-5)
