"""The layers that an architecture's text can name: how each is written, and what size it has.

    conv FILTERS KERNEL_SIZE [stride=1] [padding=same] [dilation=1] [activation=relu] [bias=true]
         [initializer=auto] [l2=0]
    separable_conv FILTERS KERNEL_SIZE [...]            the same options
    maxpool POOL_SIZE [stride=POOL_SIZE] [padding=valid]
    avgpool POOL_SIZE [stride=POOL_SIZE] [padding=valid]
    global_avgpool
    batchnorm [momentum=0.99] [epsilon=0.001]
    relu, elu, gelu, swish, tanh, sigmoid, leaky_relu [slope=0.2]
    dropout RATE
    flatten
    dense UNITS [activation=relu] [bias=true] [initializer=auto] [l2=0]
    output [bias=true] [initializer=auto] [l2=0]

Sizes are HEIGHTxWIDTH; a stride or a dilation may be one number for both. `LAYER_KINDS`, at the end
of the file, is this table for the parser: what it does not list is a mistake.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_definition.mistakes import MistakeFound, or_list

Shape = tuple[int, ...]  # (height, width, channels) of one image, or (units,) once it is flat
Options = Mapping[str, Any]

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "swish", "tanh", "sigmoid")
INITIALIZERS = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal")

MAX_COUNT = 100_000_000
MAX_SIDE = 1_024


def format_shape(shape: Shape) -> str:
    """Returns a shape as people write it: `28x28x1`, or `1024` where it is flat."""
    return "x".join(map(str, shape))


@dataclass(frozen=True)
class Value:
    """What may stand in one place of a line.

    Attributes:
      expected: completes an error's "expected …".
      parse: reads the text; raises `ValueError` where it is anything else.
      words: the words that are allowed, where it is a choice of words.
    """

    expected: str
    parse: Callable[[str], Any]
    words: tuple[str, ...] = ()


def parse_count(text: str, highest: int = MAX_COUNT) -> int:
    """Reads a whole number from 1 on; raises `ValueError` where it is anything else."""
    if not re.fullmatch("[0-9]{1,12}", text) or not 1 <= int(text) <= highest:
        raise ValueError(text)
    return int(text)


def _parse_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")  # Raises ValueError where there are not two.
    return parse_count(height, MAX_SIDE), parse_count(width, MAX_SIDE)


def _parse_stride(text: str) -> tuple[int, int]:
    return _parse_size(text if "x" in text else f"{text}x{text}")


def _parse_fraction(text: str) -> float:
    if not re.fullmatch(r"([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?", text):
        raise ValueError(text)
    if not float(text) < 1:
        raise ValueError(text)
    return float(text)


def _parse_positive(text: str) -> float:
    number = _parse_fraction(text)
    if number < 1e-7:  # In float32, less would make no difference to a variance of 1.
        raise ValueError(text)
    return number


def _choice(*words: str) -> Value:
    # `index` raises the ValueError of a word that is not one of them.
    return Value(or_list(words), lambda text: words[words.index(text)], words)


COUNT = Value(f"a whole number from 1 to {MAX_COUNT:,}", parse_count)
_SIZE = Value(f"HEIGHTxWIDTH such as 5x5, each from 1 to {MAX_SIDE:,}", _parse_size)
_STRIDE = Value(
    f"one number such as 2, or HEIGHTxWIDTH such as 2x1, from 1 to {MAX_SIDE:,}", _parse_stride
)
_FRACTION = Value("a number from 0 to less than 1, such as 0.5 or 1e-4", _parse_fraction)
_POSITIVE = Value("a number from 1e-7 to less than 1, such as 0.001", _parse_positive)
_PADDING = _choice("same", "valid")
_ACTIVATION = _choice(*ACTIVATIONS, "none")
_BIAS = Value("true or false", lambda text: ("false", "true").index(text) == 1, ("true", "false"))
_INITIALIZER = _choice("auto", *INITIALIZERS)


@dataclass(frozen=True)
class Size:
    """What a layer makes of its input.

    Attributes:
      output_shape: the shape after the layer.
      num_parameters: how many numbers training can change.
      multiply_adds: multiplications followed by an addition, for one image.
      window: height and width of the input that one output value sees.
      stride: how far the window moves from one output value to the next.
    """

    output_shape: Shape
    num_parameters: int = 0
    multiply_adds: int = 0
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Option:
    """A `name=value` that may be left out; the default is written as in the text.

    A default in capitals stands for the layer's argument of that name.
    """

    value: Value
    default: str


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer.

    Attributes:
      measure: (options, input shape, number of classes) -> size; raises `MistakeFound` where the
        layer does not fit its input.
      arguments: what must follow the layer's word, in this order.
      options: what may follow then.
    """

    measure: Callable[[Options, Shape, int], Size]
    arguments: Mapping[str, Value] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)

    def values(self) -> dict[str, Value]:
        """Returns what may stand as each argument and option."""
        return {**self.arguments, **{name: option.value for name, option in self.options.items()}}


