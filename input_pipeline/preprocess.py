"""From pixels to what the network sees: the only normalisation there is.

Training, evaluation and the exported model all call it, so it cannot differ between them.
"""

from __future__ import annotations

import tensorflow as tf


def normalize(images: tf.Tensor) -> tf.Tensor:
    """Scales pixels to the range in which the network is trained.

    Args:
      images: [n, height, width, channels] of any number type, 0 to 255.

    Returns:
      float32 of the same shape, 0 to 1. Background stays 0, which is also what convolutions pad
      with.
    """
    return tf.cast(images, tf.float32) * (1.0 / 255.0)
