"""ONNX: converted from the frozen graph by tf2onnx, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from predict.exports.formats import ExportSource, Predict
from predict.exports.noise import silenced

if TYPE_CHECKING:
    import numpy as np

# Of 2022: onnxruntime reads it since 1.14, and so do the converters of other makers.
_OPSET = 18


def write_onnx(source: ExportSource, path: Path) -> None:
    """Writes an ONNX model: `pixels`, uint8 [n, height, width, channels], in; `probabilities` out.

    Args:
      source: what to export.
      path: the file.
    """
    import tensorflow as tf
    import tf2onnx

    from model_definition.inference import open_ensemble

    with silenced():
        shifts = source.test_time_shifts
        with open_ensemble(source.members, test_time_shifts=shifts) as model:
            output = model.probabilities.op.name
            graph_def = tf.compat.v1.graph_util.convert_variables_to_constants(
                model.session, model.session.graph.as_graph_def(), [output]
            )
        onnx_model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            name=source.name,
            input_names=[model.pixels.name],
            output_names=[model.probabilities.name],
            tensors_to_rename={
                model.pixels.name: "pixels",
                model.probabilities.name: "probabilities",
            },
            custom_op_handlers={"Erfc": (_convert_erfc, [])},
            opset=_OPSET,
        )
    for tensor in (*onnx_model.graph.input, *onnx_model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"
    path.write_bytes(onnx_model.SerializeToString())


def _convert_erfc(context: Any, node: Any, name: str, args: list[str]) -> None:
    """Puts 1 - erf(x) for erfc(x), as which TensorFlow writes GELU and which tf2onnx lacks."""
    import numpy as np

    [x], [output] = node.input, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    one = context.make_const(f"{name}/one", np.ones((), np.float32))
    erf = context.make_node("Erf", [x], shapes=shapes, dtypes=dtypes)
    operands = [one.output[0], erf.output[0]]
    context.make_node("Sub", operands, outputs=[output], shapes=shapes, dtypes=dtypes)


def load_onnx(path: Path, beside: Path | None) -> Predict:
    """Opens an ONNX model with onnxruntime, without TensorFlow.

    Args:
      path: the file.
      beside: not used.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def predict(images: np.ndarray) -> np.ndarray:
        return session.run(["probabilities"], {"pixels": images})[0]

    return predict
