"""Reads a training split in one of the ways that benchmarks/read.py compares, in its own process.

Each way yields shuffled batches of float32 images from 0 to 1 with their labels, epoch after epoch,
as its own documentation says is fast. Nothing is opened before the clock starts; imports are over.
`prepare` writes what a way reads where it does not read TFRecords.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # The project's root instead of this folder on the module path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from data_prep import command_line
from data_prep.schema import load_manifest

BATCH = 256
_TAR_SHARDS = 4


def read_ours(data_dir: Path, _: Path, cache_mb: int = 1024) -> Generator[int, None, None]:
    """This project, in a graph and a session as training has them; checks every CRC32C."""
    import tensorflow as tf

    from input_pipeline.datasets import make_train_dataset

    manifest = load_manifest(data_dir)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = make_train_dataset(
            data_dir, manifest, splits=["train"], batch_size=BATCH, seed=0, cache_mb=cache_mb
        )
        batch = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
        get_next = [tensor.op for tensor in batch]
        while True:
            session.run(get_next)
            yield BATCH


def read_ours_streamed(data_dir: Path, folder: Path) -> Generator[int, None, None]:
    """The same where only a third of the images may be in memory."""
    manifest = load_manifest(data_dir)
    size = manifest.splits["train"].num_examples * np.prod(manifest.image_shape)
    return read_ours(data_dir, folder, cache_mb=max(1, int(size / 3e6)))


def read_example_loop(data_dir: Path, _: Path) -> Generator[int, None, None]:
    """TensorFlow's TFRecord tutorial: a loop over records that parses each `tf.train.Example`."""
    import tensorflow as tf

    paths, n, shape = _describe(data_dir)
    while True:
        images, labels = [], []
        for record in tf.data.TFRecordDataset(paths).shuffle(n):
            example = tf.train.Example()
            example.ParseFromString(record.numpy())
            feature = example.features.feature
            encoded = feature["image/encoded"].bytes_list.value[0]
            images.append(np.frombuffer(encoded, np.uint8).reshape(shape))
            labels.append(feature["image/class/label"].int64_list.value[0])
            if len(images) == BATCH:
                yield len(np.stack(images).astype(np.float32) / 255)
                images, labels = [], []


def read_parse_single(data_dir: Path, _: Path) -> Generator[int, None, None]:
    """TensorFlow's TFRecord tutorial: `parse_single_example` in a map."""
    import tensorflow as tf

    paths, n, shape = _describe(data_dir)

    def parse(record: Any) -> tuple[Any, Any]:
        features = tf.io.parse_single_example(
            record,
            {
                "image/encoded": tf.io.FixedLenFeature([], tf.string),
                "image/class/label": tf.io.FixedLenFeature([], tf.int64),
            },
        )
        image = tf.reshape(tf.io.decode_raw(features["image/encoded"], tf.uint8), shape)
        return tf.cast(image, tf.float32) / 255, features["image/class/label"]

    dataset = tf.data.TFRecordDataset(paths).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return _count(dataset.shuffle(n).batch(BATCH).prefetch(tf.data.AUTOTUNE))


