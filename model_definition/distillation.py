"""Learning from what a trained network says of an image, besides its label.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531: a label says 7, the teacher also that it is half a 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Teacher:
    """A trained network that another one learns from.

    Attributes:
      logits_fn: adds it to the current graph; from images as the student sees them, float32
        [n, height, width, channels], to its logits, float32 [n, num_classes].
      share: of the student's loss that is about the teacher's answers, above 0 to 1.
      temperature: by which the logits of both are divided, above 0; the higher, the more the less
        likely classes count.
      digest: SHA-256 of its weights, in hex.
    """

    logits_fn: Callable[[tf.Tensor], tf.Tensor]
    share: float
    temperature: float
    digest: str

    def blend(self, losses: tf.Tensor, features: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Replaces a share of the student's losses by those against the teacher's probabilities.

        The latter are multiplied by the temperature's square, as their gradients shrink by it.

        Args:
          losses: of the student against the labels, float32 [n].
          features: the images, float32 [n, height, width, channels].
          logits: the student's, float32 [n, num_classes].

        Returns:
          float32 [n].
        """
        targets = tf.nn.softmax(tf.stop_gradient(self.logits_fn(features)) / self.temperature)
        apart = tf.nn.softmax_cross_entropy_with_logits(
            labels=targets, logits=logits / self.temperature
        )
        return (1 - self.share) * losses + self.share * self.temperature**2 * apart
