"""The graph of a calibrated model: what each image's score is computed from, and the outputs."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from model_definition.calibration import BOUND, Calibration, Rejection
from model_definition.inference import InferenceModel

# These repeat what their input says.
_REPEATING = ("flatten", "dropout")


def build_features(end_points: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Adds to the graph what every layer says of an image as a whole.

    Args:
      end_points: of the network, by the layers' names, `output`'s logits among them.

    Returns:
      float32 [n, d]: of a layer of feature maps the mean and the maximum of each map, of any other
      layer its outputs; the logits come last.
    """
    features = []
    for name, output in end_points.items():
        if name.startswith(_REPEATING):
            continue
        if output.shape.rank == 4:
            features += [tf.reduce_mean(output, [1, 2]), tf.reduce_max(output, [1, 2])]
        else:
            features.append(output)
    return tf.concat(features, axis=1)


def build_outputs(model: InferenceModel, calibration: Calibration) -> dict[str, tf.Tensor]:
    """Adds calibrated outputs to a model's graph.

    Args:
      model: the model.
      calibration: fitted to the same weights.

    Returns:
      `probabilities`, float32 [n, num_classes], and `scores`, float32 [n], of which those from 0 on
      are accepted.
    """
    logits = model.end_points["output"] / calibration.temperature
    scores = _build_scores(build_features(model.end_points), calibration.rejection)
    return {"probabilities": tf.nn.softmax(logits), "scores": scores}


def _build_scores(features: tf.Tensor, rejection: Rejection) -> tf.Tensor:
    """Does in the graph what `Rejection.score` does."""
    x = tf.clip_by_value((features - rejection.mean) / rejection.scale, -BOUND, BOUND)
    hidden = tf.nn.relu(tf.matmul(x, rejection.hidden_weights) + rejection.hidden_biases)
    logits = tf.matmul(hidden, rejection.weights) + rejection.biases
    of_any_class = tf.reduce_logsumexp(logits[:, :-1], axis=1)
    return of_any_class - logits[:, -1] - rejection.threshold
