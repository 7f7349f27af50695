"""Which number format the arithmetic of training uses."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from data_prep.command_line import UserError
from model_definition.architecture import Architecture
from train.processor import has_bfloat16

_BFLOAT16_CHANNELS = 16  # oneDNN has quick bfloat16 normalisation for multiples of so many alone


def resolve_precision(precision: str, architecture: Architecture) -> str:
    """Decides what `auto` means for a network on this machine.

    Args:
      precision: `auto`, `float32` or `bfloat16`.
      architecture: the network.

    Returns:
      `float32` or `bfloat16`.

    Raises:
      UserError: bfloat16 is asked for where it would only be emulated, slower than float32.
    """
    if precision == "auto":
        is_quicker = has_bfloat16() and not _normalizes_narrowly(architecture)
        return "bfloat16" if is_quicker else "float32"
    if precision == "bfloat16" and not has_bfloat16():
        raise UserError(
            "--precision=bfloat16: this processor has no bfloat16 instructions (avx512_bf16 or "
            "amx_bf16); use --precision=auto or float32"
        )
    return precision


def _normalizes_narrowly(architecture: Architecture) -> bool:
    """Tells whether a batch normalisation would take several times longer in bfloat16."""
    return any(
        layer.kind == "batchnorm" and layer.output_shape[-1] % _BFLOAT16_CHANNELS
        for layer in architecture.layers
    )


def session_config(precision: str) -> tf.compat.v1.ConfigProto:
    """Returns the configuration of a session that trains.

    Args:
      precision: `float32` or `bfloat16`. With bfloat16 the weights stay float32; oneDNN's rewrite
        of the graph multiplies in bfloat16.
    """
    config = tf.compat.v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.remapping = rewriter_config_pb2.RewriterConfig.OFF  # model_definition.network says why
    if precision == "bfloat16":
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return config