def read_tfds(_: Path, folder: Path) -> Generator[int, None, None]:
    """TensorFlow Datasets: the pipeline of its guide on MNIST, from what TFDS itself prepared."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    dataset, info = tfds.load(
        "mnist",
        split="train",
        data_dir=str(folder / "tfds"),
        shuffle_files=True,
        as_supervised=True,
        with_info=True,
        download=False,
    )
    dataset = dataset.map(
        lambda image, label: (tf.cast(image, tf.float32) / 255.0, label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    dataset = dataset.cache().shuffle(info.splits["train"].num_examples).batch(BATCH)
    return _count(dataset.prefetch(tf.data.AUTOTUNE))


def read_tfrecord(data_dir: Path, _: Path) -> Generator[int, None, None]:
    """The package tfrecord in a torch DataLoader; it checks no CRC."""
    import torch
    from tfrecord.torch.dataset import TFRecordDataset

    paths, _n, shape = _describe(data_dir)
    description = {"image/encoded": "byte", "image/class/label": "int"}

    def transform(features: dict[str, Any]) -> tuple[Any, int]:
        pixels = np.frombuffer(features["image/encoded"], np.uint8).astype(np.float32)
        return pixels.reshape(shape) / 255, int(features["image/class/label"][0])

    parts = [
        TFRecordDataset(path, None, description, shuffle_queue_size=4096, transform=transform)
        for path in paths
    ]
    return _count(torch.utils.data.DataLoader(torch.utils.data.ChainDataset(parts), BATCH))


def read_array_record(_: Path, folder: Path) -> Generator[int, None, None]:
    """ArrayRecord's data source for random access, asked for a whole batch at a time."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    with ArrayRecordDataSource(str(folder / "train.array_record")) as source:
        while True:
            order = np.random.permutation(len(source))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                records = source.__getitems__(order[start : start + BATCH].tolist())
                rows = np.frombuffer(b"".join(records), np.uint8).reshape(BATCH, -1)
                yield len(rows[:, 1:].astype(np.float32) / 255)


def read_webdataset(_: Path, folder: Path) -> Generator[int, None, None]:
    """WebDataset: tar files, shuffled by shard and in a buffer, batched by its own loader."""
    import webdataset

    def decode(sample: tuple[bytes, bytes]) -> tuple[np.ndarray, int]:
        pixels, label = sample
        return np.frombuffer(pixels, np.uint8).astype(np.float32) / 255, int(label)

    tars = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    dataset = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(4096)
    return _count(dataset.to_tuple("bin", "cls").map(decode).batched(BATCH, partial=False))


def read_torch(_: Path, folder: Path) -> Generator[int, None, None]:
    """PyTorch: a dataset that gives an image at a time, in a plain DataLoader that shuffles."""
    import torch

    class Images(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.images = torch.from_numpy(np.load(folder / "images.npy"))
            self.labels = torch.from_numpy(np.load(folder / "labels.npy"))

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.images[index].to(torch.float32).div(255), int(self.labels[index])

    torch.set_num_threads(1)  # Such small operations lose by two, far more on a busy machine.
    return _count(torch.utils.data.DataLoader(Images(), batch_size=BATCH, shuffle=True))


def read_torch_batched(_: Path, folder: Path) -> Generator[int, None, None]:
    """PyTorch: tensors in memory, a batch of indices at a time."""
    import torch

    class Images(torch.utils.data.Dataset):
        def __init__(self) -> None:
            images = np.load(folder / "images.npy")
            self.images = torch.from_numpy(images.reshape(len(images), -1))
            self.labels = torch.from_numpy(np.load(folder / "labels.npy"))

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, indices: list[int]) -> tuple[Any, Any]:
            # `index_select` of whole rows takes less than half as long as indexing with a list.
            chosen = torch.tensor(indices)
            images = self.images.index_select(0, chosen)
            return images.to(torch.float32).div_(255), self.labels.index_select(0, chosen)

    torch.set_num_threads(1)
    images = Images()
    order = torch.utils.data.RandomSampler(images)
    batches = torch.utils.data.BatchSampler(order, BATCH, drop_last=False)
    return _count(torch.utils.data.DataLoader(images, sampler=batches, batch_size=None))


# What each way is called, how it reads, and the module that it needs beyond requirements.txt.
WAYS: dict[str, tuple[Callable[[Path, Path], Generator[int, None, None]], str | None]] = {
    "ours": (read_ours, None),
    "ours streamed": (read_ours_streamed, None),
    "tf.train.Example loop": (read_example_loop, None),
    "parse_single_example": (read_parse_single, None),
    "TFDS guide": (read_tfds, "tensorflow_datasets"),
    "tfrecord": (read_tfrecord, "tfrecord"),
    "array_record": (read_array_record, "array_record"),
    "webdataset": (read_webdataset, "webdataset"),
    "torch DataLoader": (read_torch, "torch"),
    "torch batched sampler": (read_torch_batched, "torch"),
}
_WITHOUT_TENSORFLOW = ("array_record", "webdataset", "torch", "tfrecord")


