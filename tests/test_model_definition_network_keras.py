"""Each kind of layer, each option, and how layers connect, against the same layers of Keras.

What stands under test is followed by a linear layer. Compared are logits and the gradients of the
images and of all weights, on odd sizes, with weights far from their initial values, and in a graph
that does not know the batch's size.
"""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from model_definition.architecture import parse_architecture
from model_definition.layer_kinds import ACTIVATIONS
from model_definition.network import build_network

v1 = tf.compat.v1
kl = keras.layers
IMAGE_SHAPE = (13, 7, 3)
IMAGES = np.random.default_rng(0).normal(size=(6, *IMAGE_SHAPE)).astype(np.float32)
LOGITS_GRADIENT = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)


def compare(text: str, *layers: keras.Layer, is_training: bool = False) -> None:
    """Compares a text with layers of Keras; both lack what follows the layers under test."""
    is_flat = "flatten" in text or "global_avgpool" in text
    weights, found = run_slim(
        text if "output" in text else text + ("\noutput" if is_flat else "\nflatten\noutput"),
        is_training=is_training,
    )
    if "output" not in text:
        layers = (*layers, kl.Flatten(), kl.Dense(5))
    expected = run_keras(keras.Sequential(layers), weights, is_training=is_training)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=2e-5 * np.abs(wanted).max())


