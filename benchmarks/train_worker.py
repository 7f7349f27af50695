"""Times one way to train LeNet, for benchmarks/train.py; prints one line of JSON.

    python benchmarks/train_worker.py bare|torch|keras IMAGES.npz STEPS [OPTION...]

Exit code 3 means that this way is not to be had here; the last line on stderr says why.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

BATCH_SIZE = 128
_WINDOW = 10  # steps that are timed together
_WARM_UP = 10
_SIDE = 1536  # of the matrices whose product is the machine's measure
_PRODUCTS = 8


def main(arguments: list[str]) -> None:
    """Measures what the arguments say."""
    measure, path, steps, *options = arguments
    data = np.load(path)
    measures = {"bare": measure_bare, "torch": measure_torch, "keras": measure_keras}
    try:
        result = measures[measure](data["images"], data["labels"], int(steps), set(options))
    except ModuleNotFoundError as error:
        _give_up(f"{error.name} is not installed")
    print(json.dumps(result))


def _give_up(why: str) -> None:
    print(why, file=sys.stderr)
    sys.exit(3)


def _time(step: Callable[[], object], steps: int) -> dict[str, Any]:
    """Times steps in windows; returns the median speed and a step's processor time."""
    for _ in range(_WARM_UP):
        step()
    speeds, cpu_ms = [], []
    for _ in range(max(1, steps // _WINDOW)):
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(_WINDOW):
            step()
        speeds.append(_WINDOW * BATCH_SIZE / (time.perf_counter() - start))
        cpu_ms.append((time.process_time() - cpu_start) / _WINDOW * 1e3)
    return {
        "images_per_second": statistics.median(speeds),
        "cpu_ms": statistics.median(cpu_ms),
    }


def _gflops(multiply: Callable[[], object]) -> float:
    """Returns the best of some products of two matrices."""
    multiply()
    seconds = []
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return 2e-9 * _SIDE**3 / min(seconds)


def _versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


def measure_bare(
    images: np.ndarray, labels: np.ndarray, steps: int, options: set[str]
) -> dict[str, Any]:
    """Times this project's training graph on one batch that never changes, without hooks.

    Args:
      images: uint8 [n, 28, 28, 1], at least a batch.
      labels: int64 [n].
      steps: how many to time.
      options: bfloat16 or none.

    Returns:
      `images_per_second`, `cpu_ms`, `gflops` and `versions`.
    """
    from data_prep import command_line

    command_line.import_tensorflow()
    import tensorflow as tf

    from input_pipeline.preprocess import normalize
    from model_definition.architecture import load_architecture
    from train.config import TrainConfig
    from train.graph import build_trained_model
    from train.precision import session_config

    precision = "bfloat16" if "bfloat16" in options else "float32"
    config = TrainConfig(batch_size=BATCH_SIZE, precision=precision)
    architecture = load_architecture("lenet", image_shape=images.shape[1:], num_classes=10)
    with tf.Graph().as_default():
        features = tf.Variable(normalize(images[:BATCH_SIZE]), trainable=False)
        targets = tf.Variable(labels[:BATCH_SIZE].astype(np.int64), trainable=False)
        model = build_trained_model(
            features.read_value(),
            targets.read_value(),
            architecture,
            config,
            total_steps=10_000,
            steps_an_epoch=100,
        )
        matrix = tf.Variable(tf.cast(tf.random.normal([_SIDE, _SIDE]), precision), trainable=False)
        product = tf.matmul(matrix, matrix).op
        with tf.compat.v1.Session(config=session_config(precision)) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            result = _time(session.make_callable([model.step.op]), steps)
            result["gflops"] = _gflops(session.make_callable([product]))
    return {**result, "versions": _versions("tensorflow", "numpy")}


def measure_torch(
    images: np.ndarray, labels: np.ndarray, steps: int, options: set[str]
) -> dict[str, Any]:
    """Times PyTorch with fused Adam on batches that are gathered from memory.

    Args:
      images: uint8 [n, 28, 28, 1], at least a batch.
      labels: int64 [n].
      steps: how many to time.
      options: of channels_last, compile, bfloat16 and augmented.

    Returns:
      `images_per_second`, `cpu_ms`, `gflops` and `versions`.
    """
    torch: Any = importlib.import_module("torch")
    nn = torch.nn
    if "compile" in options and not (shutil.which("g++") or shutil.which("clang++")):
        _give_up("torch.compile needs a C++ compiler, and there is none")
    model: Any = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(1024, 10),
    )
    layout = torch.channels_last if "channels_last" in options else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
    forward = torch.compile(model) if "compile" in options else model
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255.0)
    targets = torch.from_numpy(labels.astype(np.int64))
    order = torch.empty(0, dtype=torch.int64)

    def step() -> None:
        nonlocal order
        if len(order) < BATCH_SIZE:
            order = torch.randperm(len(targets))
        batch, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
        features = pixels[batch]
        if "augmented" in options:
            features = _distort_by_torch(torch, features)
        features = features.to(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in options):
            loss = nn.functional.cross_entropy(forward(features), targets[batch])
        loss.backward()
        optimizer.step()

    result = _time(step, steps)
    matrix = torch.rand(_SIDE, _SIDE)
    if "bfloat16" in options:
        matrix = matrix.to(torch.bfloat16)
    result["gflops"] = _gflops(lambda: matrix @ matrix)
    return {**result, "versions": _versions("torch")}


