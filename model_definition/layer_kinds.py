"""The layers that an architecture's text can name: how each is written, and what size it has.

    conv FILTERS KERNEL_SIZE [stride=1] [padding=same] [activation=relu] [l2=0]
    maxpool POOL_SIZE [stride=POOL_SIZE] [padding=valid]
    flatten
    dense UNITS [activation=relu] [l2=0]
    dropout RATE
    output [l2=0]

Sizes are HEIGHTxWIDTH. `LAYER_KINDS`, at the end of the file, is this table for the parser: what
it does not list is a mistake.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]  # (height, width, channels) of one image, or (units,) once it is flat
Options = Mapping[str, Any]

MAX_COUNT = 100_000_000
MAX_SIDE = 1_024


class MistakeFound(Exception):
    """Something wrong on a line; its text says what and what is allowed, its catcher where."""


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


def _parse_count(text: str, highest: int = MAX_COUNT) -> int:
    if not re.fullmatch("[0-9]{1,12}", text) or not 1 <= int(text) <= highest:
        raise ValueError(text)
    return int(text)


def _parse_size(text: str) -> tuple[int, int]:
    height, width = text.split("x")  # Raises ValueError where there are not two.
    return _parse_count(height, MAX_SIDE), _parse_count(width, MAX_SIDE)


def _parse_stride(text: str) -> tuple[int, int]:
    return _parse_size(text if "x" in text else f"{text}x{text}")


def _parse_fraction(text: str) -> float:
    if not re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        raise ValueError(text)
    if not float(text) < 1:
        raise ValueError(text)
    return float(text)


def _choice(*words: str) -> Value:
    # `index` raises the ValueError of a word that is not one of them.
    return Value(" or ".join(words), lambda text: words[words.index(text)], words)


_COUNT = Value(f"a whole number from 1 to {MAX_COUNT:,}", _parse_count)
_SIZE = Value(f"HEIGHTxWIDTH such as 5x5, each from 1 to {MAX_SIDE:,}", _parse_size)
_STRIDE = Value(
    f"one number such as 2, or HEIGHTxWIDTH such as 2x1, from 1 to {MAX_SIDE:,}", _parse_stride
)
_FRACTION = Value("a number from 0 to less than 1, such as 0.5 or 1e-4", _parse_fraction)
_PADDING = _choice("same", "valid")
_ACTIVATION = _choice("relu", "none")


@dataclass(frozen=True)
class Size:
    """A layer's output shape, and what `Layer` says of its parameters and multiply-adds."""

    output_shape: Shape
    num_parameters: int = 0
    multiply_adds: int = 0


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


def _slide(kind: str, window: Shape, options: Options, shape: Shape) -> tuple[int, int]:
    """Returns the height and width that a window leaves which slides over an image."""
    if len(shape) != 3:
        raise MistakeFound(
            f"{kind} needs an image, but its input is flat ({format_shape(shape)}); "
            f"put {kind} before flatten"
        )
    # A pool larger than its image can only be a slip; a padded kernel may well be larger.
    bounded = kind == "maxpool" or options["padding"] == "valid"
    if bounded and (window[0] > shape[0] or window[1] > shape[1]):
        raise MistakeFound(
            f"{kind}'s {format_shape(window)} is larger than its input of {format_shape(shape)}; "
            "use a smaller size, or fewer pools and strides before it"
        )
    lost = (window[0] - 1, window[1] - 1) if options["padding"] == "valid" else (0, 0)
    stride = options["stride"]
    return math.ceil((shape[0] - lost[0]) / stride[0]), math.ceil((shape[1] - lost[1]) / stride[1])


def _measure_conv(options: Options, shape: Shape, num_classes: int) -> Size:
    height, width = _slide("conv", options["kernel_size"], options, shape)
    filters = options["filters"]
    weights = math.prod(options["kernel_size"]) * shape[2] * filters
    return Size((height, width, filters), weights + filters, weights * height * width)


def _measure_maxpool(options: Options, shape: Shape, num_classes: int) -> Size:
    return Size((*_slide("maxpool", options["pool_size"], options, shape), shape[2]))


def _measure_flatten(options: Options, shape: Shape, num_classes: int) -> Size:
    if len(shape) == 1:
        raise MistakeFound(
            f"flatten's input is flat already ({format_shape(shape)}); remove this line"
        )
    return Size((math.prod(shape),))


def _measure_linear(kind: str, units: int, shape: Shape) -> Size:
    if len(shape) != 1:
        raise MistakeFound(
            f"{kind} needs a flat input, but its input is {format_shape(shape)}; "
            "put a line flatten before it"
        )
    weights = shape[0] * units
    return Size((units,), weights + units, weights)


def _measure_dense(options: Options, shape: Shape, num_classes: int) -> Size:
    return _measure_linear("dense", options["units"], shape)


def _measure_dropout(options: Options, shape: Shape, num_classes: int) -> Size:
    return Size(shape)


def _measure_output(options: Options, shape: Shape, num_classes: int) -> Size:
    return _measure_linear("output", num_classes, shape)


_ACTIVATED = Option(_ACTIVATION, "relu")
_L2 = Option(_FRACTION, "0")

LAYER_KINDS: Mapping[str, LayerKind] = {
    "conv": LayerKind(
        _measure_conv,
        arguments={"filters": _COUNT, "kernel_size": _SIZE},
        options={
            "stride": Option(_STRIDE, "1"),
            "padding": Option(_PADDING, "same"),
            "activation": _ACTIVATED,
            "l2": _L2,
        },
    ),
    "maxpool": LayerKind(
        _measure_maxpool,
        arguments={"pool_size": _SIZE},
        options={"stride": Option(_STRIDE, "POOL_SIZE"), "padding": Option(_PADDING, "valid")},
    ),
    "flatten": LayerKind(_measure_flatten),
    "dense": LayerKind(
        _measure_dense,
        arguments={"units": _COUNT},
        options={"activation": _ACTIVATED, "l2": _L2},
    ),
    "dropout": LayerKind(_measure_dropout, arguments={"rate": _FRACTION}),
    "output": LayerKind(_measure_output, options={"l2": _L2}),
}
