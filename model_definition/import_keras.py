"""Makes a run folder of a Keras model: `import_keras.py MODEL.keras` (or .h5, or .json).

The model becomes a text in the format of the zoo, with its weights beside it, so that it can be
evaluated, used for prediction and exported as a run that was trained here. A layer that the format
has no words for is named, and nothing is written. Of a .json file, which has no weights, the text
is printed, or written to --output. No code in a file is ever run.

--json prints one document instead: `model`, `keras_version`, `logdir` and `output`, each null where
there is none, the `text` and the `notes`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C amid the imports just ends it.

from absl import flags

from data_prep import command_line
from data_prep.command_line import UserError, log
from data_prep.schema import Manifest, load_manifest
from model_definition.layer_kinds import format_shape
from model_definition.run_dir import BEST_NAME, Run, write_atomically, write_run

if TYPE_CHECKING:
    import numpy as np

    from model_definition.architecture import Architecture
    from model_definition.keras_import.container import KerasFile
    from model_definition.keras_import.text import Translation


def define_flags() -> None:
    """Defines the script's flags."""
    flags.DEFINE_string("logdir", None, "The run folder to make. [runs/MODEL]")
    flags.DEFINE_string("data_dir", "data/mnist", "A dataset folder of the model's classes.")
    flags.DEFINE_string("output", None, "A file to write the text to, besides.")
    flags.DEFINE_bool("json", False, "Prints one JSON document instead of text.")


def main(argv: list[str]) -> None:
    """Imports the model that the command line names."""
    from model_definition.keras_import.apart import read_apart
    from model_definition.keras_import.container import load_keras_file

    values = flags.FLAGS
    path = Path(argv[0])
    output = None if values.output is None else _check_output(values.output)
    file = read_apart(path, load_keras_file, path)
    if file.container == "json" and values.logdir is not None:
        raise UserError(f"{path}: holds no weights, so it makes no run; leave --logdir out")
    logdir = None if file.container == "json" else _choose_logdir(path, values.logdir)
    translation = translate_file(file)
    text = f"# From the Keras model {path.name!r}.\n{translation.text}"
    if logdir:
        manifest = load_manifest(Path(values.data_dir))
        import_run(file, translation, text, logdir, Path(values.data_dir), manifest)
    if output:
        write_atomically(output, text)
    for note in translation.notes:
        log(note)
    if values.json:
        document = {
            "model": str(path),
            "keras_version": file.version or None,
            "logdir": str(logdir) if logdir else None,
            "output": str(output) if output else None,
            "text": text,
            "notes": translation.notes,
        }
        print(json.dumps(document))
        return
    if logdir:
        quoted = shlex.quote(str(logdir))
        print(f"imported {path} as {logdir}; next:")
        print(f"  python eval/evaluate.py --logdir={quoted}")
        print(f"  python predict/predict.py --logdir={quoted} --url=URL")
    if output:
        print(f"wrote {output}")
    elif not logdir:
        print(text, end="")


def _check_output(text: str) -> Path:
    """Returns the path to write the text to, if a file can be made there."""
    output = Path(text)
    if not output.name:
        raise UserError(f"--output={text}: expected the name of a file, found none")
    if output.exists():
        raise UserError(f"{output}: exists already; name another file with --output")
    if not output.parent.is_dir():
        raise UserError(f"--output={text}: there is no folder {output.parent}; create it first")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except FileNotFoundError as error:
        raise UserError(
            f"--output={text}: no file can be made there; choose a folder on an ordinary disk"
        ) from error
    return output


def _choose_logdir(path: Path, text: str | None) -> Path:
    """Returns the run folder to make; without a flag it is named after the model."""
    if text is None:
        name = re.sub(r"\.(keras|h5|hdf5|json)$", "", path.name, flags=re.IGNORECASE)
        where, logdir = str(path), Path("runs", name)
    else:
        name = Path(text).name
        where, logdir = f"--logdir={text}", Path(text)
    if name in ("", ".."):
        raise UserError(f"{where}: gives the run no name; give one, such as --logdir=runs/mine")
    return logdir


def translate_file(file: KerasFile) -> Translation:
    """Expresses the model of a file in the text format.

    Args:
      file: the file.

    Returns:
      The text and what is known of it; its layers fit each other.

    Raises:
      UserError: names each layer that cannot be expressed, and why.
    """
    from model_definition.keras_import.chain import Inexpressible
    from model_definition.keras_import.text import translate

    try:
        translation = translate(file.config)
        shape = translation.input_shape
        # Flat numbers and images without channels are flattened first, whatever their shape was.
        translation.parse(
            (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, math.prod(shape))
        )
        return translation
    except Inexpressible as error:
        raise UserError(f"{file.path}: cannot be expressed as a text: {error}") from None