def _slide(kind: str, window: tuple[int, int], options: Options, shape: Shape) -> tuple[int, int]:
    """Returns the height and width that a window leaves which slides over an image."""
    _require_image(kind, shape)
    # A pool larger than its image can only be a slip; a padded kernel may well be larger.
    bounded = kind.endswith("pool") or options["padding"] == "valid"
    if bounded and (window[0] > shape[0] or window[1] > shape[1]):
        raise MistakeFound(
            f"{kind}'s {format_shape(window)} is larger than its input of {format_shape(shape)}; "
            "use a smaller size, or fewer pools and strides before it",
            "pool_size" if kind.endswith("pool") else "kernel_size",
        )
    lost = (window[0] - 1, window[1] - 1) if options["padding"] == "valid" else (0, 0)
    stride = options["stride"]
    return math.ceil((shape[0] - lost[0]) / stride[0]), math.ceil((shape[1] - lost[1]) / stride[1])


def _require_image(kind: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise MistakeFound(
            f"{kind} needs an image, but its input is flat ({format_shape(shape)}); "
            f"put {kind} before flatten"
        )


def _slide_kernel(kind: str, options: Options, shape: Shape) -> tuple[tuple[int, int], Shape]:
    """Returns the window of a dilated kernel, and the height and width that it leaves."""
    kernel_size, dilation, stride = options["kernel_size"], options["dilation"], options["stride"]
    if max(dilation) > 1 and max(stride) > 1:
        raise MistakeFound(f"{kind} cannot have both a stride and a dilation above 1", "dilation")
    window = tuple(1 + (size - 1) * step for size, step in zip(kernel_size, dilation, strict=True))
    if max(window) > MAX_SIDE:
        raise MistakeFound(
            f"{kind}'s {format_shape(kernel_size)}, dilated, reaches over {format_shape(window)}; "
            f"expected at most {MAX_SIDE:,} a side",
            "dilation",
        )
    return (window[0], window[1]), _slide(kind, (window[0], window[1]), options, shape)


def _measure_conv(options: Options, shape: Shape, num_classes: int) -> Size:
    window, (height, width) = _slide_kernel("conv", options, shape)
    filters = options["filters"]
    weights = math.prod(options["kernel_size"]) * shape[2] * filters
    return Size(
        (height, width, filters),
        weights + filters * options["bias"],
        weights * height * width,
        window,
        options["stride"],
    )


def _measure_separable_conv(options: Options, shape: Shape, num_classes: int) -> Size:
    stride = options["stride"]
    if stride[0] != stride[1]:
        raise MistakeFound(
            f"separable_conv's stride is {format_shape(stride)}; its height and width must be the "
            "same",
            "stride",
        )
    window, (height, width) = _slide_kernel("separable_conv", options, shape)
    filters = options["filters"]
    weights = math.prod(options["kernel_size"]) * shape[2] + shape[2] * filters
    return Size(
        (height, width, filters),
        weights + filters * options["bias"],
        weights * height * width,
        window,
        stride,
    )


def _measure_pool(kind: str) -> Callable[[Options, Shape, int], Size]:
    def measure(options: Options, shape: Shape, num_classes: int) -> Size:
        height, width = _slide(kind, options["pool_size"], options, shape)
        window, stride = options["pool_size"], options["stride"]
        return Size((height, width, shape[2]), window=window, stride=stride)

    return measure


def _measure_global_avgpool(options: Options, shape: Shape, num_classes: int) -> Size:
    _require_image("global_avgpool", shape)
    return Size((shape[2],))


def _measure_batchnorm(options: Options, shape: Shape, num_classes: int) -> Size:
    return Size(shape, 2 * shape[-1])


def _measure_unchanged(options: Options, shape: Shape, num_classes: int) -> Size:
    return Size(shape)


def _measure_flatten(options: Options, shape: Shape, num_classes: int) -> Size:
    if len(shape) == 1:
        raise MistakeFound(
            f"flatten's input is flat already ({format_shape(shape)}); remove this line"
        )
    return Size((math.prod(shape),))


def _measure_linear(kind: str, units: int, options: Options, shape: Shape) -> Size:
    if len(shape) != 1:
        raise MistakeFound(
            f"{kind} needs a flat input, but its input is {format_shape(shape)}; "
            "put a line flatten before it"
        )
    weights = shape[0] * units
    return Size((units,), weights + units * options["bias"], weights)


def _measure_dense(options: Options, shape: Shape, num_classes: int) -> Size:
    return _measure_linear("dense", options["units"], options, shape)


def _measure_output(options: Options, shape: Shape, num_classes: int) -> Size:
    return _measure_linear("output", num_classes, options, shape)


_WEIGHTS = {
    "bias": Option(_BIAS, "true"),
    "initializer": Option(_INITIALIZER, "auto"),
    "l2": Option(_FRACTION, "0"),
}
_ACTIVATED = {"activation": Option(_ACTIVATION, "relu"), **_WEIGHTS}
_KERNEL = {"filters": COUNT, "kernel_size": _SIZE}
_SLIDING = {
    "stride": Option(_STRIDE, "1"),
    "padding": Option(_PADDING, "same"),
    "dilation": Option(_STRIDE, "1"),
}
_POOLING = {"stride": Option(_STRIDE, "POOL_SIZE"), "padding": Option(_PADDING, "valid")}

LAYER_KINDS: Mapping[str, LayerKind] = {
    "conv": LayerKind(_measure_conv, _KERNEL, {**_SLIDING, **_ACTIVATED}),
    "separable_conv": LayerKind(_measure_separable_conv, _KERNEL, {**_SLIDING, **_ACTIVATED}),
    "maxpool": LayerKind(_measure_pool("maxpool"), {"pool_size": _SIZE}, _POOLING),
    "avgpool": LayerKind(_measure_pool("avgpool"), {"pool_size": _SIZE}, _POOLING),
    "global_avgpool": LayerKind(_measure_global_avgpool),
    "batchnorm": LayerKind(
        _measure_batchnorm,
        options={"momentum": Option(_FRACTION, "0.99"), "epsilon": Option(_POSITIVE, "0.001")},
    ),
    **{kind: LayerKind(_measure_unchanged) for kind in ACTIVATIONS},
    "leaky_relu": LayerKind(_measure_unchanged, options={"slope": Option(_FRACTION, "0.2")}),
    "dropout": LayerKind(_measure_unchanged, {"rate": _FRACTION}),
    "flatten": LayerKind(_measure_flatten),
    "dense": LayerKind(_measure_dense, {"units": COUNT}, _ACTIVATED),
    "output": LayerKind(_measure_output, options=_WEIGHTS),
}


def measure_residual(
    shortcut_shape: Shape, body_shape: Shape, stride: tuple[int, int]
) -> tuple[Size, Options]:
    """Measures the sum at the end of a residual block.

    Args:
      shortcut_shape: the shape before the block.
      body_shape: the shape that the block's lines make of it.
      stride: all the strides of those lines, multiplied.

    Returns:
      Its size, the projection's parameters included, and its options: `projection_stride` where
      the shapes differ, so that the shortcut needs a projection.

    Raises:
      MistakeFound: no projection leads from the one shape to the other.
    """
    if shortcut_shape == body_shape:
        return Size(body_shape), {}
    reached = tuple(
        math.ceil(side / step) for side, step in zip(shortcut_shape[:-1], stride, strict=False)
    )
    if reached != body_shape[:-1]:
        raise MistakeFound(
            f"residual turns {format_shape(shortcut_shape)} into {format_shape(body_shape)}, which "
            "a 1x1 projection of its input cannot follow; within a block use padding=same, and "
            "nothing that flattens"
        )
    weights = shortcut_shape[-1] * body_shape[-1]
    size = Size(body_shape, weights + body_shape[-1], weights * math.prod(body_shape[:-1]))
    return size, {"projection_stride": stride}
