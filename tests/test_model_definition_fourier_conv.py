"""Convolutions in frequencies: the same functions as TensorFlow's, with the same gradients."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import load_architecture, parse_architecture
from model_definition.fourier_conv import fourier_conv2d, saves_work
from model_definition.network import build_network

v1 = tf.compat.v1
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def gradients_of(function, *inputs):
    """Returns a function's outputs and its gradients, by a weighting of the outputs."""
    tensors = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = function(*tensors)
        weighting = np.random.default_rng(1).normal(size=outputs.shape)
        total = tf.reduce_sum(outputs * weighting)
    return [value.numpy() for value in (outputs, *tape.gradient(total, tensors))]


def assert_same(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


def direct(images, kernel):
    return tf.nn.conv2d(images, kernel, 1, "SAME")


SIZES = [  # images, kernel, filters; with odd and even periods both ways
    ((3, 14, 14, 5), (5, 5), 7),
    ((2, 9, 6, 3), (3, 5), 2),
    ((1, 6, 9, 2), (4, 2), 3),
    ((2, 5, 7, 2), (1, 3), 1),
    ((2, 3, 2, 2), (7, 6), 3),  # The kernel is larger than the image.
]


@pytest.mark.parametrize(("shape", "kernel_size", "filters"), SIZES)
def test_fourier_conv_is_the_direct_one(shape, kernel_size, filters):
    inputs = normal(*shape), normal(*kernel_size, shape[-1], filters)
    assert_same(gradients_of(fourier_conv2d, *inputs), gradients_of(direct, *inputs))


def test_fourier_conv_loses_no_more_than_the_direct_one():
    images, kernel = normal(4, 14, 14, 32), normal(5, 5, 32, 64)
    padded = np.pad(images.astype(np.float64), [(0, 0), (2, 2), (2, 2), (0, 0)])
    exact = sum(
        padded[:, row : row + 14, column : column + 14] @ kernel[row, column].astype(np.float64)
        for row in range(5)
        for column in range(5)
    )
    errors = [np.abs(f(images, kernel) - exact).max() for f in (fourier_conv2d, direct)]
    assert errors[0] < 2 * errors[1]


def test_frequencies_are_for_large_kernels_on_small_images():
    assert saves_work((14, 14), (5, 5), 32, 64)
    assert not saves_work((14, 14), (3, 3), 32, 64)
    assert not saves_work((14, 14), (5, 5), 2, 4)
    assert not saves_work((200, 200), (5, 5), 32, 64)


NETWORKS = {
    "every kind of layer": """
        conv 3 5x5
        maxpool 2x2
        conv 16 5x5 l2=0.1 bias=false activation=tanh
        conv 16 5x5
        maxpool 2x2
        conv 4 3x3 stride=2
        conv 4 3x3 dilation=2
        maxpool 2x2 stride=1
        flatten
        dense 8 l2=0.2
        dropout 0.5
        output
    """,
    "odd sizes": """
        conv 4 4x4 padding=valid
        maxpool 2x2
        conv 8 3x3
        flatten
        output bias=false
    """,
}


def train_graph(architecture, images, *, fast):
    """Returns logits, loss with regularisation, gradients and end points, and the variables."""
    with tf.Graph().as_default(), v1.Session() as session:
        placeholder = v1.placeholder(tf.float32, [None, *architecture.image_shape])
        step = tf.constant(3, tf.int64)
        logits, end_points = build_network(
            architecture, placeholder, is_training=True, seed=5, global_step=step, fast=fast
        )
        penalties = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        loss = tf.reduce_sum(tf.square(logits - 1.0)) + tf.add_n([*penalties, tf.constant(0.0)])
        variables = v1.trainable_variables()
        assert slim.get_model_variables() == variables
        session.run(v1.global_variables_initializer())
        fetches = [logits, loss, *tf.gradients(loss, variables), *end_points.values()]
        values = session.run(fetches, {placeholder: images})
        operations = [op.type for op in tf.compat.v1.get_default_graph().get_operations()]
        return values, [(v.op.name, v.shape) for v in variables], list(end_points), operations


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("image_shape", [(20, 12, 1), (20, 12, 3)])
def test_a_network_is_the_same_function_either_way(name, image_shape):
    text = re.sub("^ +", "", NETWORKS[name], flags=re.MULTILINE)
    architecture = parse_architecture(text, filename="m", image_shape=image_shape, num_classes=5)
    images = RANDOM.uniform(size=(7, *image_shape)).astype(np.float32)
    fast = train_graph(architecture, images, fast=True)
    slow = train_graph(architecture, images, fast=False)
    assert fast[1:3] == slow[1:3]
    assert_same(fast[0], slow[0])


def test_lenets_second_convolution_alone_is_in_frequencies():
    architecture = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    images = np.zeros((2, 28, 28, 1), np.float32)
    *_, fast = train_graph(architecture, images, fast=True)
    *_, slow = train_graph(architecture, images, fast=False)
    assert (fast.count("Conv2D"), slow.count("Conv2D")) == (1, 2)
