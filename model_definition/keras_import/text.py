"""Expresses a Keras model in the text format.

The configuration is read as the JSON that it is; nothing in it is made into an object of Keras.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from model_definition.architecture import Architecture, parse_architecture
from model_definition.keras_import.chain import Inexpressible, KerasLayer, list_chain, shown
from model_definition.keras_import.layers import Line, translate_layer, translate_output
from model_definition.keras_import.options import read_activation, read_whole
from model_definition.mistakes import ArchitectureError

_MALFORMED = (  # what reading JSON that Keras did not write may raise
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_FLATTENING = ("Flatten", "GlobalAveragePooling2D")
_OF_TRAINING = (  # They give what they take, except in training.
    *("AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
    *("AugMix", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter"),
    *("RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip"),
    *("RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective"),
    *("RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear"),
    *("RandomTranslation", "RandomZoom"),
)


@dataclass(frozen=True)
class Translation:
    """A Keras model as a text.

    Attributes:
      text: the architecture, one layer a line.
      input_shape: of one image as the model takes it: (height, width, channels), or (height, width)
        or (numbers,) where it flattens them at once.
      num_classes: how many units the output has.
      sources: for each line of the text the layer that it expresses.
      notes: what is left out, done otherwise or taken for granted, a line each.
    """

    text: str
    input_shape: tuple[int, ...]
    num_classes: int
    sources: tuple[KerasLayer, ...]
    notes: tuple[str, ...]

    def parse(self, image_shape: tuple[int, int, int]) -> Architecture:
        """Checks the text as every architecture is checked, its bounds included.

        Args:
          image_shape: (height, width, channels) of the images.

        Returns:
          The architecture.

        Raises:
          Inexpressible: the layers do not fit each other, or are absurdly large.
        """
        try:
            return parse_architecture(
                self.text, filename="", image_shape=image_shape, num_classes=self.num_classes
            )
        except ArchitectureError as error:
            mistakes = error.mistakes
            told = [f"{self.sources[mistake.line - 1]}: {mistake.message}" for mistake in mistakes]
            raise Inexpressible("; ".join(told)) from None


def translate(config: Mapping[str, Any]) -> Translation:
    """Expresses a model in the text format.

    Args:
      config: `class_name` and `config` of the model, as JSON has them.

    Returns:
      The text and what is known of it.

    Raises:
      Inexpressible: names each layer that cannot be expressed, and why.
    """
    notes: list[str] = []
    problems: list[str] = []
    try:
        chain = list_chain(config)
        shape = _input_shape(config, chain)
    except _MALFORMED as error:
        raise Inexpressible(
            "its configuration is not as Keras writes it; save the model again"
        ) from error
    layers = _drop_layers_of_training(chain, notes)
    shape, layers = _take_preparation(shape, layers, notes, problems)
    layers = _drop_second_flattens(layers, is_flat=len(shape) == 1)
    layers, has_softmax = _take_softmax(layers, problems)
    if not layers:
        problems.append("the model has no layer with weights")
    is_flat = len(shape) == 1
    lines = [Line("flatten", layers[0])] if is_flat and layers else []
    for layer in layers:
        with _collect(problems, layer):
            if layer is layers[-1]:
                new, new_notes = translate_output(layer, has_softmax=has_softmax)
            else:
                new, new_notes = translate_layer(layer, is_flat=is_flat)
            lines += new
            notes += [f"{layer}: {note}" for note in new_notes]
        is_flat |= layer.is_a(*_FLATTENING)
    if problems:
        raise Inexpressible("; ".join(problems))
    followers = [*(line.kind for line in lines[1:]), ""]
    texts = [line.text(follower) for line, follower in zip(lines, followers, strict=True)]
    return Translation(
        text="".join(f"{text}\n" for text in texts),
        input_shape=shape,
        num_classes=layers[-1].config["units"],
        sources=tuple(line.layer for line in lines),
        notes=tuple(notes),
    )


@contextmanager
def _collect(problems: list[str], layer: KerasLayer) -> Iterator[None]:
    """Adds why a layer cannot be expressed to the problems, and goes on after the block."""
    try:
        yield
    except Inexpressible as error:
        problems.append(f"{layer}: {error}")
    except _MALFORMED:
        problems.append(f"{layer}: its options are not as Keras writes them")


def _input_shape(config: Mapping[str, Any], chain: list[KerasLayer]) -> tuple[int, ...]:
    """Returns the shape of one image, with or without channels, or flat."""
    first = chain[0].config if chain else {}
    shape = first.get("batch_shape") or first.get("batch_input_shape")
    for built in (config.get("build_config"), config["config"]):  # where there is no InputLayer
        if shape is None and isinstance(built, dict):
            shape = built.get("input_shape") or built.get("build_input_shape")
    if not isinstance(shape, list) or not 2 <= len(shape) <= 4:
        raise Inexpressible(
            f"its input has the shape {shown(shape)}; expected [null, height, width, channels], in "
            "a model that was built"
        )
    return tuple(read_whole(side, "a side of the input") for side in shape[1:])


def _drop_layers_of_training(chain: list[KerasLayer], notes: list[str]) -> list[KerasLayer]:
    """Returns the layers that do something to the images when the model answers."""
    kept = []
    for layer in chain:
        if layer.is_a(*_OF_TRAINING):
            notes.append(f"{layer}: acts in training only, so it is left out")
        elif not layer.is_a("InputLayer"):
            kept.append(layer)
    return kept


def _drop_second_flattens(layers: list[KerasLayer], *, is_flat: bool) -> list[KerasLayer]:
    """Returns the layers without each Flatten of what is flat already."""
    kept = []
    for layer in layers:
        if not (is_flat and layer.is_a("Flatten")):
            kept.append(layer)
        is_flat |= layer.is_a(*_FLATTENING)
    return kept


def _take_preparation(
    shape: tuple[int, ...], layers: list[KerasLayer], notes: list[str], problems: list[str]
) -> tuple[tuple[int, ...], list[KerasLayer]]:
    """Returns the images' shape, and the layers after those at the start that only prepare them."""
    is_rescaled = False
    while layers and layers[0].is_a("Rescaling", "Reshape"):
        layer, layers = layers[0], layers[1:]
        with _collect(problems, layer):
            if layer.class_name == "Reshape":
                shape = _read_reshape(layer, shape)
            elif is_rescaled or not _is_of_pixels(layer):
                raise Inexpressible("expected scale=1/255 and offset=0 of pixels, and once")
        is_rescaled |= layer.class_name == "Rescaling"
    if len(shape) == 2 and layers and not layers[0].is_a("Flatten"):
        problems.append(f"{layers[0]}: expected Flatten or Reshape after images without channels")
    if not is_rescaled:
        notes.append("there is no Rescaling(1/255), so it is taken to expect pixels of 0 to 1")
    return shape, layers


def _read_reshape(layer: KerasLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    target = layer.config["target_shape"]
    sides = tuple(read_whole(side, "a side") for side in target)
    if len(sides) != 3 or math.prod(sides) != math.prod(shape):
        raise Inexpressible("expected height, width and channels of the images")
    return sides


def _is_of_pixels(layer: KerasLayer) -> bool:
    scale = layer.config.get("scale")
    is_number = isinstance(scale, float) and math.isclose(scale, 1 / 255, rel_tol=1e-6)
    return is_number and layer.config.get("offset", 0) == 0


def _take_softmax(layers: list[KerasLayer], problems: list[str]) -> tuple[list[KerasLayer], bool]:
    """Returns the layers before a softmax that is the last layer, and whether there is one."""
    if not layers or not layers[-1].is_a("Softmax", "Activation"):
        return layers, False
    has_softmax = True  # for what cannot be read, so that it is a problem once
    with _collect(problems, layers[-1]):
        has_softmax = read_activation(layers[-1])[0] == "softmax"
    return layers[:-1] if has_softmax else layers, has_softmax
