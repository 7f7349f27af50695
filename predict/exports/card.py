"""The model card: what an exported model is, and how to call it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Sequence

from data_prep.command_line import UserError
from input_pipeline.folds import parse_fold
from input_pipeline.shifts import count_copies
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import checkpoint_step
from model_definition.run_dir import HISTORY_NAME, Run
from model_definition.versions import list_versions
from predict.exports.exporting import Export
from predict.exports.formats import ExportSource
from predict.exports.table import find_format

_PREPARATIONS = {
    "mnist": (
        "light ink on a black background, fitted with its aspect ratio kept into 20/28 of the "
        "frame and moved so that its centre of mass is the frame's centre"
    ),
    "resize": "the whole picture, scaled to that size",
}
_SERVING = """\
TensorFlow Serving takes the folder as it is, and over REST files as base64:

```sh
docker run -p 8501:8501 -v "$PWD"/{name}:/models/{name} -e MODEL_NAME={name} tensorflow/serving &
digit=$(base64 < digit.png | tr -d '\\n')
curl http://localhost:8501/v1/models/{name}:predict -d \\
  "{{\\"signature_name\\": \\"image_bytes\\", \\"instances\\": [{{\\"b64\\": \\"$digit\\"}}]}}"
```
"""
_PACKAGES = ("tensorflow", "tf-slim", "keras", "ai-edge-litert", "tf2onnx", "onnx", "onnxruntime")


def write_card(source: ExportSource, exports: Sequence[Export]) -> str:
    """Writes the card of all exports in a folder.

    Args:
      source: what was exported.
      exports: what is in the folder, at least one.

    Returns:
      Markdown. Its Python examples run in that folder.

    Raises:
      UserError: the run's list of validations is damaged.
    """
    run = source.run
    sections = [
        f"# {source.name}",
        _describe_model(source),
        "## Data",
        "\n".join(_describe_data(source)),
        "## Metrics",
        _describe_metrics(source, exports),
        "## Input and output",
        _describe_input(run),
        "## Files",
        _tabulate(exports),
        "## How to call them",
        *(_show_call(source, export, exports) for export in exports),
        "## Architecture",
        *_show_architectures(source),
        "## Versions",
        _list_versions(run),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _describe_model(source: ExportSource) -> str:
    run, copies = source.run, count_copies(source.test_time_shifts)
    origin = f"trained on {run.dataset_name} with TensorFlow and TF-Slim"
    if run.is_imported:
        origin = f"imported from the Keras model {run.model}"
    networks = [parse_run_architecture(member.run) for member in source.members]
    averaged = []
    if source.others:
        origin = "trained with TensorFlow and TF-Slim"
        averaged.append(f"{len(networks)} networks")
    if copies > 1:
        averaged.append(
            f"{copies} copies of the image, shifted by up to {source.test_time_shifts} "
            "pixels both ways"
        )
    mean = f" The probabilities are the mean over {' and '.join(averaged)}." if averaged else ""
    return (
        f"An image classifier of {len(run.class_names)} classes, {origin}: "
        f"{sum(network.num_parameters for network in networks):,} parameters, "
        f"{copies * sum(network.multiply_adds for network in networks):,} "
        f"multiply-adds an image.{mean}"
    )


def _describe_data(source: ExportSource) -> list[str]:
    """Returns a line for each fact; of several runs a line for each."""
    run = source.run
    names = _quote(run.class_names)
    if source.others:
        lines = []
        for member in source.members:
            own = member.run
            digest = own.dataset_digest[:12]
            trained_on = own.config.get("train_splits", "images not known")
            lines.append(f"- {own.logdir.name}: {own.dataset_name}, digest {digest}, {trained_on}")
        return [*lines, f"- classes, in the order of the probabilities: `{names}`"]
    if run.is_imported:
        return [
            "- trained on: not known",
            f"- classes, those of {run.dataset_name}, in the order of the probabilities: `{names}`",
        ]
    teacher = run.config.get("teacher")  # Older runs have no such flag.
    return [
        f"- dataset: {run.dataset_name}",
        f"- digest of its records: {run.dataset_digest}",
        f"- trained on: {run.config['train_splits']}",
        *([f"- taught by: {teacher}"] if teacher else []),
        f"- classes, in the order of the probabilities: `{names}`",
    ]


def _describe_metrics(source: ExportSource, exports: Sequence[Export]) -> str:
    """Returns the validation scores of the checkpoints that were exported."""
    if not source.others:
        lines = _list_scores(source.run, {export.step for export in exports})
        lines += _describe_update(source.run)
        return "\n".join(f"- {line}" for line in lines) or (
            "None: the exported checkpoint was not validated."
        )
    lines = [
        f"- {member.run.logdir.name} alone, {line}"
        for member in source.members
        for line in _list_scores(member.run, {checkpoint_step(member.checkpoint)})
    ]
    return "\n".join(lines) or "None: no exported checkpoint was validated."


def _list_scores(run: Run, steps: set[int]) -> list[str]:
    """Returns a line for each validation of a run at one of the steps."""
    path = run.logdir / HISTORY_NAME
    fold = parse_fold(run.config.get("validate_on", ""))  # Older runs have no such flag.
    images = "the validation split"
    if fold:
        images = f"fold {fold.number} of {fold.num_folds} of the training images"
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        return [
            f"step {entry['step']:,}, on {images}: accuracy {entry['accuracy']:.2%}, loss "
            f"{entry['loss']:.4f}, mean squared error {entry['mean_squared_error']:.5f}"
            for entry in entries
            if entry["step"] in steps
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a list of validations; restore it, or remove it to do without"
        ) from error


def _show_architectures(source: ExportSource) -> list[str]:
    """Returns each network's text once, under the names of the runs that have it."""
    if not source.others:
        return [f"```\n{source.architecture.text.strip()}\n```"]
    names: dict[str, list[str]] = {}
    for member in source.members:
        text = member.run.architecture_text.strip()
        names.setdefault(text, []).append(member.run.logdir.name)
    return [f"{', '.join(of)}:\n\n```\n{text}\n```" for text, of in names.items()]


