"""Opens TensorBoard's event files."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tensorflow as tf
import tensorflow.compat.v1 as tf1


def open_event_writer(folder: Path, *, suffix: str = "") -> tf1.summary.FileWriter:
    """Opens a new event file.

    Args:
      folder: where; it is made where it is missing.
      suffix: of the file's name, which else holds only the second.

    Returns:
      The writer; the caller closes it.

    Raises:
      OSError: nothing can be written there. TensorFlow's own error has no type that tells.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        error.filename = str(folder)
        raise
    with tf.Graph().as_default():  # TensorFlow 2 lets no v1 writer be made outside a graph.
        return tf1.summary.FileWriter(str(folder), filename_suffix=suffix)
