"""What Keras calls what our texts say, where the two words differ."""

from __future__ import annotations

from collections.abc import Mapping

ACTIVATIONS: Mapping[str, str] = {  # our word: Keras's
    "relu": "relu",
    "leaky_relu": "leaky_relu",  # as a word it has Keras's own slope, 0.2
    "elu": "elu",
    "gelu": "gelu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "none": "linear",
}
INITIALIZERS: Mapping[str, str] = {  # our word: Keras's class
    "he_normal": "HeNormal",
    "he_uniform": "HeUniform",
    "glorot_normal": "GlorotNormal",
    "glorot_uniform": "GlorotUniform",
    "lecun_normal": "LecunNormal",
}

_LINEAR = {"weights": "kernel", "biases": "bias"}
# By kind, in Keras's order: a variable's name in our layer and its attribute of Keras's.
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "conv": _LINEAR,
    "separable_conv": {
        "depthwise_weights": "depthwise_kernel",
        "pointwise_weights": "pointwise_kernel",
        "biases": "bias",
    },
    "dense": _LINEAR,
    "output": _LINEAR,
    "batchnorm": {
        "gamma": "gamma",
        "beta": "beta",
        "moving_mean": "moving_mean",
        "moving_variance": "moving_variance",
    },
}
