"""A run made by hand, and its scores computed by numpy alone, for the tests of evaluation.

The model is `flatten`, `output`: a matrix and a bias, so numpy says what it must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep import tfrecord
from data_prep.schema import Manifest, decode_example
from model_definition.checkpoints import list_checkpoints
from model_definition.run_dir import Run, write_run

v1 = tf.compat.v1
MODEL = "flatten\noutput\n"


def make_run(logdir: Path, data_dir: Path, manifest: Manifest) -> Run:
    """Writes the description of a run that was trained on a dataset; it has no checkpoint yet."""
    run = Run(
        logdir=logdir,
        model="linear",
        architecture_text=MODEL,
        data_dir=str(data_dir),
        dataset_name=manifest.name,
        dataset_digest=manifest.digest,
        image_shape=manifest.image_shape,
        image_preparation=manifest.image_preparation,
        class_names=manifest.class_names,
        config={},
        versions={},
    )
    write_run(run)
    return run


def make_weights(run: Run, seed: int) -> dict[str, np.ndarray]:
    """Returns weights that look for each class's bright row, and err now and then."""
    generator = np.random.default_rng(seed)
    num_classes = len(run.class_names)
    rows = np.zeros((*run.image_shape, num_classes))
    for label in range(num_classes):
        rows[label % run.image_shape[0], ..., label] = 0.05
    noise = generator.normal(scale=0.1, size=rows.shape)
    return {
        "output/weights": (rows + noise).reshape(-1, num_classes).astype(np.float32),
        "output/biases": generator.normal(size=num_classes).astype(np.float32),
    }


def write_checkpoint(folder: Path, step: int, weights: Mapping[str, np.ndarray]) -> Path:
    """Adds a checkpoint to a run folder, or to its `best`; returns its prefix."""
    folder.mkdir(exist_ok=True)
    with tf.Graph().as_default(), v1.Session() as session:
        for name, value in weights.items():
            v1.get_variable(name, initializer=value)
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(save_relative_paths=True, max_to_keep=None)
        saver.recover_last_checkpoints([str(path) for path in reversed(list_checkpoints(folder))])
        return Path(saver.save(session, str(folder / "model.ckpt"), step, write_meta_graph=False))


def read_split(data_dir: Path, manifest: Manifest, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads uint8 images [n, height, width, channels] and labels [n] without TensorFlow."""
    images, labels = [], []
    for shard in manifest.splits[split].shards:
        for record in tfrecord.scan_records(data_dir / shard.name):
            example = decode_example(record.data)
            pixels = np.frombuffer(example.encoded, np.uint8)
            images.append(pixels.reshape(example.image_shape))
            labels.append(example.label)
    return np.array(images), np.array(labels)


def predict(images: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the model's probabilities, float64 [n, num_classes]."""
    flat = images.reshape(len(images), -1) / 255.0
    logits = flat @ weights["output/weights"].astype(np.float64) + weights["output/biases"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy, cross-entropy and mean squared error as they are defined."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    return {
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(probabilities[np.arange(len(labels)), labels]).mean()),
        "mean_squared_error": float(((probabilities - one_hot) ** 2).mean()),
    }
