"""Prints the layers of an architecture, their output shapes, parameters and multiply-adds.

Usage: python model_definition/describe.py MODEL, a network of the zoo (lenet) or a text file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder, for the imports below.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from model_definition.architecture import Architecture, load_architecture
from model_definition.layer_kinds import format_shape


def define_flags() -> None:
    """Defines this script's flags."""
    flags.DEFINE_string(
        "image_shape", "28,28,1", "Height and width in pixels and channels of the images."
    )
    flags.DEFINE_integer("num_classes", 10, "Number of classes.", lower_bound=1)
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")


def main(argv: list[str]) -> None:
    """Describes the architecture that the command line names."""
    architecture = load_architecture(
        argv[0],
        image_shape=command_line.parse_shape(flags.FLAGS.image_shape, "image_shape"),
        num_classes=flags.FLAGS.num_classes,
    )
    if flags.FLAGS.json:
        print(json.dumps(describe(architecture)))
    else:
        print(format_table(architecture))


def describe(architecture: Architecture) -> dict[str, Any]:
    """Returns what is known of an architecture as JSON has it.

    Args:
      architecture: what to describe.

    Returns:
      `filename`, `image_shape`, `num_classes`, the totals `num_parameters` and `multiply_adds`,
      and `layers`, each with the attributes of `Layer`.
    """
    return {
        "filename": architecture.filename,
        "image_shape": architecture.image_shape,
        "num_classes": architecture.num_classes,
        "num_parameters": architecture.num_parameters,
        "multiply_adds": architecture.multiply_adds,
        "layers": [asdict(layer) for layer in architecture.layers],
    }


def format_table(architecture: Architecture) -> str:
    """Returns the layers as a table: one a line, words to the left and numbers to the right.

    Args:
      architecture: what to describe.

    Returns:
      The table's lines, the last without a newline; multiply-adds are for one image.
    """
    rows = [("layer", "as written", "output", "parameters", "multiply-adds")]
    rows.append(("images", "", format_shape(architecture.image_shape), "", ""))
    for layer in architecture.layers:
        shape = format_shape(layer.output_shape)
        sizes = (f"{layer.num_parameters:,}", f"{layer.multiply_adds:,}")
        rows.append((layer.name, layer.text, shape, *sizes))
    totals = (f"{architecture.num_parameters:,}", f"{architecture.multiply_adds:,}")
    rows.append(("total", "", "", *totals))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=(1, 1))