def _distort_by_torch(torch: Any, images: Any) -> Any:
    """Shifts by a tenth, rotates by 15 degrees and zooms by 0.15, each image in its own way."""
    draws = torch.rand(4, len(images)) * 2 - 1
    angle, scale = draws[0] * np.radians(15), 1 / (1 + 0.15 * draws[1])
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # A side is 2 long here, so that a tenth of it is 0.2.
    rows = [
        torch.stack(row, 1) for row in ((cos, -sin, 0.2 * draws[2]), (sin, cos, 0.2 * draws[3]))
    ]
    affine_grid, grid_sample = torch.nn.functional.affine_grid, torch.nn.functional.grid_sample
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def measure_keras(
    images: np.ndarray, labels: np.ndarray, steps: int, options: set[str]
) -> dict[str, Any]:
    """Times Keras's `fit`, whose epochs are windows here, by the backend of KERAS_BACKEND.

    Args:
      images: uint8 [n, 28, 28, 1], at least a batch.
      labels: int64 [n].
      steps: how many to time.
      options: of jit (XLA), many (20 steps in one execution), bfloat16 (mixed precision) and
        augmented (in `tf.data`).

    Returns:
      `images_per_second`, `cpu_ms`, `gflops` and `versions`.
    """
    import keras
    from keras import layers

    if "bfloat16" in options:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(32, 5, padding="same", activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(64, 5, padding="same", activation="relu"), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dense(1024, activation="relu"), layers.Dropout(0.5)),
            layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(0.001),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile="jit" in options,
        steps_per_execution=20 if "many" in options else 1,
    )
    window = 20  # steps, a whole execution
    count = min(len(labels), window * BATCH_SIZE) // BATCH_SIZE * BATCH_SIZE
    pixels, targets = images[:count].astype(np.float32) / 255.0, labels[:count]
    data: dict[str, Any] = {"x": pixels, "y": targets, "batch_size": BATCH_SIZE}
    if "augmented" in options:
        data = {"x": _distort_by_keras(keras, pixels, targets)}
    marks: list[tuple[float, float]] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: marks.append((time.perf_counter(), time.process_time()))
    )
    epochs = max(1, steps * BATCH_SIZE // count)
    model.fit(**data, epochs=2 + epochs, shuffle=True, verbose=0, callbacks=[clock])
    # What is traced and compiled in the first epoch does not count.
    spans = np.diff(np.array(marks[1:]), axis=0)
    dtype = "bfloat16" if "bfloat16" in options else "float32"
    matrix = keras.random.normal((_SIDE, _SIDE), dtype=dtype)

    def multiply() -> None:
        keras.ops.convert_to_numpy(keras.ops.matmul(matrix, matrix))

    return {
        "images_per_second": count / float(np.median(spans[:, 0])),
        "cpu_ms": float(np.median(spans[:, 1])) / (count / BATCH_SIZE) * 1e3,
        "gflops": _gflops(multiply),
        "versions": _versions("keras", keras.backend.backend()),
    }


def _distort_by_keras(keras: Any, pixels: np.ndarray, targets: np.ndarray) -> Any:
    """Shifts, rotates and zooms in `tf.data`, as Keras's guide does for a CPU."""
    import tensorflow as tf

    layers = keras.layers
    distort = keras.Sequential(
        [
            layers.RandomTranslation(0.1, 0.1, fill_mode="constant"),
            layers.RandomRotation(15 / 360, fill_mode="constant"),
            layers.RandomZoom(0.15, fill_mode="constant"),
        ]
    )
    dataset = tf.data.Dataset.from_tensor_slices((pixels, targets)).cache()
    dataset = dataset.shuffle(len(targets)).batch(BATCH_SIZE, drop_remainder=True)
    return dataset.map(
        lambda images, labels: (distort(images, training=True), labels),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).prefetch(tf.data.AUTOTUNE)


if __name__ == "__main__":
    main(sys.argv[1:])
