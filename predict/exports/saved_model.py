"""A SavedModel as TensorFlow Serving reads it, for pixels and for PNG or JPEG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from predict.exports.formats import ExportSource, Predict

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

IMAGE_BYTES = "image_bytes"  # the signature, and its input


def write_saved_model(source: ExportSource, path: Path) -> None:
    """Writes a SavedModel with two signatures.

    `serving_default` takes `pixels`, uint8 [n, height, width, channels]; `image_bytes` takes
    `image_bytes`, string [n], whole PNG or JPEG files, which are brought to the run's channels and
    size. Both give `classes`, string [n], the name of the likeliest class, and `probabilities`,
    float32 [n, num_classes].

    Args:
      source: what to export.
      path: the folder.
    """
    import tensorflow as tf

    from model_definition.inference import open_ensemble

    v1 = tf.compat.v1
    inputs = {}

    def build_pixels() -> tf.Tensor:
        inputs[IMAGE_BYTES] = v1.placeholder(tf.string, [None], IMAGE_BYTES)
        decoded = _decode_images(inputs[IMAGE_BYTES], source.run.image_shape)
        return v1.placeholder_with_default(decoded, [None, *source.run.image_shape], "pixels")

    shifts = source.test_time_shifts
    with open_ensemble(source.members, build_pixels, test_time_shifts=shifts) as model:
        names = tf.constant(source.run.class_names)
        classes = tf.gather(names, tf.argmax(model.probabilities, axis=1), name="classes")
        outputs = {"classes": classes, "probabilities": model.probabilities}
        signature = v1.saved_model.predict_signature_def
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            model.session,
            [v1.saved_model.SERVING],
            signature_def_map={
                "serving_default": signature({"pixels": model.pixels}, outputs),
                IMAGE_BYTES: signature(inputs, outputs),
            },
            strip_default_attrs=True,  # So that older versions of TensorFlow can read it.
        )
        builder.save()


def _decode_images(files: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns files, string [n], as uint8 [n, height, width, channels]."""
    import tensorflow as tf

    height, width, channels = image_shape

    def decode(content: tf.Tensor) -> tf.Tensor:
        picture = tf.io.decode_image(content, channels=channels, expand_animations=False)
        # Pictures of the right size stay as they are; larger ones are averaged down.
        resized = tf.image.resize(picture, [height, width], antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

    return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec(image_shape, tf.uint8))


def load_saved_model(path: Path, beside: Path | None) -> Predict:
    """Opens a SavedModel with TensorFlow 2.

    Args:
      path: the folder.
      beside: not used.

    Returns:
      A function from uint8 pixels to probabilities.
    """
    import tensorflow as tf

    signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def predict(images: np.ndarray) -> np.ndarray:
        return signature(pixels=tf.constant(images))["probabilities"].numpy()

    return predict
