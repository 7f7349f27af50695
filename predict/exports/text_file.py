"""The architecture as a text file, from which the same network can be trained again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_prep.command_line import UserError
from model_definition.architecture import Architecture, Layer, parse_architecture
from predict.exports.formats import ExportSource


def write_text(source: ExportSource, path: Path) -> None:
    """Writes the text of the run's architecture under a comment that says what it is.

    Args:
      source: what to export.
      path: the file.

    Raises:
      UserError: read back, it is not the same network.
    """
    architecture = source.architecture
    height, width, channels = architecture.image_shape
    origin = "imported, for" if source.run.is_imported else "trained on"
    head = (
        f"# The network of the run {source.name}, {origin} {source.run.dataset_name}:\n"
        f"# {height}x{width}x{channels} images, {architecture.num_classes} classes, "
        f"{architecture.num_parameters:,} parameters.\n\n"
    )
    # As bytes: the text's own line ends stay what they are.
    path.write_bytes((head + architecture.text).encode())
    written = parse_architecture(
        path.read_bytes().decode(),
        filename=str(path),
        image_shape=architecture.image_shape,
        num_classes=architecture.num_classes,
    )
    if _layers_of(written) != _layers_of(architecture):
        raise UserError(f"{path}: read back, it is not the network of {source.run.logdir}")


def _layers_of(architecture: Architecture) -> list[Layer]:
    """Returns the layers, wherever in the file they stand."""
    return [dataclasses.replace(layer, line=0) for layer in architecture.layers]
