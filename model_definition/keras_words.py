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


def auto_scale(kind: str, activation: str, next_kind: str) -> float:
    """Returns what `initializer=auto` means, as `network.py` has it.

    Args:
      kind: of the layer.
      activation: its own.
      next_kind: the kind of the layer that follows, which may be its activation.

    Returns:
      The scale of Keras's `VarianceScaling`: the variance of the weights times their inputs.
    """
    if kind == "output":
        return 0.01
    word = next_kind if activation == "none" else activation
    return 2.0 if word in ("relu", "leaky_relu", "elu", "gelu", "swish") else 1.0
