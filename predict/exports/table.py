"""The formats that a run can be exported in, with what `--format` calls them."""

from __future__ import annotations

from collections.abc import Sequence

from data_prep.command_line import UserError, log
from predict.exports import keras_files, litert_files, onnx_file, saved_model, text_file
from predict.exports.formats import Format, Tolerance

_FLOAT32 = Tolerance(
    1e-4, 0.0, "the same float32 arithmetic, whose sums are taken in another order"
)
_FLOAT16 = Tolerance(0.01, 0.0, "weights of 11 bits are rounded by up to 1 part in 2,048")
_INT8 = Tolerance(
    0.1, 0.02, "weights and values of 8 bits move what lies near the border of two classes"
)

_LOAD_KERAS = """\
import keras
import numpy as np

{images}
model = keras.models.load_model({file})
probabilities = model.predict(images)
"""
_LOAD_H5 = """\
import h5py
import keras
import numpy as np

{images}
model = keras.models.load_model({file})
probabilities = model.predict(images)

with h5py.File({file}) as file:  # To go on training: Keras itself leaves this state where it is.
    if "optimizer" in file:
        model.optimizer.build(model.trainable_variables)
        model.optimizer.load_own_variables(file["optimizer/vars"])
"""
_BUILD_FROM_JSON = """\
from pathlib import Path

import keras
import numpy as np

{images}
model = keras.models.model_from_json(Path({file}).read_text())
model.load_weights({beside})
probabilities = model.predict(images)
"""
_BUILD_FROM_YAML = """\
import json
from pathlib import Path

import keras
import numpy as np
import yaml

{images}
configuration = yaml.safe_load(Path({file}).read_text())
model = keras.models.model_from_json(json.dumps(configuration))
model.load_weights({beside})
probabilities = model.predict(images)
"""
_LOAD_WEIGHTS = """\
from pathlib import Path

import keras
import numpy as np

{images}
model = keras.models.model_from_json(Path({beside}).read_text())
model.load_weights({file})
probabilities = model.predict(images)
"""
_LOAD_SAVED_MODEL = """\
import numpy as np
import tensorflow as tf

{images}
signatures = tf.saved_model.load({file}).signatures
outputs = signatures["serving_default"](pixels=tf.constant(images))
probabilities = outputs["probabilities"].numpy()
class_names = [name.decode() for name in outputs["classes"].numpy()]

files = [tf.io.encode_png(image).numpy() for image in images]  # PNG or JPEG, as they are on disk
outputs = signatures["image_bytes"](image_bytes=tf.constant(files))
"""
_LOAD_LITERT = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter

{images}
interpreter = Interpreter({file})
pixels, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.resize_tensor_input(pixels["index"], images.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(pixels["index"], images)
interpreter.invoke()
probabilities = interpreter.get_tensor(output["index"])
"""
_LOAD_ONNX = """\
import numpy as np
import onnxruntime

{images}
session = onnxruntime.InferenceSession({file}, providers=["CPUExecutionProvider"])
[probabilities] = session.run(["probabilities"], {{"pixels": images}})
"""

FORMATS: tuple[Format, ...] = (
    Format(
        "keras",
        ".keras",
        "Keras: one file with architecture, weights and the optimiser's state",
        keras_files.write_keras,
        keras_files.load_keras,
        _FLOAT32,
        _LOAD_KERAS,
    ),
    Format(
        "h5",
        ".h5",
        "Keras: the same as one HDF5 file",
        keras_files.write_h5,
        keras_files.load_h5,
        _FLOAT32,
        _LOAD_H5,
    ),
    Format(
        "json",
        ".json",
        "Keras: the architecture alone, as Keras's own JSON",
        keras_files.write_json,
        keras_files.load_json,
        _FLOAT32,
        _BUILD_FROM_JSON,
        checked_with="weights_h5",
    ),
    Format(
        "yaml",
        ".yaml",
        "Keras: the architecture alone, the same as YAML",
        keras_files.write_yaml,
        keras_files.load_yaml,
        _FLOAT32,
        _BUILD_FROM_YAML,
        checked_with="weights_h5",
    ),
    Format(
        "weights_h5",
        ".weights.h5",
        "Keras: the weights alone, for json or yaml",
        keras_files.write_weights_h5,
        keras_files.load_weights_h5,
        _FLOAT32,
        _LOAD_WEIGHTS,
        checked_with="json",
    ),
    Format(
        "saved_model",
        "/",
        "TensorFlow: a folder NAME/VERSION/ for TensorFlow Serving; pixels, or PNG and JPEG files",
        saved_model.write_saved_model,
        saved_model.load_saved_model,
        _FLOAT32,
        _LOAD_SAVED_MODEL,
        can_average=True,
    ),
    Format(
        "litert",
        "-float32.tflite",
        "LiteRT: for phones and small devices",
        litert_files.write_float32,
        litert_files.load_litert,
        _FLOAT32,
        _LOAD_LITERT,
        can_average=True,
    ),
    Format(
        "litert_float16",
        "-float16.tflite",
        "LiteRT: half the size, weights rounded to float16",
        litert_files.write_float16,
        litert_files.load_litert,
        _FLOAT16,
        _LOAD_LITERT,
        can_average=True,
    ),
    Format(
        "litert_int8",
        "-int8.tflite",
        "LiteRT: a quarter of the size, whole numbers calibrated on training images",
        litert_files.write_int8,
        litert_files.load_litert,
        _INT8,
        _LOAD_LITERT,
        can_average=True,
    ),
    Format(
        "onnx",
        ".onnx",
        "ONNX: for onnxruntime and many other programs",
        onnx_file.write_onnx,
        onnx_file.load_onnx,
        _FLOAT32,
        _LOAD_ONNX,
        can_average=True,
    ),
    Format(
        "text",
        ".txt",
        "the architecture alone, as train_lenet.py --model reads it",
        text_file.write_text,
        None,
        None,
        "",
    ),
)


def find_format(name: str) -> Format:
    """Returns the format of a name that is in the table."""
    [found] = [format for format in FORMATS if format.name == name]
    return found


def choose_formats(names: Sequence[str]) -> tuple[Format, ...]:
    """Reads what `--format` names.

    Args:
      names: names of formats; `all` stands for every one.

    Returns:
      The formats, each once, in the order of the table.

    Raises:
      UserError: a name is unknown, or none is given.
    """
    known = [format.name for format in FORMATS]
    listed = f"the formats are {', '.join(known)}; all is every one, and help explains them"
    if not names:
        raise UserError(
            f"--format: expected one or several, joined by commas, found none; {listed}"
        )
    for name in names:
        if name not in (*known, "all"):
            raise UserError(f"--format: there is no format {name!r}; {listed}")
    return tuple(format for format in FORMATS if format.name in names or "all" in names)


def choose_averaging(formats: Sequence[Format], names: Sequence[str]) -> tuple[Format, ...]:
    """Leaves the formats that can hold several runs, or shifts, and the mean of their answers.

    Args:
      formats: from `choose_formats`.
      names: what it read; of `all` the others are left out, and named in the log.

    Returns:
      Those that can, in the order of the table.

    Raises:
      UserError: one that cannot is asked for by its name.
    """
    possible = ", ".join(format.name for format in FORMATS if format.can_average)
    unable = [format.name for format in formats if not format.can_average]
    for name in unable:
        if name in names:
            raise UserError(
                f"--format: {name} holds one network, so neither several runs nor test-time "
                f"shifts; those can be exported as {possible}"
            )
    if unable:
        log(f"all: {', '.join(unable)} hold one network each, and are left out")
    return tuple(format for format in formats if format.can_average)


def describe_formats() -> str:
    """Returns what `--format=help` prints: the formats, one a line."""
    width = max(len(format.name) for format in FORMATS)
    lines = [f"{format.name:<{width}}  {format.summary}" for format in FORMATS]
    return "\n".join([*lines, f"{'all':<{width}}  every one of them"])