def prepare(way: str, data_dir: Path, folder: Path, from_dir: str) -> None:
    """Writes what a way reads where it does not read TFRecords; the clock does not run.

    Args:
      way: one of `WAYS`.
      data_dir: the dataset folder.
      folder: where to write.
      from_dir: folder with MNIST's four files, from which TFDS prepares its own.
    """
    module = WAYS[way][1]
    if module == "tensorflow_datasets":
        import tensorflow_datasets as tfds

        config = tfds.download.DownloadConfig(manual_dir=from_dir)
        builder = tfds.builder("mnist", data_dir=str(folder / "tfds"))
        builder.download_and_prepare(download_dir=str(folder / "loads"), download_config=config)
    elif module in ("torch", "array_record", "webdataset"):
        from benchmarks.tfds_opens import load_arrays

        images, labels = load_arrays(data_dir, "train")
        if module == "torch":
            np.save(folder / "images.npy", images)
            np.save(folder / "labels.npy", labels)
        elif module == "array_record":
            from array_record.python.array_record_module import ArrayRecordWriter

            # Its guide: one record a group reads fastest where access is random.
            writer = ArrayRecordWriter(str(folder / "train.array_record"), "group_size:1")
            for image, label in zip(images, labels, strict=True):
                writer.write(bytes([label]) + image.tobytes())
            writer.close()
        else:
            _write_tars(images, labels, folder)


def _write_tars(images: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    for shard in range(_TAR_SHARDS):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as tar:
            for index in range(shard, len(labels), _TAR_SHARDS):
                parts = {"bin": images[index].tobytes(), "cls": str(labels[index]).encode()}
                for kind, content in parts.items():
                    member = tarfile.TarInfo(f"{index:08d}.{kind}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _describe(data_dir: Path) -> tuple[list[str], int, tuple[int, int, int]]:
    manifest = load_manifest(data_dir)
    split = manifest.splits["train"]
    paths = [str(data_dir / shard.name) for shard in split.shards]
    return paths, split.num_examples, manifest.image_shape


def _count(batches: Any) -> Generator[int, None, None]:
    """Goes through an epoch's batches again and again; yields how many images each has."""
    while True:
        for images, _ in batches:
            yield len(images)


def read(way: str, data_dir: Path, folder: Path, later: int) -> dict[str, float]:
    """Returns the images a second of the first epoch, and of those after it.

    Args:
      way: one of `WAYS`.
      data_dir: the dataset folder.
      folder: where `prepare` has written.
      later: how many epochs to read after the first.
    """
    batches_of, module = WAYS[way]
    if module:
        __import__(module)
    if module not in _WITHOUT_TENSORFLOW:
        command_line.import_tensorflow()
        import input_pipeline.datasets  # noqa: F401  No import is left for the first epoch.
    n = load_manifest(data_dir).splits["train"].num_examples // BATCH * BATCH
    speeds = {}
    start = time.perf_counter()
    # Closed here, for a session that Python closes at its own end waits for ever.
    with contextlib.closing(batches_of(data_dir, folder)) as batches:
        for name, epochs in {"first": 1, "later": later}.items():
            got = 0
            while got < epochs * n:
                got += next(batches)
            now = time.perf_counter()
            speeds[name] = got / (now - start)
            start = now
    return speeds


if __name__ == "__main__":
    _, action, way, data_dir, folder, argument = sys.argv
    if action == "prepare":
        prepare(way, Path(data_dir), Path(folder), argument)
    else:
        print(json.dumps(read(way, Path(data_dir), Path(folder), int(argument))))
