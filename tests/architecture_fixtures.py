"""Texts of architectures, and what is wrong with them."""

from collections.abc import Mapping

import pytest

from model_definition.architecture import Architecture, ArchitectureError, Layer, parse_architecture
from model_definition.mistakes import Mistake

IMAGE_SHAPE = (13, 7, 3)


def parse(
    text: str,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    num_classes: int = 5,
    values: Mapping[str, str] | None = None,
) -> Architecture:
    return parse_architecture(
        text,
        filename="my.txt",
        image_shape=image_shape,
        num_classes=num_classes,
        values=values or {},
    )


def layers_of(text: str, **kwargs) -> dict[str, Layer]:
    return {layer.name: layer for layer in parse(text, **kwargs).layers}


def error_of(text: str, **kwargs) -> str:
    """Returns the whole text of the error that an architecture's text leads to."""
    with pytest.raises(ArchitectureError) as info:
        parse(text, **kwargs)
    return str(info.value)


def mistakes_of(text: str, **kwargs) -> tuple[Mistake, ...]:
    with pytest.raises(ArchitectureError) as info:
        parse(text, **kwargs)
    return info.value.mistakes


def wrong_lines(text: str, **kwargs) -> list[int]:
    return [mistake.line for mistake in mistakes_of(text, **kwargs)]
