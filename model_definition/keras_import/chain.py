"""Reads a Keras configuration, the JSON of `model.to_json()`, as a chain of layers.

A `Sequential` model is a list of layers; a `Functional` one a graph, in which each layer names the
ones before it. Both are read in Keras 3's and Keras 2's way of writing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_LAYERS = 1_000
_MODELS = ("Sequential", "Functional", "Model")
_KERAS_MODULES = ("keras", "tf_keras", "builtins")


class Inexpressible(Exception):
    """Why a layer, or a whole model, cannot be expressed; its catcher says which."""


@dataclass(frozen=True)
class KerasLayer:
    """A layer of a configuration.

    Attributes:
      name: the layer's own.
      class_name: such as `Conv2D`.
      config: its options, as JSON has them.
      is_own: whether the class is one of Keras, and not of whoever wrote the file.
    """

    name: str
    class_name: str
    config: Mapping[str, Any]
    is_own: bool = True

    def is_a(self, *class_names: str) -> bool:
        """Tells whether it is a layer of Keras's own of one of these classes."""
        return self.is_own and self.class_name in class_names

    def __str__(self) -> str:
        """Returns the name and the class for an error, each cut if it is long."""
        return f"{shown(self.name)} ({shown(self.class_name)})"


def shown(value: object) -> str:
    """Returns what a file says as a word for an error: printable, and at most 60 letters long."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 60 else text[:59] + "…"


def list_layers(config: Mapping[str, Any]) -> list[KerasLayer]:
    """Lists a model's layers in the order of its configuration, in which weights are counted.

    Args:
      config: `class_name` and `config` of a model.

    Returns:
      The layers, those that hold the input included.

    Raises:
      Inexpressible: it is no `Sequential` or `Functional` model of Keras's own.
    """
    if config["class_name"] not in _MODELS or not _is_own(config):
        raise Inexpressible(
            f"a model of class {shown(config['class_name'])}; expected Sequential or Functional"
        )
    layers = [read_layer(node) for node in _nodes(config)]
    names = [layer.name for layer in layers]
    for layer in layers:
        if names.count(layer.name) > 1:
            raise Inexpressible(f"it has more than one layer with the name {shown(layer.name)}")
    return layers


def list_chain(config: Mapping[str, Any]) -> list[KerasLayer]:
    """Lists a model's layers in the order in which they follow each other.

    Args:
      config: `class_name` and `config` of a model.

    Returns:
      The layers, those that hold the input included.

    Raises:
      Inexpressible: the layers are no plain chain; says which one is not.
    """
    layers = list_layers(config)
    if config["class_name"] == "Sequential":
        return layers
    follower: dict[str, KerasLayer] = {}
    starts = []
    problems = []
    for node, layer in zip(_nodes(config), layers, strict=True):
        try:
            before = _input_of(node)
        except Inexpressible as error:
            problems.append(f"{layer}: {error}")
            continue
        if before is None:
            starts.append(layer)
        elif before in follower:
            problems.append(f"{layer}: shares its input with {follower[before]}")
        else:
            follower[before] = layer
    if len(starts) != 1:
        problems.append(f"the model has {len(starts)} inputs")
    if problems:
        raise Inexpressible("; ".join([*problems, "only a plain chain of layers can be expressed"]))
    chain = starts
    while chain[-1].name in follower and len(chain) <= len(layers):
        chain.append(follower[chain[-1].name])
    if len(chain) != len(layers):
        raise Inexpressible("its layers are no plain chain from one input to one output")
    return chain


def read_layer(node: Mapping[str, Any]) -> KerasLayer:
    """Reads one layer, or an activation that is written as one.

    Args:
      node: `class_name` and `config`, and in Keras 3 `module` and `registered_name`.

    Returns:
      The layer.
    """
    config = node["config"]
    if not isinstance(config, dict):  # Of a function, it is the name.
        return KerasLayer(str(config), str(node["class_name"]), {}, is_own=False)
    name = config.get("name", node.get("name", ""))
    return KerasLayer(str(name), str(node["class_name"]), config, _is_own(node))


def _nodes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    model = config["config"]
    nodes = model if isinstance(model, list) else model["layers"]  # Keras 2.2 wrote the list alone.
    if len(nodes) > _MAX_LAYERS:
        raise Inexpressible(f"a model of {len(nodes):,} layers; expected at most {_MAX_LAYERS:,}")
    return nodes


def _is_own(node: Mapping[str, Any]) -> bool:
    """Tells whether a class is Keras's own, as far as the file says."""
    module, registered = node.get("module"), node.get("registered_name")
    if module is None:  # Of Keras 2, which wrote neither, or of a class of the main module.
        return registered is None
    is_registered = registered is not None and registered != node["class_name"]
    return str(module).partition(".")[0] in _KERAS_MODULES and not is_registered


def _input_of(node: Mapping[str, Any]) -> str | None:
    """Returns the name of the one layer whose output a layer takes; None if it takes none."""
    calls = node.get("inbound_nodes") or []
    if not calls and node["class_name"] == "InputLayer":
        return None
    if len(calls) != 1:
        raise Inexpressible(f"is called {len(calls)} times")
    call = calls[0]
    if isinstance(call, dict):  # Keras 3
        names = list(_tensors(call["args"]))
        options = call.get("kwargs") or {}
    else:
        names = [entry[0] for entry in call]
        options = {
            name: value for entry in call if len(entry) > 3 for name, value in entry[3].items()
        }
    for name, value in options.items():
        if value not in (None, False):
            raise Inexpressible(f"is called with {shown(name)}={shown(value)}")
    if len(names) != 1:
        raise Inexpressible(f"takes {len(names)} inputs")
    return str(names[0])


def _tensors(argument: Any) -> Iterator[str]:
    """Yields the names of the layers whose outputs are in an argument."""
    if isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
        yield argument["config"]["keras_history"][0]
    elif isinstance(argument, dict | list):
        for part in argument.values() if isinstance(argument, dict) else argument:
            yield from _tensors(part)
