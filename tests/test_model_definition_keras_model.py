from __future__ import annotations

import numpy as np
import pytest

from model_definition.keras_model import build_keras_model, keras, name_variables
from tests.keras_fixtures import CHAIN, GLOBAL, make_weights, parse, predict
from tests.train_fixtures import make_examples

# Keras turns its variables into arrays in a way that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RESIDUAL = """\
conv 4 3x3
residual
conv 4 3x3
residual
conv 6 3x3 stride=2
end
end
residual
batchnorm
end
flatten
residual
dense 7
end
output
"""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return make_examples(7)[0]


@pytest.mark.parametrize("text", [CHAIN, GLOBAL, RESIDUAL], ids=["chain", "global", "residual"])
def test_answers_are_those_of_the_network(text, images):
    architecture = parse(text)
    weights = make_weights(architecture)
    model = build_keras_model(architecture, weights)
    probabilities = np.asarray(model(images, training=False))
    np.testing.assert_allclose(probabilities, predict(architecture, weights, images), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(probabilities) > 0.01


def test_sequential_unless_there_are_residual_blocks():
    made = {}
    for text in (GLOBAL, RESIDUAL):
        architecture = parse(text)
        made[text] = build_keras_model(architecture, make_weights(architecture))
    assert isinstance(made[GLOBAL], keras.Sequential)
    assert not isinstance(made[RESIDUAL], keras.Sequential)
    names = [layer.name for layer in made[GLOBAL].layers]
    assert names == ["rescaling", "conv1", "maxpool1", "global_avgpool1", "output"]


def test_variables_have_the_names_of_the_checkpoint():
    architecture = parse(RESIDUAL)
    weights = make_weights(architecture)
    model = build_keras_model(architecture, weights)
    variables = name_variables(model, architecture)
    assert set(variables) == set(weights)
    assert len(variables) == len(model.weights)
    for name, variable in variables.items():
        np.testing.assert_array_equal(variable.value.numpy(), weights[name], err_msg=name)
    assert model.count_params() == architecture.num_parameters + 2 * 6  # two moving averages


def test_pixels_of_any_number_type_are_the_same(images):
    architecture = parse(GLOBAL)
    model = build_keras_model(architecture, make_weights(architecture))
    expected = np.asarray(model(images))
    for dtype in (np.int64, np.float32, np.float64):
        np.testing.assert_array_equal(np.asarray(model(images.astype(dtype))), expected)


def test_configuration_keeps_what_training_anew_needs():
    architecture = parse(CHAIN)
    model = build_keras_model(architecture, make_weights(architecture))
    conv = model.get_layer("conv1").get_config()
    assert conv["kernel_initializer"]["class_name"] == "HeUniform"
    assert conv["kernel_regularizer"]["config"] == {"l2": 0.0005}  # times the sum of squares
    assert not model.get_layer("separable_conv1").use_bias
    auto = {name: model.get_layer(name).kernel_initializer.scale for name in ("conv2", "output")}
    assert auto == {"conv2": 2.0, "output": 0.01}  # conv2 is followed by elu
    penalty = sum(float(loss) for loss in model.losses)
    weights = make_weights(architecture)
    halves = {
        "conv1/weights": 1e-3,
        "separable_conv1/depthwise_weights": 0.02,
        "separable_conv1/pointwise_weights": 0.02,
        "dense3/weights": 0.1,
        "output/weights": 1e-4,
    }
    expected = sum(l2 / 2 * float(np.sum(weights[name] ** 2)) for name, l2 in halves.items())
    assert penalty == pytest.approx(expected, rel=1e-5)


def test_missing_and_misshapen_weights_are_errors():
    architecture = parse(GLOBAL)
    weights = make_weights(architecture)
    with pytest.raises(ValueError, match="shape"):
        build_keras_model(architecture, {**weights, "conv1/biases": np.zeros(5)})
    del weights["conv1/biases"]
    with pytest.raises(KeyError, match="conv1/biases"):
        build_keras_model(architecture, weights)
