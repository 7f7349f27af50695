"""Describes an architecture: layers, output shapes, receptive fields, parameters, multiply-adds.

Usage: python model_definition/describe.py MODEL, a network of the zoo (lenet) or a text file. What
it prints is a table, JSON, YAML, or a drawing of the network as SVG or PNG.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags, logging

from data_prep import command_line
from data_prep.command_line import UserError
from model_definition.architecture import (
    Architecture,
    Layer,
    load_architecture,
    parse_model_set,
)
from model_definition.layer_kinds import format_shape
from model_definition.run_dir import write_atomically

FORMATS = ("text", "json", "yaml", "svg", "png")


def define_flags() -> None:
    """Defines this script's flags."""
    flags.DEFINE_string(
        "image_shape", "28,28,1", "Height and width in pixels and channels of the images."
    )
    flags.DEFINE_integer("num_classes", 10, "Number of classes.", lower_bound=1)
    flags.DEFINE_multi_string(
        "model_set", [], "Sets a named value of the model's text, such as width=64."
    )
    flags.DEFINE_enum("format", "text", FORMATS, "A table, JSON, YAML, or a drawing as SVG or PNG.")
    flags.DEFINE_bool("json", False, "The same as --format=json.")
    flags.DEFINE_string("output", None, "File to write instead of printing.")


def main(argv: list[str]) -> None:
    """Describes the architecture that the command line names."""
    values = flags.FLAGS
    file_format = values.format
    if values.json:
        if values["format"].present and file_format != "json":
            raise UserError(f"--json contradicts --format={file_format}; give one of them")
        file_format = "json"
    output = None if values.output is None else _check_output(values.output, file_format)
    if file_format == "png" and output is None and sys.stdout.isatty():
        raise UserError("--format=png: a terminal cannot show a PNG; name a file with --output")
    architecture = load_architecture(
        argv[0],
        image_shape=command_line.parse_shape(values.image_shape, "image_shape"),
        num_classes=values.num_classes,
        values=parse_model_set(values.model_set),
    )
    if output is not None and output.exists() and output.samefile(architecture.filename):
        raise UserError(f"--output={output}: is the architecture itself; choose another name")
    logging.set_verbosity(logging.WARNING)  # matplotlib's first use is no news
    content = format_description(architecture, file_format)
    if output is not None:
        write_atomically(output, content)
        command_line.log(f"wrote {output}")
    else:
        sys.stdout.buffer.write(content)


def format_description(architecture: Architecture, file_format: str) -> bytes:
    """Describes an architecture in one of the formats.

    Args:
      architecture: what to describe.
      file_format: one of `FORMATS`. JSON and YAML hold what `describe` returns; for SVG and PNG see
        `drawing.py`.

    Returns:
      A file's bytes; text is UTF-8 and ends with a newline.
    """
    if file_format == "text":
        return f"{format_table(architecture)}\n".encode()
    document = json.dumps(describe(architecture))
    if file_format == "json":
        return f"{document}\n".encode()
    if file_format == "yaml":
        import yaml

        # Read from JSON again, as YAML tells tuples from lists.
        text = yaml.safe_dump(json.loads(document), sort_keys=False, default_flow_style=None)
        return text.encode()
    from model_definition.drawing import draw_network, encode

    return encode(draw_network(architecture), file_format)


def describe(architecture: Architecture) -> dict[str, Any]:
    """Returns what is known of an architecture as JSON has it.

    Args:
      architecture: what to describe.

    Returns:
      `filename`, `image_shape`, `num_classes`, the named `values`, the totals `num_parameters` and
      `multiply_adds`, and `layers`, each with the attributes of `Layer`.
    """
    return {
        "filename": architecture.filename,
        "image_shape": architecture.image_shape,
        "num_classes": architecture.num_classes,
        "values": dict(architecture.values),
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
    rows = [("layer", "as written", "output", "receptive field", "parameters", "multiply-adds")]
    rows.append(("images", "", format_shape(architecture.image_shape), "", "", ""))
    for layer in architecture.layers:
        shapes = (format_shape(layer.output_shape), format_shape(layer.receptive_field))
        sizes = (f"{layer.num_parameters:,}", f"{layer.multiply_adds:,}")
        rows.append((layer.name, _format_text(layer), *shapes, *sizes))
    totals = (f"{architecture.num_parameters:,}", f"{architecture.multiply_adds:,}")
    rows.append(("total", "", "", "", *totals))
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


def _format_text(layer: Layer) -> str:
    """Returns a layer as written, and what the sum of a residual adds to the layer before it."""
    if layer.shortcut is None:
        return layer.text
    # Only a projection has parameters.
    projected = ", projected" if layer.num_parameters else ""
    return f"{layer.text} (adds {layer.shortcut}{projected})"


def _check_output(text: str, file_format: str) -> Path:
    """Returns the path to write to, if a file of this format can be there."""
    output = Path(text)
    if output.exists() and not output.is_file():
        raise UserError(f"--output={text}: expected a file, found something else; choose a name")
    if not output.parent.is_dir():
        raise UserError(f"--output={text}: there is no folder {output.parent}; create it first")
    ending = output.suffix.removeprefix(".").lower()
    if ending in ("pdf", "jpg", "jpeg", "gif", "webp", "html"):
        raise UserError(
            f"--output={text}: {ending} is none of the formats; they are {', '.join(FORMATS)}"
        )
    ending = {"yml": "yaml", "txt": "text"}.get(ending, ending)
    if ending in FORMATS and ending != file_format:
        raise UserError(
            f"--output={text}: expected a name for {file_format}, found one for {ending}; "
            f"give --format={ending}, or another name"
        )
    return output


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=(1, 1))