def run_slim(text: str, *, is_training: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the weights in their order, and logits and gradients."""
    architecture = parse_architecture(
        text, filename="my.txt", image_shape=IMAGE_SHAPE, num_classes=5
    )
    generator = np.random.default_rng(2)
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, *IMAGE_SHAPE])
        logits, _ = build_network(
            architecture, images, is_training=is_training, global_step=tf.constant(0)
        )
        weights = []
        for variable in v1.global_variables():
            value = generator.normal(scale=0.4, size=variable.shape).astype(np.float32)
            weights.append(np.abs(value) + 0.3 if "variance" in variable.name else value)
            variable.load(weights[-1], session)
        gradients = tf.gradients(logits, [images, *v1.trainable_variables()], LOGITS_GRADIENT)
        return weights, session.run([logits, *gradients], {images: IMAGES})


def run_keras(
    model: keras.Model, weights: list[np.ndarray], *, is_training: bool
) -> list[np.ndarray]:
    """Returns logits and gradients of a model that is given the weights in the same order."""
    model(IMAGES)  # This makes its variables.
    model.set_weights(weights)
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = model(images, training=is_training)
    sources = [images, *(variable.value for variable in model.trainable_variables)]
    gradients = tape.gradient(logits, sources, LOGITS_GRADIENT)
    return [value.numpy() for value in (logits, *gradients)]


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "": {"padding": "same"},
    "padding=valid": {},
    "stride=2": {"strides": 2, "padding": "same"},
    "stride=2 padding=valid": {"strides": 2},
    "dilation=2x3": {"dilation_rate": (2, 3), "padding": "same"},
    "dilation=2x3 padding=valid": {"dilation_rate": (2, 3)},
    "bias=false": {"use_bias": False, "padding": "same"},
}
OBLONG: dict[str, dict[str, Any]] = {
    "stride=2x1": {"strides": (2, 1), "padding": "same"},
    "stride=1x3 padding=valid": {"strides": (1, 3)},
}


@pytest.mark.parametrize("options", [*CONVOLUTIONS, *OBLONG])
def test_conv(options):
    keras_options = {**CONVOLUTIONS, **OBLONG}[options]
    compare(f"conv 4 2x3 {options}", kl.Conv2D(4, (2, 3), activation="relu", **keras_options))


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_separable_conv(options):
    layer = kl.SeparableConv2D(4, (2, 3), activation="relu", **CONVOLUTIONS[options])
    compare(f"separable_conv 4 2x3 {options}", layer)


@pytest.mark.parametrize("bias", [True, False])
def test_dense_and_output(bias):
    option = f"bias={str(bias).lower()}"
    compare(
        f"flatten\ndense 4 {option}\noutput {option}",
        kl.Flatten(),
        kl.Dense(4, activation="relu", use_bias=bias),
        kl.Dense(5, use_bias=bias),
    )


@pytest.mark.parametrize("word", ["maxpool", "avgpool"])
@pytest.mark.parametrize(
    ("options", "keras_options"),
    [
        ("2x3", {"pool_size": (2, 3)}),
        ("2x3 padding=same", {"pool_size": (2, 3), "padding": "same"}),
        ("3x2 stride=2x1", {"pool_size": (3, 2), "strides": (2, 1)}),
        ("3x2 stride=1 padding=same", {"pool_size": (3, 2), "strides": 1, "padding": "same"}),
    ],
)
def test_pool(word, options, keras_options):
    layer = {"maxpool": kl.MaxPooling2D, "avgpool": kl.AveragePooling2D}[word]
    compare(f"{word} {options}", layer(**keras_options))


def test_global_avgpool():
    compare("conv 4 2x3\nglobal_avgpool", *conv(4), kl.GlobalAveragePooling2D())


def conv(filters: int, activation: str | None = "relu", **options: Any) -> list[keras.Layer]:
    return [kl.Conv2D(filters, (2, 3), padding="same", activation=activation, **options)]


def activate(word: str) -> keras.Layer:
    return kl.Activation({"swish": "silu", "none": "linear"}.get(word, word))


@pytest.mark.parametrize("word", [*ACTIVATIONS, "none"])
def test_activation_as_an_option(word):
    compare(
        f"conv 4 2x3 activation={word}\nseparable_conv 3 2x3 activation={word}\nflatten\n"
        f"dense 4 activation={word}",
        *conv(4, None),
        activate(word),
        kl.SeparableConv2D(3, (2, 3), padding="same"),
        activate(word),
        kl.Flatten(),
        kl.Dense(4),
        activate(word),
    )


@pytest.mark.parametrize("word", ACTIVATIONS)
def test_activation_as_a_line(word):
    compare(
        f"{word}\nflatten\ndense 4 activation=none\n{word}",
        activate(word),
        kl.Flatten(),
        kl.Dense(4),
        activate(word),
    )


@pytest.mark.parametrize("slope", [0.0, 0.05, 0.9])
def test_slope_of_leaky_relu(slope):
    compare(f"leaky_relu slope={slope}", kl.LeakyReLU(slope))


@pytest.mark.parametrize("word", ACTIVATIONS)
def test_pools_follow_an_activation_as_the_text_says(word):
    """Where the greatest number is negative, maxpool and gelu or swish do not commute."""
    compare(
        f"conv 4 2x3 activation={word}\nmaxpool 2x2 stride=1 padding=same\nmaxpool 3x2\n"
        f"conv 3 2x3 activation=none\n{word}\nmaxpool 2x2",
        *conv(4, None),
        activate(word),
        kl.MaxPooling2D(2, 1, "same"),
        kl.MaxPooling2D((3, 2)),
        *conv(3, None),
        activate(word),
        kl.MaxPooling2D(),
    )


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("epsilon", [0.001, 0.5, 1e-6])
def test_batchnorm_of_images(is_training, epsilon):
    compare(
        f"conv 4 2x3 bias=false activation=none\nbatchnorm epsilon={epsilon}\nrelu\nmaxpool 2x2",
        *conv(4, None, use_bias=False),
        kl.BatchNormalization(epsilon=epsilon),
        kl.ReLU(),
        kl.MaxPooling2D(),
        is_training=is_training,
    )


@pytest.mark.parametrize("is_training", [True, False])
def test_batchnorm_of_flat_numbers(is_training):
    compare(
        "flatten\ndense 4\nbatchnorm epsilon=0.01",
        kl.Flatten(),
        kl.Dense(4, activation="relu"),
        kl.BatchNormalization(epsilon=0.01),
        is_training=is_training,
    )


class Residual(keras.Layer):
    """What `residual … end` stands for."""

    def __init__(self, *body: keras.Layer, projection: keras.Layer | None = None):
        super().__init__()
        self.body = keras.Sequential(body)
        self.projection = projection or kl.Identity()

    def call(self, inputs):
        return self.body(inputs) + self.projection(inputs)


def project(filters: int, strides: int | tuple[int, int] = 1) -> keras.Layer:
    return kl.Conv2D(filters, 1, strides, padding="same")


RESIDUALS = {
    "identity of the images": (
        "residual\nconv 3 2x3\nend",
        lambda: [Residual(*conv(3))],
    ),
    "identity, then a pool": (
        "conv 4 2x3\nresidual\nconv 4 2x3\nconv 4 2x3 activation=none\nend\nrelu\nmaxpool 2x2",
        lambda: [*conv(4), Residual(*conv(4), *conv(4, None)), kl.ReLU(), kl.MaxPooling2D()],
    ),
    "pooled relu before the shortcut": (
        "conv 4 2x3\nmaxpool 2x2\nresidual\nconv 4 2x3\nend",
        lambda: [*conv(4), kl.MaxPooling2D(), Residual(*conv(4))],
    ),
    "projection to more channels": (
        "residual\nconv 4 2x3\nend",
        lambda: [Residual(*conv(4), projection=project(4))],
    ),
    "projection with a stride": (
        "residual\nconv 3 2x3 stride=2x1\nend",
        lambda: [Residual(*conv(3, strides=(2, 1)), projection=project(3, (2, 1)))],
    ),
    "projection with the body's strides together": (
        "residual\nconv 4 2x3 stride=2\nmaxpool 2x2 stride=1x2 padding=same\nbatchnorm\nend",
        lambda: [
            Residual(
                *conv(4, strides=2),
                kl.MaxPooling2D(2, (1, 2), "same"),
                kl.BatchNormalization(),
                projection=project(4, (2, 4)),
            )
        ],
    ),
    "flat identity": (
        "global_avgpool\nresidual\ndense 3\nend",
        lambda: [kl.GlobalAveragePooling2D(), Residual(kl.Dense(3, activation="relu"))],
    ),
    "flat projection": (
        "flatten\nresidual\ndense 4\nend",
        lambda: [kl.Flatten(), Residual(kl.Dense(4, activation="relu"), projection=kl.Dense(4))],
    ),
    "one within another": (
        "residual\nresidual\nconv 3 2x3\nend\nconv 4 2x3\nend",
        lambda: [Residual(Residual(*conv(3)), *conv(4), projection=project(4))],
    ),
    "one after another": (
        "repeat 2\nresidual\nconv 3 2x3\nend\nend",
        lambda: [Residual(*conv(3)), Residual(*conv(3))],
    ),
}


@pytest.mark.parametrize("case", RESIDUALS)
def test_residual(case):
    text, layers = RESIDUALS[case]
    compare(text, *layers(), is_training=True)


def test_l2_is_half_of_what_keras_calls_so():
    """TF-Slim adds l2 / 2 times the sum of squares."""
    text = "conv 4 2x3 l2=0.1\nseparable_conv 3 2x3 l2=0.2\nflatten\ndense 4 l2=0.3\noutput l2=0.4"
    architecture = parse_architecture(
        text, filename="my.txt", image_shape=IMAGE_SHAPE, num_classes=5
    )
    half = keras.regularizers.L2
    model = keras.Sequential(
        [
            *conv(4, kernel_regularizer=half(0.05)),
            kl.SeparableConv2D(
                3,
                (2, 3),
                padding="same",
                depthwise_regularizer=half(0.1),
                pointwise_regularizer=half(0.1),
            ),
            kl.Flatten(),
            kl.Dense(4, kernel_regularizer=half(0.15)),
            kl.Dense(5, kernel_regularizer=half(0.2)),
        ]
    )
    with tf.Graph().as_default(), v1.Session() as session:
        build_network(
            architecture, tf.constant(IMAGES), is_training=True, global_step=tf.constant(0)
        )
        losses = v1.losses.get_regularization_losses()
        session.run(v1.global_variables_initializer())
        weights, found = session.run([v1.global_variables(), losses])
    model(IMAGES)
    model.set_weights(weights)
    assert found == pytest.approx([float(loss) for loss in model.losses], rel=1e-5)
