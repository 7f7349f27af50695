"""Builds the TF-Slim graph of an architecture."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import Architecture, Layer


def build_network(
    architecture: Architecture,
    images: tf.Tensor,
    *,
    is_training: bool,
    seed: int = 0,
    global_step: tf.Tensor | None = None,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Adds a network to the current graph, under the current variable scope.

    Its variables are `<layer's name>/weights` and `<layer's name>/biases`. Initial weights depend
    on the seed, the layer's name and their shape alone, whatever else is in the graph. What dropout
    drops depends on the seed, the layer's name and the global step alone, so that a resumed run
    drops what an uninterrupted one would. `l2=x` adds x/2 times the weights' sum of squares to the
    graph's `REGULARIZATION_LOSSES`.

    Args:
      architecture: what to build.
      images: float32 [n, height, width, channels], normalised; n may be unknown.
      is_training: whether dropout drops; if not, it passes on what it gets.
      seed: any 64-bit integer.
      global_step: integer [], the training step; only training needs it.

    Returns:
      Logits, float32 [n, num_classes], and the end points: every layer's output under its name, in
      the order of the layers, each after its activation.

    Raises:
      ValueError: the images have another shape than the architecture's, or training has no step.
    """
    if tuple(images.shape[1:]) != architecture.image_shape:
        raise ValueError(f"expected images {architecture.image_shape}, found {images.shape}")
    if is_training and global_step is None:
        raise ValueError("expected a global step to train with, found None")
    randomness = _Randomness(seed, global_step if is_training else None)
    end_points: dict[str, tf.Tensor] = {}
    # `net` is `linear` after its activation. As max(relu(x)) is relu(max(x)), a pool takes `linear`
    # and puts the activation off until fewer numbers are left.
    net = linear = images
    activation = None
    with warnings.catch_warnings():
        # TF-Slim 1.1 calls its layers in a way that TensorFlow deprecates.
        warnings.filterwarnings("ignore", message="`layer.apply` is deprecated")
        for layer in architecture.layers:
            if layer.kind == "maxpool":
                linear = _build_maxpool(layer, linear)
            else:
                linear = _BUILDERS[layer.kind](layer, net, randomness)
                activation = _ACTIVATIONS[layer.options.get("activation", "none")]
            net = activation(linear, name=f"{layer.name}/activation") if activation else linear
            end_points[layer.name] = net
    return net, end_points


@dataclass(frozen=True)
class _Randomness:
    """What the random numbers of a network depend on; outside training there is no step."""

    seed: int
    step: tf.Tensor | None

    def layer_seed(self, layer: Layer) -> int:
        """Returns the seed of a layer, made of its name so that other layers may come and go."""
        return (self.seed + zlib.crc32(layer.name.encode())) % 2**63


def _weights_scope(layer: Layer, randomness: _Randomness, scale: float) -> Any:
    """Returns the `arg_scope` of a layer that has weights; its activation is added later."""
    l2 = layer.options["l2"]
    return slim.arg_scope(
        [slim.conv2d, slim.fully_connected],
        activation_fn=None,
        weights_initializer=_scaled_normal(scale, randomness.layer_seed(layer)),
        weights_regularizer=slim.l2_regularizer(l2) if l2 else None,
        scope=layer.name,
    )


def _scaled_normal(scale: float, seed: int) -> Callable[..., tf.Tensor]:
    """Returns an initialiser: normal of variance scale / inputs, cut at two standard deviations.

    Args:
      scale: 2 keeps the variance through a ReLU (He et al. 2015, https://arxiv.org/abs/1502.01852),
        1 through a linear layer.
      seed: what the weights depend on besides their shape.

    Returns:
      A function of (shape, dtype) as TF-Slim calls it, whose weights are the same at every call.
    """

    def initialize(shape: list[int], dtype: tf.DType, partition_info: Any = None) -> tf.Tensor:
        # The cut narrows a normal distribution to 0.8796 of its standard deviation.
        stddev = math.sqrt(scale / math.prod(shape[:-1])) / 0.87962566
        return tf.random.stateless_truncated_normal(shape, [seed, 0], stddev=stddev, dtype=dtype)

    return initialize


def _build_conv(layer: Layer, net: tf.Tensor, randomness: _Randomness) -> tf.Tensor:
    options = layer.options
    with _weights_scope(layer, randomness, _SCALES[options["activation"]]):
        return slim.conv2d(
            net,
            options["filters"],
            options["kernel_size"],
            stride=options["stride"],
            padding=options["padding"].upper(),
        )


def _build_maxpool(layer: Layer, net: tf.Tensor) -> tf.Tensor:
    options = layer.options
    return slim.max_pool2d(
        net,
        options["pool_size"],
        stride=options["stride"],
        padding=options["padding"].upper(),
        scope=layer.name,
    )


def _build_flatten(layer: Layer, net: tf.Tensor, randomness: _Randomness) -> tf.Tensor:
    # slim.flatten leads to another deprecated layer, for this.
    return tf.reshape(net, [-1, *layer.output_shape], name=layer.name)


def _build_dense(layer: Layer, net: tf.Tensor, randomness: _Randomness) -> tf.Tensor:
    with _weights_scope(layer, randomness, _SCALES[layer.options["activation"]]):
        return slim.fully_connected(net, layer.options["units"])


def _build_dropout(layer: Layer, net: tf.Tensor, randomness: _Randomness) -> tf.Tensor:
    if randomness.step is None:
        return net
    # slim.dropout's generator is in no checkpoint: a resumed run would drop other units.
    seed = tf.stack(
        [randomness.layer_seed(layer), tf.cast(randomness.step, tf.int64)],
        name=f"{layer.name}/seed",
    )
    return tf.nn.experimental.stateless_dropout(net, layer.options["rate"], seed, name=layer.name)


def _build_output(layer: Layer, net: tf.Tensor, randomness: _Randomness) -> tf.Tensor:
    # Small weights make all classes about as probable at first.
    with _weights_scope(layer, randomness, scale=0.01):
        return slim.fully_connected(net, layer.output_shape[0])


_ACTIVATIONS: dict[str, Callable[..., tf.Tensor] | None] = {"relu": tf.nn.relu, "none": None}
_SCALES = {"relu": 2.0, "none": 1.0}  # of initial weights, by the activation that follows
_BUILDERS: dict[str, Callable[[Layer, tf.Tensor, _Randomness], tf.Tensor]] = {
    "conv": _build_conv,
    "flatten": _build_flatten,
    "dense": _build_dense,
    "dropout": _build_dropout,
    "output": _build_output,
}
