"""What all tests share: running a script as its users do, tiny datasets, and the real MNIST."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from data_prep.conversion import convert
from data_prep.dataset_folder import ConversionOptions
from data_prep.schema import Manifest

# As `import_tensorflow` does: tests import TensorFlow themselves, and compare bits with scripts.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

PROJECT = Path(__file__).resolve().parents[1]


class RunScript(Protocol):
    def __call__(
        self,
        script: str,
        *args: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]: ...


class StartScript(Protocol):
    def __call__(self, script: str, *args: object, **popen: Any) -> subprocess.Popen[str]: ...


class MakeDataset(Protocol):
    def __call__(
        self,
        data_dir: Path,
        *,
        image_shape: tuple[int, int, int] = (13, 9, 3),
        num_classes: int = 5,
        num_train: int = 61,
        num_validation: int = 11,
        num_test: int = 17,
        num_shards: int = 2,
        image_format: str = "raw",
        seed: int = 0,
    ) -> Manifest: ...


@pytest.fixture(scope="session")
def run_script(tmp_path_factory: pytest.TempPathFactory) -> RunScript:
    """Runs a script of the project to its end; it must never show a traceback.

    `script` is a path under the project, `env` is added to the environment, and `cwd` is an empty
    folder unless it is given.
    """

    def run(script, *args, cwd=None, env=None, timeout=60):
        done = subprocess.run(
            [sys.executable, str(PROJECT / script), *map(str, args)],
            cwd=cwd or tmp_path_factory.mktemp("cwd"),
            env={**os.environ, **(env or {})},
            timeout=timeout,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def start_script() -> Iterator[StartScript]:
    """Starts a script and returns its `Popen`, with text pipes; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(script, *args, **popen):
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / script), *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with MNIST's four files; the test is skipped where there is none."""
    if "MNIST_DIR" not in os.environ:
        pytest.skip("MNIST_DIR is not set: needs the four files of MNIST")
    return Path(os.environ["MNIST_DIR"])


@pytest.fixture(scope="session")
def write_idx() -> Callable[[Path, str, np.ndarray, np.ndarray], None]:
    """Writes uint8 images [n, height, width(, channels)] and labels [n] as a pair of IDX files."""

    def write(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, values in (("images", images), ("labels", labels)):
            head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            path = folder / f"{prefix}-{kind}-idx{values.ndim}-ubyte"
            path.write_bytes(head + values.astype(np.uint8).tobytes())

    return write


@pytest.fixture(scope="session")
def make_dataset(
    tmp_path_factory: pytest.TempPathFactory, write_idx: Callable[..., None]
) -> MakeDataset:
    """Converts a tiny dataset into `data_dir`: dark noise, with row number `label` bright.

    Labels go round: example i of the source has label i modulo `num_classes`. With
    `num_validation=0` there is no validation split. Its name is the folder's.
    """

    def make(
        data_dir,
        *,
        image_shape=(13, 9, 3),
        num_classes=5,
        num_train=61,
        num_validation=11,
        num_test=17,
        num_shards=2,
        image_format="raw",
        seed=0,
    ):
        from_dir = tmp_path_factory.mktemp("idx")
        random = np.random.default_rng(seed)
        for prefix, count in (("train", num_train + num_validation), ("t10k", num_test)):
            labels = np.arange(count) % num_classes
            images = random.integers(0, 128, (count, *image_shape), np.uint8)
            images[np.arange(count), labels % image_shape[0]] |= 128
            write_idx(from_dir, prefix, images, labels)
        options = ConversionOptions(
            dataset="idx",
            image_format=image_format,
            num_shards=num_shards,
            validation_size=num_validation,
        )
        return convert(options, data_dir=data_dir, from_dir=from_dir).manifest

    return make