def _describe_update(run: Run) -> list[str]:
    """Returns how an updated version was judged; nothing for the run as it was trained."""
    return [
        f"version {version.number}, against version {one['version']}, {one['images']}: "
        f"{one['right_after']:,} of {one['num_images']:,} read right, "
        f"{one['right_before']:,} before"
        for version in list_versions(run.logdir)
        if version.number == run.version
        for one in version.comparisons
    ]


def _describe_input(run: Run) -> str:
    height, width, channels = run.image_shape
    colours = {1: "one channel, grey", 3: "three channels, red, green and blue"}[channels]
    return (
        f"The models read pixels, uint8 [n, {height}, {width}, {channels}] from 0 to 255 "
        f"({colours}), and divide them by 255 themselves. They expect images as in the dataset: "
        f"{_PREPARATIONS[run.image_preparation]}. They do not find the ink in a photo, and do not "
        "turn dark on light into light on dark; `predict/predict.py` does. They give the "
        f"probability of each class, float32 [n, {len(run.class_names)}]."
    )


def _tabulate(exports: Sequence[Export]) -> str:
    lines = [
        "| file | format | bytes | step | largest difference of a probability | changed answers |",
        "|---|---|---|---|---|---|",
    ]
    for export in exports:
        difference = changed = ""
        if export.comparison is not None:
            difference = f"{export.comparison.largest_difference:.1e}"
            count, n = export.comparison.changed_answers, export.comparison.num_images
            changed = f"{count} of {n:,} ({export.compared_on})"
        lines.append(
            f"| `{export.file}` | {export.format} | {export.num_bytes:,} | {export.step:,} "
            f"| {difference} | {changed} |"
        )
    lines.append("\nThe differences are from the checkpoint, as TF-Slim computes it.")
    return "\n".join(lines)


def _show_call(source: ExportSource, export: Export, exports: Sequence[Export]) -> str:
    """Returns the section of one export; empty where a file that it needs is not there."""
    format, name = find_format(export.format), source.name
    title = f"### {format.name}: `{export.file}`\n\n"
    if format.load is None:
        return f"{title}Train it again: `train_lenet.py --model={shlex.quote(export.file)}`."
    if format.checked_with is None:
        beside = ""
    elif format.checked_with in {other.format for other in exports}:
        beside = _quote(find_format(format.checked_with).filename(name))
    else:
        return f"{title}Needs {format.checked_with} as well: export that too."
    height, width, channels = source.run.image_shape
    images = f"images = np.zeros([1, {height}, {width}, {channels}], np.uint8)  # your own"
    code = format.example.format(file=_quote(export.file), beside=beside, images=images)
    serving = "\n" + _SERVING.format(name=shlex.quote(name)) if format.is_versioned else ""
    return f"{title}```python\n{code}```\n{serving}"


def _quote(value: str | Sequence[str]) -> str:
    """Returns names as Python and JSON write them."""
    return json.dumps(value, ensure_ascii=False)


def _list_versions(run: Run) -> str:
    now = {"python": platform.python_version()}
    now |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    return (
        f"- trained with: {', '.join(f'{name} {text}' for name, text in run.versions.items())}\n"
        f"- exported with: {', '.join(f'{name} {text}' for name, text in now.items())}"
    )
