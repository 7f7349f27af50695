"""Builds the Keras model of an architecture, with the weights that TF-Slim trained.

It takes pixels as the records hold them and normalises them itself, so that whoever calls it cannot
do it differently; its output is the probabilities. Its layers carry the architecture's names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from model_definition.architecture import IMAGES, Architecture, Layer
from model_definition.initializers import auto_scale
from model_definition.keras_words import ACTIVATIONS, INITIALIZERS, VARIABLES

# Whatever backend the user's own settings name: TensorFlow is the one that is installed.
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras

RESCALING_NAME = "rescaling"
_MODEL_NAME = "network"  # else Keras counts the models of the process


def build_keras_model(architecture: Architecture, weights: Mapping[str, np.ndarray]) -> keras.Model:
    """Builds a model and sets its weights.

    Args:
      architecture: the network.
      weights: every model variable of the TF-Slim network under its name, moving averages of
        `batchnorm` included.

    Returns:
      A `Sequential` model, or a `Functional` one where there are residual blocks. Its input is
      pixels of 0 to 255, [n, height, width, channels] of any number type; its output probabilities,
      float32 [n, num_classes]. It is not compiled.

    Raises:
      KeyError: a variable is missing in `weights`.
      ValueError: a variable has another shape than the layer's.
    """
    images = keras.Input(architecture.image_shape, name=IMAGES)
    rescaling = keras.layers.Rescaling(1 / 255, name=RESCALING_NAME)
    if any(layer.kind == "residual" for layer in architecture.layers):
        model = _connect(architecture, images, rescaling(images))
    else:
        layers = [_build_layer(architecture, layer) for layer in architecture.layers]
        model = keras.Sequential([images, rescaling, *layers], name=_MODEL_NAME)
    for name, variable in name_variables(model, architecture).items():
        variable.assign(weights[name])
    return model


def name_variables(model: keras.Model, architecture: Architecture) -> dict[str, keras.Variable]:
    """Finds the model variables of the TF-Slim network in a Keras model.

    Args:
      model: from `build_keras_model`, or loaded from what that wrote.
      architecture: the network that it was built from.

    Returns:
      The variables by the names that the checkpoints give them, such as `conv1/weights`.
    """
    variables: dict[str, keras.Variable] = {}
    for layer in architecture.layers:
        if layer.kind in VARIABLES:
            _name_layer(variables, layer.name, model.get_layer(layer.name), VARIABLES[layer.kind])
        if "projection_stride" in layer.options:
            projection = model.get_layer(_projection_name(layer))
            _name_layer(variables, f"{layer.name}/projection", projection, VARIABLES["conv"])
    return variables


def _name_layer(
    variables: dict[str, keras.Variable], scope: str, layer: keras.Layer, names: Mapping[str, str]
) -> None:
    for name, attribute in names.items():
        variable = getattr(layer, attribute)
        if variable is not None:  # Layers without bias have None.
            variables[f"{scope}/{name}"] = variable


def _connect(
    architecture: Architecture, images: keras.KerasTensor, rescaled: keras.KerasTensor
) -> keras.Model:
    """Returns the functional model of a network with residual blocks."""
    net = rescaled
    outputs = {IMAGES: rescaled}
    for layer in architecture.layers:
        if layer.kind == "residual":
            assert layer.shortcut is not None, "every residual has one"
            shortcut = outputs[layer.shortcut]
            if "projection_stride" in layer.options:
                shortcut = _build_projection(layer)(shortcut)
            net = keras.layers.Add(name=layer.name)([net, shortcut])
        else:
            net = _build_layer(architecture, layer)(net)
        outputs[layer.name] = net
    return keras.Model(images, net, name=_MODEL_NAME)


def _projection_name(layer: Layer) -> str:
    return f"{layer.name}_projection"  # Keras allows no slash in a name.


def _build_projection(layer: Layer) -> keras.Layer:
    units = layer.output_shape[-1]
    common = {"kernel_initializer": _variance(1.0), "name": _projection_name(layer)}
    if len(layer.output_shape) == 1:
        return keras.layers.Dense(units, **common)
    stride = layer.options["projection_stride"]
    return keras.layers.Conv2D(units, (1, 1), strides=stride, padding="same", **common)


def _build_layer(architecture: Architecture, layer: Layer) -> keras.Layer:
    options = layer.options
    match layer.kind:
        case "conv":
            weights = _weights_options(architecture, layer, "kernel")
            return keras.layers.Conv2D(**_sliding_options(layer), **weights)
        case "separable_conv":
            weights = _weights_options(architecture, layer, "depthwise", "pointwise")
            return keras.layers.SeparableConv2D(**_sliding_options(layer), **weights)
        case "dense":
            weights = _weights_options(architecture, layer, "kernel")
            activation = ACTIVATIONS[options["activation"]]
            return keras.layers.Dense(options["units"], activation=activation, **weights)
        case "output":
            # The softmax is within the layer, where Keras's loss finds the logits before it: the
            # logarithm that it takes of probabilities is cut off at 1e-7.
            weights = _weights_options(architecture, layer, "kernel")
            return keras.layers.Dense(layer.output_shape[0], activation="softmax", **weights)
        case "maxpool" | "avgpool":
            pool = {"maxpool": "MaxPooling2D", "avgpool": "AveragePooling2D"}[layer.kind]
            return getattr(keras.layers, pool)(
                options["pool_size"], options["stride"], options["padding"], name=layer.name
            )
        case "leaky_relu":
            return keras.layers.LeakyReLU(options["slope"], name=layer.name)
        case "batchnorm":
            return keras.layers.BatchNormalization(**options, name=layer.name)
        case "dropout":
            return keras.layers.Dropout(options["rate"], name=layer.name)
        case "global_avgpool":
            return keras.layers.GlobalAveragePooling2D(name=layer.name)
        case "flatten":
            return keras.layers.Flatten(name=layer.name)
        case activation:
            return keras.layers.Activation(ACTIVATIONS[activation], name=layer.name)


def _sliding_options(layer: Layer) -> dict[str, Any]:
    options = layer.options
    return {
        "filters": options["filters"],
        "kernel_size": options["kernel_size"],
        "strides": options["stride"],
        "padding": options["padding"],
        "dilation_rate": options["dilation"],
        "activation": ACTIVATIONS[options["activation"]],
    }


def _weights_options(architecture: Architecture, layer: Layer, *kernels: str) -> dict[str, Any]:
    """Returns what layers with weights have in common; the rest for each of their kernels."""
    options = layer.options
    common: dict[str, Any] = {"use_bias": options["bias"], "name": layer.name}
    for kernel in kernels:
        common[f"{kernel}_initializer"] = _initializer(architecture, layer, kernel)
        # TF-Slim adds l2 / 2 times the sum of squares, Keras l2 times.
        l2 = options["l2"]
        common[f"{kernel}_regularizer"] = keras.regularizers.L2(l2 / 2) if l2 else None
    return common


def _initializer(
    architecture: Architecture, layer: Layer, kernel: str
) -> keras.initializers.Initializer:
    word = layer.options["initializer"]
    if word in INITIALIZERS:
        return getattr(keras.initializers, INITIALIZERS[word])()
    if kernel == "depthwise":  # Keras counts every channel as an input of each of them.
        return _variance(float(layer.input_shape[-1]))
    following = architecture.layers[architecture.layers.index(layer) + 1 :]
    activation = layer.options.get("activation", "none")
    return _variance(auto_scale(layer.kind, activation, following[0].kind if following else ""))


def _variance(scale: float) -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal")