def import_run(
    file: KerasFile,
    translation: Translation,
    text: str,
    logdir: Path,
    data_dir: Path,
    manifest: Manifest,
) -> None:
    """Writes a run folder, whole or not at all.

    Args:
      file: of a container that has weights.
      translation: its model.
      text: the same as a text, with comments.
      logdir: the run folder, which must not exist yet or be empty.
      data_dir: the dataset folder.
      manifest: its manifest.

    Raises:
      UserError: the dataset does not fit the model, there is something in the folder, or the
        weights are damaged.
    """
    _require_fit(file, translation, manifest)
    run = Run(
        logdir=logdir,
        model=str(file.path),
        architecture_text=text,
        data_dir=str(data_dir.absolute()),
        dataset_name=manifest.name,
        dataset_digest=manifest.digest,
        image_shape=manifest.image_shape,
        image_preparation=manifest.image_preparation,
        class_names=manifest.class_names,
        config={},
        versions={"keras": file.version} if file.version else {},
    )
    with _appearing(logdir) as staging:
        command_line.import_tensorflow()
        from model_definition.checkpoints import CHECKPOINT_NAME
        from model_definition.litert import export_litert

        staged = replace(run, logdir=staging)
        _write_checkpoint(file, translation, staged)
        export_litert(staged, staging / BEST_NAME / f"{CHECKPOINT_NAME}-0")
        write_run(staged)


def _require_fit(file: KerasFile, translation: Translation, manifest: Manifest) -> None:
    shape, images = translation.input_shape, manifest.image_shape
    fits = {1: (math.prod(images),), 2: images[:2] if images[2] == 1 else (), 3: images}
    expected, found = translation.num_classes, len(manifest.class_names)
    if shape != fits[len(shape)] or expected != found:
        raise UserError(
            f"{file.path}: takes {format_shape(shape)} and gives {expected} classes; the dataset "
            f"{manifest.name} has images of {format_shape(images)} and {found} classes; name one "
            "that fits with --data_dir"
        )


@contextlib.contextmanager
def _appearing(logdir: Path) -> Iterator[Path]:
    """Gives an empty folder, which becomes `logdir` when the block ends well.

    Its name is fixed, and the writer holds a `flock` on it: what a killed import left is cleared by
    the next one.
    """
    if logdir.exists() and (not logdir.is_dir() or any(logdir.iterdir())):
        raise UserError(f"{logdir}: there is something already; name another folder with --logdir")
    staging = logdir.with_name(f".{logdir.name}.importing")
    try:
        logdir.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{logdir}: no folder can be made there; choose one on an ordinary disk with --logdir"
        ) from error
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(descriptor), staging.stat())
        except (BlockingIOError, FileNotFoundError):  # In use, or finished just now.
            is_ours = False
        if not is_ours:
            raise UserError(f"{logdir}: another process is importing to this folder now")
        try:
            _clear(staging)
            yield staging
            staging.rename(logdir)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_checkpoint(file: KerasFile, translation: Translation, run: Run) -> None:
    """Writes the weights as the run's best checkpoint, of step 0."""
    import tensorflow as tf
    import tf_slim as slim

    from model_definition.architecture import parse_run_architecture
    from model_definition.checkpoints import InferenceSaver
    from model_definition.model_fn import ModeKeys, ModelParams, model_fn

    architecture = parse_run_architecture(run)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, [None, *run.image_shape])
        model_fn(images, None, ModeKeys.PREDICT, ModelParams(architecture))
        variables = {variable.op.name: variable for variable in slim.get_model_variables()}
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        weights = _load_weights(file, translation, architecture, shapes)
        for name, variable in variables.items():
            variable.load(weights[name], session)
        InferenceSaver().save(session, run.logdir / BEST_NAME, step=0)


def _load_weights(
    file: KerasFile,
    translation: Translation,
    architecture: Architecture,
    shapes: dict[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Returns the value of each model variable, by its name, given their shapes."""
    from model_definition.keras_import.apart import read_apart
    from model_definition.keras_import.chain import list_layers
    from model_definition.keras_import.container import load_weights
    from model_definition.keras_words import VARIABLES

    names = {}  # of a layer's variables, by the name that Keras has for the layer
    for layer, source in zip(architecture.layers, translation.sources, strict=True):
        if layer.kind in VARIABLES:
            own = [f"{layer.name}/{name}" for name in VARIABLES[layer.kind]]
            names[source.name] = [name for name in own if name in shapes]
    expected = {source: [shapes[name] for name in own] for source, own in names.items()}
    found = read_apart(file.path, load_weights, file, list_layers(file.config), expected)
    return {
        name: value
        for source, own in names.items()
        for name, value in zip(own, found[source], strict=True)
    }


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=(1, 1))
