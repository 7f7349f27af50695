"""Exports a trained run: `export.py --logdir=runs/lenet --format=onnx,litert_int8`.

--format=help lists the formats. Every export is opened again in a process of its own and compared
with the checkpoint before it gets its name; one that differs too much is removed, and what was
there before stays. A model card beside the exports says how to call them.

Prints a line for each export, --json one document at the end. The exit code is 0 where every format
was exported, otherwise 1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import Manifest, load_manifest
from model_definition.run_dir import Run, load_run, require_same_dataset, write_atomically
from predict.exports.output_folder import open_output
from predict.exports.table import choose_formats, describe_formats

if TYPE_CHECKING:
    from predict.exports.exporting import Export, Reference
    from predict.exports.formats import ExportSource, Format

COMPARED_IMAGES = 1000
CALIBRATION_IMAGES = 300


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", "runs/lenet", "The run folder.")
    flags.DEFINE_list("format", [], "Formats, joined by commas; help lists them, all is every one.")
    flags.DEFINE_string("output_dir", None, "The folder to export to. [export/ in the run folder]")
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Best on validation, or the last.")
    flags.DEFINE_string("data_dir", None, "A dataset folder with the same classes. [the run's]")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of lines.")


def main(argv: list[str]) -> int:
    """Exports as the flags say.

    Returns:
      0, or 1 where a format could not be exported.
    """
    values = flags.FLAGS
    if values.format == ["help"]:
        print(describe_formats())
        return 0
    formats = choose_formats(values.format)
    run = load_run(Path(values.logdir))
    data_dir = Path(values.data_dir or run.data_dir)
    if values.data_dir is None and not data_dir.is_dir():
        raise UserError(
            f"{data_dir}: the dataset that {run.logdir} was trained on is not there; name its "
            "folder with --data_dir"
        )
    manifest = load_manifest(data_dir)
    require_same_dataset(run, manifest, exactly=values.data_dir is None)
    output_dir = Path(values.output_dir) if values.output_dir else run.export_dir
    with open_output(output_dir) as staging:
        command_line.import_tensorflow()
        from model_definition.checkpoints import choose_checkpoint

        checkpoint = choose_checkpoint(run, values.checkpoint)
        source, reference = read_source(run, checkpoint, data_dir, manifest)
        exports, errors = export_all(source, reference, formats, staging, quiet=values.json)
    if values.json:
        document = {
            "logdir": str(run.logdir),
            "checkpoint": str(checkpoint),
            "output_dir": str(output_dir),
            "exports": [asdict(export) for export in exports],
            "errors": errors,
        }
        print(json.dumps(document))
    return command_line.EXIT_USER_ERROR if errors else 0


def read_source(
    run: Run, checkpoint: Path, data_dir: Path, manifest: Manifest
) -> tuple[ExportSource, Reference]:
    """Reads everything that exports are made from and compared with.

    Args:
      run: the run.
      checkpoint: the prefix of its checkpoint's files.
      data_dir: a dataset folder that fits the run.
      manifest: its manifest.

    Returns:
      What to export, and what the checkpoint answers on images of the validation split, or, where
      there is none, on training images.

    Raises:
      UserError: the dataset is damaged, or the checkpoint is of another model.
    """
    import numpy as np

    from model_definition.architecture import parse_run_architecture
    from model_definition.inference import open_model
    from predict.exports.exporting import Reference
    from predict.exports.formats import ExportSource
    from predict.exports.sample_images import load_sample

    split = next(name for name in ("validation", "train", "test") if name in manifest.splits)
    if split != "validation":
        log(f"{data_dir}: has no validation split; comparing on the {split} split instead")
    images = load_sample(data_dir, manifest, split, limit=COMPARED_IMAGES)
    calibration_images = np.empty([0, *run.image_shape], np.uint8)
    if "train" in manifest.splits:
        calibration_images = load_sample(data_dir, manifest, "train", limit=CALIBRATION_IMAGES)
    with open_model(run, checkpoint) as model:
        weights, probabilities = model.weights(), model.predict(images)
    architecture = parse_run_architecture(run)
    source = ExportSource(run, checkpoint, architecture, weights, calibration_images)
    log(f"comparing exports with {checkpoint} on {len(images):,} images of the {split} split")
    return source, Reference(split, images, probabilities)


def export_all(
    source: ExportSource,
    reference: Reference,
    formats: tuple[Format, ...],
    staging: Path,
    *,
    quiet: bool,
) -> tuple[list[Export], dict[str, str]]:
    """Exports formats one after the other; one that fails does not stop the others.

    Args:
      source: what to export.
      reference: what to compare exports with.
      formats: the formats.
      staging: from `open_output`.
      quiet: prints no lines.

    Returns:
      The exports, and for each format that failed why.
    """
    from predict.exports.card import write_card
    from predict.exports.exporting import export, read_exports, record_exports

    exports: list[Export] = []
    errors: dict[str, str] = {}
    output_dir = staging.parent
    earlier = read_exports(output_dir, source.run, source.name)
    for format in formats:
        try:
            exports.append(export(source, format, staging, reference))
        except UserError as error:
            errors[format.name] = str(error)
            log(f"export.py: {error}")
            continue
        present = record_exports(output_dir, source.name, [*earlier, *exports])
        card = write_card(source, present)
        write_atomically(output_dir / f"{source.name}.md", card)
        if not quiet:
            print(format_line(exports[-1], output_dir), flush=True)
    return exports, errors


def format_line(export: Export, output_dir: Path) -> str:
    """Returns an export as a line of text: format, path, bytes, and how exact it is."""
    line = f"{export.format:<14}  {output_dir / export.file}  {export.num_bytes:,} bytes"
    if export.comparison is None:
        return line
    comparison = export.comparison
    return (
        f"{line}  largest difference {comparison.largest_difference:.1e}  "
        f"{comparison.changed_answers} of {comparison.num_images:,} answers changed"
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)
