"""The model card: what an exported model is, and how to call it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shlex
from collections.abc import Sequence

from data_prep.command_line import UserError
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
        _describe_data(run),
        "## Metrics",
        _describe_metrics(run, exports),
        "## Input and output",
        _describe_input(run),
        "## Files",
        _tabulate(exports),
        "## How to call them",
        *(_show_call(source, export, exports) for export in exports),
        "## Architecture",
        f"```\n{source.architecture.text.strip()}\n```",
        "## Versions",
        _list_versions(run),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _describe_model(source: ExportSource) -> str:
    run, architecture = source.run, source.architecture
    origin = f"trained on {run.dataset_name} with TensorFlow and TF-Slim"
    if run.is_imported:
        origin = f"imported from the Keras model {run.model}"
    return (
        f"An image classifier of {len(run.class_names)} classes, {origin}: "
        f"{architecture.num_parameters:,} parameters, {architecture.multiply_adds:,} "
        "multiply-adds an image."
    )


def _describe_data(run: Run) -> str:
    if run.is_imported:
        return (
            "- trained on: not known\n"
            f"- classes, those of {run.dataset_name}, in the order of the probabilities: "
            f"`{_quote(run.class_names)}`"
        )
    return (
        f"- dataset: {run.dataset_name}\n"
        f"- digest of its records: {run.dataset_digest}\n"
        f"- trained on: {run.config['train_splits']}\n"
        f"- classes, in the order of the probabilities: `{_quote(run.class_names)}`"
    )


def _describe_metrics(run: Run, exports: Sequence[Export]) -> str:
    """Returns the validation scores of the checkpoints that were exported."""
    path = run.logdir / HISTORY_NAME
    steps = {export.step for export in exports}
    lines = []
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        for entry in entries:
            if entry["step"] in steps:
                lines.append(
                    f"- step {entry['step']:,}, on the validation split: accuracy "
                    f"{entry['accuracy']:.2%}, loss {entry['loss']:.4f}, mean squared error "
                    f"{entry['mean_squared_error']:.5f}"
                )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a list of validations; restore it, or remove it to do without"
        ) from error
    lines += _describe_update(run)
    return "\n".join(lines) or "None: the exported checkpoint was not validated."


def _describe_update(run: Run) -> list[str]:
    """Returns how an updated version was judged; nothing for the run as it was trained."""
    return [
        f"- version {version.number}, against version {one['version']}, {one['images']}: "
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
