"""What `initializer=auto` means, for TF-Slim's layers and for Keras's."""

from __future__ import annotations


def auto_scale(kind: str, activation: str, next_kind: str) -> float:
    """Returns the variance of a layer's initial weights, times their inputs.

    2 keeps the variance of what passes a ReLU (He et al. 2015, https://arxiv.org/abs/1502.01852),
    and about that of its like; 1 that of a linear layer, as the depthwise half of a
    `separable_conv` always is. Small weights of `output` make all classes about as probable at
    first.

    Args:
      kind: of the layer.
      activation: its own.
      next_kind: the kind of the layer that follows, which may be its activation.

    Returns:
      The scale, as `VarianceScaling` with `fan_in` takes it.
    """
    if kind == "output":
        return 0.01
    word = next_kind if activation == "none" else activation
    return 2.0 if word in ("relu", "leaky_relu", "elu", "gelu", "swish") else 1.0
