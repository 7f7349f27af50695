"""Reads the options of a Keras layer, so that none of them is passed over.

What changes the model's answers must have its words in the text, or the layer is refused; what
matters only for training it further is left out, with a note.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from model_definition.keras_import.chain import Inexpressible, KerasLayer, read_layer, shown
from model_definition.keras_words import ACTIVATIONS

KERNELS = ("kernel", "depthwise", "pointwise")
_WITHOUT_EFFECT = ("name", "batch_input_shape", "batch_shape", "seed", "synchronized", "fused")
_FLOATS = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")


def left_out(what: str) -> str:
    """Returns the note about something that only training needs."""
    return f"{what} is left out; it matters only for training it further"


class Options:
    """The options of a layer, each to be taken.

    Attributes:
      notes: what is left out, or done otherwise.
    """

    def __init__(self, layer: KerasLayer) -> None:
        """Takes what any layer may have and ours need not know.

        Args:
          layer: the layer.

        Raises:
          Inexpressible: it computes with another kind of numbers.
        """
        self._left = dict(layer.config)
        self.notes: list[str] = []
        for name in _WITHOUT_EFFECT:
            self._left.pop(name, None)
        if self._left.pop("trainable", True) is not True:
            self.notes.append(left_out("trainable=False"))
        self._take_dtype()
        for name in list(self._left):
            kernel, _, what = name.rpartition("_")
            if what == "initializer" and kernel not in KERNELS:
                del self._left[name]  # Biases and the like: the weights are there already.
            elif what == "constraint" or (what == "regularizer" and kernel not in KERNELS):
                if self._left.pop(name) is not None:
                    self.notes.append(left_out(f"its {name}"))

    def _take_dtype(self) -> None:
        dtype = self._left.pop("dtype", None)
        name = dtype["config"]["name"] if isinstance(dtype, dict) else dtype
        if name not in (None, "float32", *_FLOATS):
            raise Inexpressible(f"dtype is {shown(name)}, expected float32")
        if name in _FLOATS:
            self.notes.append(f"computed in float32, not in {name}")

    def take(self, name: str, default: Any = None) -> Any:
        """Returns an option's value as JSON has it, whatever that is."""
        return self._left.pop(name, default)

    def require(self, name: str, *allowed: Any) -> None:
        """Takes an option that must have one of some values; the first is its default.

        Raises:
          Inexpressible: it has another one.
        """
        value = self.take(name, allowed[0])
        if value not in allowed:
            raise Inexpressible(
                f"{name} is {shown(value)}, for which the text has no word; expected "
                f"{shown(allowed[0])}"
            )

    def require_all_taken(self) -> None:
        """Checks the end of the list.

        Raises:
          Inexpressible: an option is left that does something.
        """
        for name, value in self._left.items():
            if value is not None and value is not False:
                raise Inexpressible(
                    f"{shown(name)} is {shown(value)}, for which the text has no word"
                )

    def take_whole(self, name: str) -> str:
        """Takes a whole number above 0.

        Raises:
          Inexpressible: it is none.
        """
        return str(read_whole(self.take(name), name))

    def take_number(self, name: str, default: float | None = None) -> str:
        """Takes a number; returns no more digits than it has: 1e-4, not what float32 made of it.

        Raises:
          Inexpressible: it is none.
        """
        return read_number(self.take(name, default), name)

    def take_size(self, name: str) -> str:
        """Takes a size, of one number or two, as HEIGHTxWIDTH.

        Raises:
          Inexpressible: it is none.
        """
        return read_size(self.take(name), name)

    def take_stride(self, name: str) -> str:
        """Takes a size as one number where its height and width are the same.

        Raises:
          Inexpressible: it is none.
        """
        height, width = read_size(self.take(name, 1), name).split("x")
        return height if height == width else f"{height}x{width}"

    def take_activation(self) -> tuple[str, dict[str, str]]:
        """Takes an activation, a word or a layer.

        Returns:
          Its kind, `none` and `softmax` included, and its options.

        Raises:
          Inexpressible: there is no such kind.
        """
        value = self.take("activation")
        if isinstance(value, dict):
            return read_activation(read_layer(value))
        words: dict[Any, str] = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
        words |= {None: "none", "swish": "swish", "softmax": "softmax"}
        if value not in words:
            raise Inexpressible(f"there is no activation {shown(value)}")
        return words[value], {}


def read_activation(layer: KerasLayer) -> tuple[str, dict[str, str]]:
    """Reads a layer that is an activation; as `Options.take_activation`."""
    if not layer.is_own or layer.class_name not in ACTIVATION_LAYERS:
        raise Inexpressible(f"there is no activation {layer}")
    options = Options(layer)
    found = ACTIVATION_LAYERS[layer.class_name](options)
    options.require_all_taken()
    return found


def _read_relu(options: Options) -> tuple[str, dict[str, str]]:
    options.require("max_value", None)
    options.require("threshold", 0)
    slope = options.take_number("negative_slope", 0.0)
    return ("relu", {}) if float(slope) == 0 else ("leaky_relu", {"slope": slope})


def _read_leaky_relu(options: Options) -> tuple[str, dict[str, str]]:
    of_keras_2 = options.take("alpha", 0.3)
    return "leaky_relu", {"slope": options.take_number("negative_slope", of_keras_2)}


def _read_elu(options: Options) -> tuple[str, dict[str, str]]:
    options.require("alpha", 1)
    return "elu", {}


def _read_softmax(options: Options) -> tuple[str, dict[str, str]]:
    options.require("axis", -1, 1)
    return "softmax", {}


ACTIVATION_LAYERS: Mapping[str, Callable[[Options], tuple[str, dict[str, str]]]] = {
    "Activation": Options.take_activation,
    "ReLU": _read_relu,
    "LeakyReLU": _read_leaky_relu,
    "ELU": _read_elu,
    "Softmax": _read_softmax,
}


def read_whole(value: Any, name: str) -> int:
    """Checks that a value of JSON is a whole number above 0, and not absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**9:
        raise Inexpressible(f"{name} is {shown(value)}, expected a whole number")
    return value


def read_number(value: Any, name: str) -> str:
    """Checks that a value of JSON is a number; as `Options.take_number`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Inexpressible(f"{name} is {shown(value)}, expected a number")
    rounded = np.float32(value)
    return str(rounded) if float(rounded) == value else repr(value)


def read_size(value: Any, name: str) -> str:
    """Checks that a value of JSON is one number or two; as `Options.take_size`."""
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2:
        raise Inexpressible(f"{name} is {shown(value)}, expected height and width")
    return "x".join(str(read_whole(side, name)) for side in sides)
