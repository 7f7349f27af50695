"""What a camera and the finding of ink do to a digit, on whole batches, in the graph, by seed.

Strokes come out thicker or thinner, edges softer or harder than in the training images, and there
is noise; a threshold leaves hardly a tone between ink and paper.
"""

from __future__ import annotations

import tensorflow as tf

from input_pipeline.augment import augment
from input_pipeline.augmentation import Augmentation

# Nobody holds a camera quite straight.
_GEOMETRY = Augmentation(shift=0.04, rotation=8.0, zoom=0.12, shear=8.0)
_THICKER, _THINNER = 0.8, 0.4  # the largest share of a dilation, and of an erosion, by 3x3
_HARDEST = 4.0  # the largest slope of the tones around their middle
_NOISE = 0.06  # the largest standard deviation, of a full scale of 1


def photograph(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Distorts every image of a batch in its own way, as photographing it would.

    Args:
      images: float32 [n, height, width, channels], 0 to 255, bright ink on dark.
      seed: int64 [2]; the same seed gives the same distortions.

    Returns:
      float32 of the same shape, 0 to 255.
    """
    # None of them is the seed itself, which may have distorted the images before.
    seeds = [seed + tf.constant([0, part << 40], tf.int64) for part in (1, 2, 3)]
    ink = augment(images, _GEOMETRY, seeds[2]) / 255.0
    draws = tf.random.stateless_uniform([4, tf.shape(images)[0], 1, 1, 1], seeds[0])
    weight, softness, hardness, noisiness = tf.unstack(draws)
    thick = tf.nn.max_pool2d(ink, 3, 1, "SAME")
    thin = -tf.nn.max_pool2d(-ink, 3, 1, "SAME")
    weight = 2.0 * weight - 1.0
    ink += tf.nn.relu(weight) * _THICKER * (thick - ink)
    ink += tf.nn.relu(-weight) * _THINNER * (thin - ink)
    ink += softness * (_blur(ink) - ink)
    # Two in three keep their tones.
    slope = 1.0 + tf.nn.relu(3.0 * hardness - 2.0) * (_HARDEST - 1.0)
    ink = (ink - 0.5) * slope + 0.5
    ink += _NOISE * tf.square(noisiness) * tf.random.stateless_normal(tf.shape(ink), seeds[1])
    return 255.0 * tf.clip_by_value(ink, 0.0, 1.0)


def _blur(images: tf.Tensor) -> tf.Tensor:
    """Smooths with a Gaussian of about one pixel, that is with 1 4 6 4 1 both ways."""
    taps = tf.constant([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    channels = int(images.shape[3])
    for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        kernel = tf.tile(tf.reshape(taps, shape), [1, 1, channels, 1])
        images = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    return images
