"""Exports a run as the LiteRT model that prediction runs.

It takes pixels as the records hold them and normalises them itself, so that prediction cannot
differ from training.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from input_pipeline.preprocess import normalize
from model_definition.architecture import parse_run_architecture
from model_definition.checkpoints import InferenceSaver
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from model_definition.run_dir import Run, write_atomically


def export_litert(run: Run, checkpoint: Path) -> None:
    """Writes `export/model.tflite`, whole or not at all.

    The model's input is uint8 [n, height, width, channels], its output the probabilities, float32
    [n, num_classes].

    Args:
      run: the run to export.
      checkpoint: the prefix of the checkpoint's files.

    Raises:
      UserError: the checkpoint is not of this model.
    """
    architecture = parse_run_architecture(run)
    with tempfile.TemporaryDirectory() as folder:
        saved_model = os.path.join(folder, "saved_model")
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            pixels = tf.compat.v1.placeholder(tf.uint8, [None, *run.image_shape], "pixels")
            spec = model_fn(normalize(pixels), None, ModeKeys.PREDICT, ModelParams(architecture))
            InferenceSaver().restore(session, checkpoint)
            tf.compat.v1.saved_model.simple_save(
                session,
                saved_model,
                inputs={"pixels": pixels},
                outputs={"probabilities": spec.predictions["probabilities"]},
            )
        model = tf.lite.TFLiteConverter.from_saved_model(saved_model).convert()
    run.export_path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run.export_path, model)
