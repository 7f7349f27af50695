"""Turns the layers of a Keras model into lines of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_definition.initializers import auto_scale
from model_definition.keras_import.chain import Inexpressible, KerasLayer, read_layer, shown
from model_definition.keras_import.options import (
    ACTIVATION_LAYERS,
    Options,
    left_out,
    read_activation,
    read_number,
)
from model_definition.keras_words import INITIALIZERS
from model_definition.layer_kinds import LAYER_KINDS


@dataclass
class Line:
    """A line of a text to be.

    Attributes:
      kind: its first word.
      layer: what it expresses.
      arguments: its other words.
      options: its options, those of the default value included.
      scale: of an initialiser that the text has no word for, unless it is `auto` or a usual one.
    """

    kind: str
    layer: KerasLayer
    arguments: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    scale: Any = None

    def text(self, next_kind: str) -> str:
        """Returns the line without options of the default value.

        Args:
          next_kind: of the next line, on which `auto` depends.
        """
        options = dict(self.options)
        if self.scale is not None:
            auto = auto_scale(self.kind, options.get("activation", "none"), next_kind)
            options["initializer"] = "auto" if self.scale == auto else _OF_SCALE[self.scale]
        words = [self.kind, *self.arguments]
        for name, option in LAYER_KINDS[self.kind].options.items():
            default = self.arguments[0] if option.default.isupper() else option.default
            if options.get(name, default) != default:
                words.append(f"{name}={options[name]}")
        return " ".join(words)


_OF_SCALE = {0.01: "auto", 1.0: "lecun_normal", 2.0: "he_normal"}


def translate_layer(layer: KerasLayer, *, is_flat: bool) -> tuple[list[Line], list[str]]:
    """Expresses a layer.

    Args:
      layer: any but the last.
      is_flat: whether what it takes is flat, and no images.

    Returns:
      Its lines, perhaps none, and notes about it.

    Raises:
      Inexpressible: it has no words in the text.
    """
    name = layer.class_name
    if name == "Lambda":
        raise Inexpressible("holds code of its own, which is never run")
    _require_own(layer)
    if name in ACTIVATION_LAYERS:
        kind, words = read_activation(layer)
        if kind == "softmax":
            raise Inexpressible("softmax belongs to the end")
        return [Line(kind, layer, options=words)] if kind != "none" else [], []
    if name not in _TRANSLATORS:
        is_model = "layers" in layer.config
        raise Inexpressible("a model within the model" if is_model else "there is no such layer")
    options = Options(layer)
    if name == "BatchNormalization":
        last = 1 if is_flat else 3
        options.require("axis", -1, last, [last])
    lines = _TRANSLATORS[name](layer, options)
    options.require_all_taken()
    return lines, options.notes


def translate_output(layer: KerasLayer, *, has_softmax: bool) -> tuple[list[Line], list[str]]:
    """Expresses the last layer, which must be dense.

    Args:
      layer: the last one, a softmax of its own aside.
      has_softmax: whether there is such a one.

    Returns:
      Its line and notes about it.

    Raises:
      Inexpressible: it is another layer, or has another activation than softmax.
    """
    _require_own(layer)
    if layer.class_name != "Dense":
        raise Inexpressible("the last layer, expected a Dense with softmax")
    options = Options(layer)
    options.take_whole("units")
    activation, _ = options.take_activation()
    if activation not in ("softmax", "none"):
        raise Inexpressible(f"the last layer has {activation}, expected softmax")
    if activation == "softmax" and has_softmax:
        raise Inexpressible("softmax twice, in it and in a layer after it")
    if activation == "none" and not has_softmax:
        options.notes.append("gives logits; output gives their softmax")
    line = _weigh(Line("output", layer), options, "kernel")
    options.require_all_taken()
    return [line], options.notes


def _require_own(layer: KerasLayer) -> None:
    if not layer.is_own:
        raise Inexpressible("a custom object, whose code is never run")


def _translate_conv(layer: KerasLayer, options: Options) -> list[Line]:
    options.require("groups", 1)
    return _translate_sliding("conv", layer, options, "kernel")


def _translate_separable_conv(layer: KerasLayer, options: Options) -> list[Line]:
    options.require("depth_multiplier", 1)
    options.require("groups", 1)
    return _translate_sliding("separable_conv", layer, options, "pointwise", "depthwise")


def _translate_sliding(kind: str, layer: KerasLayer, options: Options, *kernels: str) -> list[Line]:
    options.require("data_format", "channels_last", None)
    line = Line(kind, layer, (options.take_whole("filters"), options.take_size("kernel_size")))
    line.options["stride"] = options.take_stride("strides")
    line.options["dilation"] = options.take_stride("dilation_rate")
    _take_padding(line, options)
    return _activate(_weigh(line, options, *kernels), options)


def _translate_dense(layer: KerasLayer, options: Options) -> list[Line]:
    line = Line("dense", layer, (options.take_whole("units"),))
    return _activate(_weigh(line, options, "kernel"), options)


def _activate(line: Line, options: Options) -> list[Line]:
    """Adds the activation to a line, or puts it into one of its own where it needs options."""
    activation, words = options.take_activation()
    if activation == "softmax":
        raise Inexpressible("softmax belongs to the last layer")
    if words.get("slope", "0.2") == "0.2":
        line.options["activation"] = activation
        return [line]
    line.options["activation"] = "none"
    return [line, Line(activation, line.layer, options=words)]


def _weigh(line: Line, options: Options, *kernels: str) -> Line:
    """Adds what layers with weights have; of two kernels the first is asked."""
    bias = options.take("use_bias", True)
    if not isinstance(bias, bool):
        raise Inexpressible(f"use_bias is {shown(bias)}, expected true or false")
    line.options["bias"] = str(bias).lower()
    initializers = [options.take(f"{kernel}_initializer") for kernel in kernels]
    regularizers = [options.take(f"{kernel}_regularizer") for kernel in kernels]
    if initializers[0] is not None:
        _add_initializer(line, read_layer(initializers[0]), options.notes)
    if any(regularizer != regularizers[0] for regularizer in regularizers):
        options.notes.append(left_out(f"its {kernels[1]}_regularizer"))
    if regularizers[0] is not None:
        _add_regularizer(line, read_layer(regularizers[0]), options.notes)
    return line


def _add_initializer(line: Line, initializer: KerasLayer, notes: list[str]) -> None:
    words = {theirs: ours for ours, theirs in INITIALIZERS.items()}
    config = initializer.config
    kind = tuple(config.get(name) for name in ("mode", "distribution", "scale"))
    if initializer.class_name in words:
        line.options["initializer"] = words[initializer.class_name]
    elif initializer.class_name == "VarianceScaling" and kind in _SCALINGS:
        line.options["initializer"] = _SCALINGS[kind]
    elif initializer.class_name == "VarianceScaling" and kind in _NORMALS:
        line.scale = config["scale"]
    else:
        notes.append(left_out(f"its initializer {shown(initializer.class_name)}"))


# Keras 2 wrote some initialisers so: (mode, distribution, scale).
_SCALINGS: Mapping[tuple[Any, ...], str] = {
    ("fan_in", "uniform", 2.0): "he_uniform",
    ("fan_avg", "uniform", 1.0): "glorot_uniform",
    ("fan_avg", "truncated_normal", 1.0): "glorot_normal",
}
_NORMALS = [("fan_in", "truncated_normal", scale) for scale in _OF_SCALE]


def _add_regularizer(line: Line, regularizer: KerasLayer, notes: list[str]) -> None:
    config = regularizer.config
    if regularizer.class_name not in ("L2", "L1L2") or config.get("l1"):
        notes.append(left_out(f"its regularizer {shown(regularizer.class_name)}"))
    elif config["l2"]:
        # Keras adds l2 times the sum of squares, TF-Slim half of that.
        line.options["l2"] = read_number(2 * config["l2"], "l2")


def _translate_pool(layer: KerasLayer, options: Options) -> list[Line]:
    kind = {"MaxPooling2D": "maxpool", "AveragePooling2D": "avgpool"}[layer.class_name]
    options.require("data_format", "channels_last", None)
    size = options.take_size("pool_size")
    line = Line(kind, layer, (size,))
    height, width = size.split("x")
    stride = options.take_stride("strides") if layer.config.get("strides") else size
    options.take("strides")
    # As the default is written, so that it can be left out.
    line.options["stride"] = size if stride in (height, size) and height == width else stride
    _take_padding(line, options)
    return [line]


def _take_padding(line: Line, options: Options) -> None:
    padding = options.take("padding", "valid")
    if padding not in ("valid", "same"):
        raise Inexpressible(f"padding is {shown(padding)}, expected same or valid")
    line.options["padding"] = padding


def _translate_global_avgpool(layer: KerasLayer, options: Options) -> list[Line]:
    options.require("data_format", "channels_last", None)
    return [Line("global_avgpool", layer)]


def _translate_flatten(layer: KerasLayer, options: Options) -> list[Line]:
    options.require("data_format", "channels_last", None)
    return [Line("flatten", layer)]


def _translate_dropout(layer: KerasLayer, options: Options) -> list[Line]:
    return [Line("dropout", layer, (options.take_number("rate"),))]


def _translate_batchnorm(layer: KerasLayer, options: Options) -> list[Line]:
    options.require("center", True)
    options.require("scale", True)
    options.take("renorm_momentum")  # It has no effect without `renorm`, which is not taken.
    line = Line("batchnorm", layer)
    line.options["momentum"] = options.take_number("momentum", 0.99)
    line.options["epsilon"] = options.take_number("epsilon", 0.001)
    return [line]


_TRANSLATORS: Mapping[str, Callable[[KerasLayer, Options], list[Line]]] = {
    "Conv2D": _translate_conv,
    "SeparableConv2D": _translate_separable_conv,
    "MaxPooling2D": _translate_pool,
    "AveragePooling2D": _translate_pool,
    "GlobalAveragePooling2D": _translate_global_avgpool,
    "BatchNormalization": _translate_batchnorm,
    "Dropout": _translate_dropout,
    "Flatten": _translate_flatten,
    "Dense": _translate_dense,
}
