"""Builds the TF-Slim graph of an architecture."""

from __future__ import annotations

import functools
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_slim as slim

from model_definition import fourier_conv
from model_definition.architecture import IMAGES, Architecture, Layer
from model_definition.batch_norm import batch_norm
from model_definition.initializers import auto_scale
from model_definition.layer_kinds import ACTIVATIONS

# With oneDNN's kernels TensorFlow 2.21 fuses some layers wrongly: a residual network then answers
# something else. Sessions without a configuration of their own take this one.
tf.config.optimizer.set_experimental_options({"remapping": False})


def build_network(
    architecture: Architecture,
    images: tf.Tensor,
    *,
    is_training: bool,
    seed: int = 0,
    global_step: tf.Tensor | None = None,
    fast: bool = False,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Adds a network to the current graph, under the current variable scope.

    Its variables are those of TF-Slim's layers in the scope of each layer's name, such as
    `conv1/weights` and `conv1/biases`; a residual's projection is `residual1/projection`. Initial
    weights depend on the seed, the layer's name and their shape alone, whatever else is in the
    graph. What dropout drops depends on the seed, the layer's name and the global step alone, so
    that a resumed run drops what an uninterrupted one would. `l2=x` adds x/2 times the weights' sum
    of squares to the graph's `REGULARIZATION_LOSSES`; batch normalisation in training adds to its
    `UPDATE_OPS`.

    Args:
      architecture: what to build.
      images: float32 [n, height, width, channels], normalised; n may be unknown.
      is_training: whether dropout drops and batch normalisation uses the batch's statistics.
      seed: any 64-bit integer.
      global_step: integer [], the training step; only training needs it.
      fast: whether convolutions are products in frequencies where that saves work: the same
        functions of float32 numbers, quicker to train.

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
    step = global_step if is_training else None
    context = _Context(architecture, seed, step, fast, {IMAGES: images})
    # `net` is `linear` after its activation. As max(relu(x)) is relu(max(x)), a pool takes `linear`
    # and puts the activation off until fewer numbers are left.
    net = linear = images
    activation: _Activation | None = None
    with warnings.catch_warnings():
        # TF-Slim 1.1 calls its layers in a way that TensorFlow deprecates.
        warnings.filterwarnings("ignore", message="`layer.apply` is deprecated")
        for layer in architecture.layers:
            if layer.kind == "maxpool" and activation is tf.nn.relu:
                linear = _build_maxpool(layer, linear, context)
            else:
                linear = BUILDERS[layer.kind](layer, net, context)
                activation = _activation_of(layer)
            with tf.name_scope(f"{layer.name}/activation"):  # swish takes no name of its own.
                net = activation(linear) if activation else linear
            context.end_points[layer.name] = net
    del context.end_points[IMAGES]
    return net, context.end_points


_Activation = Callable[..., tf.Tensor]
_ACTIVATIONS: dict[str, _Activation] = {
    "relu": tf.nn.relu,
    "leaky_relu": tf.nn.leaky_relu,
    "elu": tf.nn.elu,
    "gelu": tf.nn.gelu,
    "swish": tf.nn.silu,
    "tanh": tf.nn.tanh,
    "sigmoid": tf.nn.sigmoid,
}


def _activation_of(layer: Layer) -> _Activation | None:
    """Returns a layer's activation, whether it has one or is one."""
    if layer.kind == "leaky_relu":
        return functools.partial(tf.nn.leaky_relu, alpha=layer.options["slope"])
    name = layer.kind if layer.kind in ACTIVATIONS else layer.options.get("activation", "none")
    return _ACTIVATIONS.get(name)


@dataclass(frozen=True)
class _Context:
    """What a layer may need besides its input; outside training there is no step."""

    architecture: Architecture
    seed: int
    step: tf.Tensor | None
    fast: bool
    end_points: dict[str, tf.Tensor]

    def seed_of(self, name: str) -> int:
        """Returns the seed of a scope, made of its name so that other layers may come and go."""
        return (self.seed + zlib.crc32(name.encode())) % 2**63

    def auto_scale_of(self, layer: Layer) -> float:
        """Returns the variance of initial weights, times their inputs, where it is left to us."""
        following = self.architecture.layers[self.architecture.layers.index(layer) + 1 :]
        activation = layer.options.get("activation", "none")
        return auto_scale(layer.kind, activation, following[0].kind if following else "")


_INITIALIZERS = {  # (scale, what it is divided by, distribution)
    "he_normal": (2.0, "fan_in", "normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "normal"),
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "lecun_normal": (1.0, "fan_in", "normal"),
}


def _initializer(layer: Layer, context: _Context, part: int = 0) -> Callable[..., tf.Tensor]:
    """Returns the initialiser of a layer's weights; `part` tells two kinds of them apart."""
    # Nothing but the pointwise convolution follows the depthwise one.
    scale = 1.0 if part == _DEPTHWISE else context.auto_scale_of(layer)
    auto = (scale, "fan_in", "normal")
    kind = _INITIALIZERS.get(layer.options["initializer"], auto)
    return _scaled(*kind, seed=context.seed_of(layer.name), part=part)


def _scaled(
    scale: float, fan: str, distribution: str, *, seed: int, part: int = 0
) -> Callable[..., tf.Tensor]:
    """Returns an initialiser of variance scale / fan, whose weights are the same at every call.

    A normal distribution is cut at two standard deviations.

    Args:
      scale: the variance times the fan.
      fan: `fan_in`, the number of inputs of a unit, or `fan_avg`, its mean with that of outputs.
      distribution: `normal` or `uniform`.
      seed: what the weights depend on, besides their shape.
      part: the same.

    Returns:
      A function of (shape, dtype) as TF-Slim calls it.
    """

    def initialize(shape: list[int], dtype: tf.DType, partition_info: Any = None) -> tf.Tensor:
        *window, inputs, outputs = shape
        if part == _DEPTHWISE:  # Each channel is an input, and an output, of its own.
            inputs = outputs
        fan_in, fan_out = math.prod(window) * inputs, math.prod(window) * outputs
        variance = scale / (fan_in if fan == "fan_in" else (fan_in + fan_out) / 2)
        # Of a constant seed, the graph's optimiser would compute the weights, find them too large
        # to keep, and leave them to be computed again.
        seeds = tf.compat.v1.placeholder_with_default([seed, part], [2])
        if distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return tf.random.stateless_uniform(shape, seeds, -limit, limit, dtype)
        # The cut narrows a normal distribution to 0.8796 of its standard deviation.
        stddev = math.sqrt(variance) / 0.87962566
        return tf.random.stateless_truncated_normal(shape, seeds, stddev=stddev, dtype=dtype)

    return initialize


_DEPTHWISE = 1


def _weights(layer: Layer, context: _Context) -> dict[str, Any]:
    """Returns what a layer function needs to know of a layer's weights and biases."""
    return {
        "weights_initializer": _initializer(layer, context),
        "weights_regularizer": _l2(layer),
        "biases_initializer": tf.compat.v1.zeros_initializer() if layer.options["bias"] else None,
        "scope": layer.name,
    }


def _l2(layer: Layer) -> Callable[[tf.Tensor], tf.Tensor] | None:
    l2 = layer.options["l2"]
    return slim.l2_regularizer(l2) if l2 else None


def _build_conv(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    options = layer.options
    filters, kernel_size = options["filters"], options["kernel_size"]
    plain = options["padding"] == "same" and max(*options["stride"], *options["dilation"]) == 1
    if (
        context.fast
        and plain
        and fourier_conv.saves_work(net.shape[1:3], kernel_size, net.shape[3], filters)
    ):
        return fourier_conv.conv2d(net, filters, kernel_size, **_weights(layer, context))
    return slim.conv2d(
        net,
        filters,
        kernel_size,
        stride=options["stride"],
        padding=options["padding"].upper(),
        rate=options["dilation"],
        activation_fn=None,  # It is added later.
        **_weights(layer, context),
    )


def _build_separable_conv(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    options = layer.options
    weights = _weights(layer, context)
    weights["pointwise_initializer"] = weights["weights_initializer"]
    weights["weights_initializer"] = _initializer(layer, context, _DEPTHWISE)
    return slim.separable_conv2d(
        net,
        options["filters"],
        options["kernel_size"],
        depth_multiplier=1,
        stride=options["stride"],
        padding=options["padding"].upper(),
        rate=options["dilation"],
        activation_fn=None,
        **weights,
    )


def _build_maxpool(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    return slim.max_pool2d(net, **_pool(layer))


def _build_avgpool(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    return slim.avg_pool2d(net, **_pool(layer))


def _pool(layer: Layer) -> dict[str, Any]:
    options = layer.options
    return {
        "kernel_size": options["pool_size"],
        "stride": options["stride"],
        "padding": options["padding"].upper(),
        "scope": layer.name,
    }


def _build_global_avgpool(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    return tf.reduce_mean(net, axis=[1, 2], name=layer.name)


def _build_batchnorm(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    return batch_norm(
        net,
        is_training=context.step is not None,
        momentum=layer.options["momentum"],
        epsilon=layer.options["epsilon"],
        global_step=context.step,
        scope=layer.name,
    )


def _build_flatten(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    # slim.flatten leads to another deprecated layer, for this.
    return tf.reshape(net, [-1, *layer.output_shape], name=layer.name)


def _build_linear(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    units, weights = layer.output_shape[0], _weights(layer, context)
    return slim.fully_connected(net, units, activation_fn=None, **weights)


def _build_dropout(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    if context.step is None:
        return net
    # slim.dropout's generator is in no checkpoint: a resumed run would drop other units.
    seed = tf.stack(
        [context.seed_of(layer.name), tf.cast(context.step, tf.int64)], name=f"{layer.name}/seed"
    )
    return tf.nn.experimental.stateless_dropout(net, layer.options["rate"], seed, name=layer.name)


def _build_residual(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    assert layer.shortcut is not None, "every residual has one"
    shortcut = context.end_points[layer.shortcut]
    stride = layer.options.get("projection_stride")
    if stride is not None:
        scope = f"{layer.name}/projection"
        weights = {
            "activation_fn": None,
            "weights_initializer": _scaled(1.0, "fan_in", "normal", seed=context.seed_of(scope)),
            "scope": scope,
        }
        if len(layer.output_shape) == 3:
            shortcut = slim.conv2d(shortcut, layer.output_shape[2], 1, stride=stride, **weights)
        else:
            shortcut = slim.fully_connected(shortcut, layer.output_shape[0], **weights)
    return tf.add(net, shortcut, name=layer.name)


def _build_activation(layer: Layer, net: tf.Tensor, context: _Context) -> tf.Tensor:
    return net  # `_activation_of` finds it.


BUILDERS: dict[str, Callable[[Layer, tf.Tensor, _Context], tf.Tensor]] = {
    "conv": _build_conv,
    "separable_conv": _build_separable_conv,
    "maxpool": _build_maxpool,
    "avgpool": _build_avgpool,
    "global_avgpool": _build_global_avgpool,
    "batchnorm": _build_batchnorm,
    **dict.fromkeys(ACTIVATIONS, _build_activation),
    "dropout": _build_dropout,
    "flatten": _build_flatten,
    "dense": _build_linear,
    "residual": _build_residual,
    "output": _build_linear,
}
