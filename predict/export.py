"""Exports a trained run: `export.py --logdir=runs/lenet --format=onnx,litert_int8`.

--format=help lists the formats. Every export is opened again in a process of its own and compared
with the checkpoint before it gets its name; one that differs too much is removed, and what was
there before stays. A model card beside the exports says how to call them.

Several runs, named --logdir=A,B or by the folder that train/ensemble.py wrote, become one model,
whose probabilities are the mean of theirs, in the formats that can hold it.

Prints a line for each export, --json one document at the end. The exit code is 0 where every format
was exported, otherwise 1.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import Manifest
from model_definition.ensemble import (
    MAX_SHIFTS,
    Ensemble,
    Member,
    find_dataset,
    load_ensemble,
)
from model_definition.run_dir import EXPORT_NAME, write_atomically
from predict.exports.output_folder import open_output
from predict.exports.table import choose_averaging, choose_formats, describe_formats

if TYPE_CHECKING:
    from predict.exports.exporting import Export, Reference
    from predict.exports.formats import ExportSource, Format

COMPARED_IMAGES = 1000
CALIBRATION_IMAGES = 300


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string(
        "logdir",
        "runs/lenet",
        "The run folder; several joined by commas, or an ensemble's folder, become one model.",
    )
    flags.DEFINE_list("format", [], "Formats, joined by commas; help lists them, all is every one.")
    flags.DEFINE_string(
        "output_dir", None, "The folder to export to. [export/ in the run's or ensemble's folder]"
    )
    flags.DEFINE_integer(
        "test_time_shifts",
        0,
        "The model averages over every shift of an image by up to so many pixels both ways.",
        0,
        MAX_SHIFTS,
    )
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
    ensemble = load_ensemble(values.logdir)
    if values.test_time_shifts or not ensemble.is_single:
        formats = choose_averaging(formats, values.format)
    output_dir = _choose_output_dir(ensemble, values.output_dir)
    data_dir, manifest = find_dataset(ensemble, values.data_dir)
    with open_output(output_dir) as staging:
        command_line.import_tensorflow()
        from model_definition.checkpoints import choose_checkpoint

        members = [Member(run, choose_checkpoint(run, values.checkpoint)) for run in ensemble.runs]
        source, reference = read_source(
            members, ensemble.name, data_dir, manifest, test_time_shifts=values.test_time_shifts
        )
        exports, errors = export_all(source, reference, formats, staging, quiet=values.json)
    if values.json:
        document = {
            "logdir": ensemble.logdir,
            "checkpoint": ",".join(str(member.checkpoint) for member in members),
            "output_dir": str(output_dir),
            "exports": [asdict(export) for export in exports],
            "errors": errors,
        }
        print(json.dumps(document))
    return command_line.EXIT_USER_ERROR if errors else 0


def _choose_output_dir(ensemble: Ensemble, output_dir: str | None) -> Path:
    if output_dir:
        return Path(output_dir)
    if ensemble.folder is None:
        raise UserError(
            f"--logdir={ensemble.logdir}: a list of runs has no folder of its own; name one to "
            "export to with --output_dir"
        )
    return ensemble.folder / EXPORT_NAME


def read_source(
    members: Sequence[Member],
    name: str,
    data_dir: Path,
    manifest: Manifest,
    *,
    test_time_shifts: int = 0,
) -> tuple[ExportSource, Reference]:
    """Reads everything that exports are made from and compared with.

    Args:
      members: the runs with their checkpoints.
      name: what several runs are called together.
      data_dir: a dataset folder that fits the runs.
      manifest: its manifest.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      What to export, and what the checkpoints answer on images of the validation split, or, where
      there is none, on training images.

    Raises:
      UserError: the dataset is damaged, or a checkpoint is of another model.
    """
    import numpy as np

    from model_definition.architecture import parse_run_architecture
    from model_definition.inference import open_ensemble
    from predict.exports.exporting import Reference
    from predict.exports.formats import ExportSource
    from predict.exports.sample_images import load_sample

    split = next(name for name in ("validation", "train", "test") if name in manifest.splits)
    if split != "validation":
        log(f"{data_dir}: has no validation split; comparing on the {split} split instead")
    images = load_sample(data_dir, manifest, split, limit=COMPARED_IMAGES)
    first, *others = members
    calibration_images = np.empty([0, *first.run.image_shape], np.uint8)
    if "train" in manifest.splits:
        calibration_images = load_sample(data_dir, manifest, "train", limit=CALIBRATION_IMAGES)
    with open_ensemble(members, test_time_shifts=test_time_shifts) as model:
        weights, probabilities = model.weights(), model.predict(images)
    source = ExportSource(
        first.run,
        first.checkpoint,
        parse_run_architecture(first.run),
        weights,
        calibration_images,
        others=tuple(others),
        ensemble_name=name,
        test_time_shifts=test_time_shifts,
    )
    what = f"the average of {len(members)} runs" if others else str(first.checkpoint)
    log(f"comparing exports with {what} on {len(images):,} images of the {split} split")
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
    runs = [member.run for member in source.members]
    earlier = read_exports(output_dir, runs, source.name)
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
