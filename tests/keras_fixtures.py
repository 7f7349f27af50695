"""What the tests of everything Keras share: a text that says everything, and weights for any."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import Architecture, parse_architecture
from model_definition.layer_kinds import Options
from model_definition.network import build_network
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE

# Every kind of layer and every option but those of residual blocks, which Keras cannot chain.
CHAIN = """\
conv 4 3x2 activation=gelu l2=1e-3 initializer=he_uniform
batchnorm momentum=0.9 epsilon=1e-05
relu
separable_conv 6 2x3 padding=valid stride=2 bias=false activation=swish l2=0.02
leaky_relu slope=0.3
conv 5 3x3 dilation=2x1 activation=none
elu
conv 5 1x1 stride=2x1 activation=leaky_relu initializer=glorot_normal
maxpool 3x2 stride=1 padding=same
avgpool 2x1 padding=same
gelu
swish
separable_conv 3 1x1 activation=elu initializer=lecun_normal
flatten
tanh
dense 7 activation=sigmoid bias=false
dropout 0.25
dense 6 activation=tanh initializer=glorot_uniform
batchnorm
sigmoid
dense 6 initializer=he_normal l2=0.1
output bias=false l2=1e-4
"""
GLOBAL = "conv 4 3x3 stride=3\nmaxpool 2x2\nglobal_avgpool\noutput initializer=he_uniform\n"


def parse(text: str) -> Architecture:
    return parse_architecture(
        text, filename="tiny.txt", image_shape=IMAGE_SHAPE, num_classes=len(CLASS_NAMES)
    )


def layers_of(text: str) -> list[tuple[str, str, Options]]:
    return [(layer.name, layer.kind, layer.options) for layer in parse(text).layers]


def make_weights(architecture: Architecture, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns a positive value for every model variable, so that no activation is dead."""
    generator = np.random.default_rng(seed)
    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, *architecture.image_shape])
        build_network(architecture, images, is_training=False)
        shapes = {v.op.name: v.shape.as_list() for v in slim.get_model_variables()}
    return {
        name: np.abs(generator.normal(0.05, 0.2, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def predict(
    architecture: Architecture, weights: dict[str, np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Returns what the TF-Slim network makes of uint8 images: probabilities."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits, _ = build_network(
            architecture, tf.constant(images / np.float32(255)), is_training=False
        )
        for variable in slim.get_model_variables():
            variable.load(weights[variable.op.name], session)
        return session.run(tf.nn.softmax(logits))
