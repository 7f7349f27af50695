"""The files for TFDS against golden ones, from which TensorFlow Datasets opened the folders.

`benchmarks/tfds_opens.py` opens a folder with the library itself: run it on the folders that these
tests make before changing a golden file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from data_prep.schema import Manifest, Shard, Split
from data_prep.tfds_metadata import write_tfds_metadata
from tests.conftest import MakeDataset, RunScript

GOLDEN = Path(__file__).parent / "testdata"


def make_manifest(image_format: str) -> Manifest:
    def shards(*counts: int) -> tuple[Shard, ...]:
        return tuple(Shard(f"shard {i}", n, 100 * n, "0" * 64) for i, n in enumerate(counts))

    return Manifest(
        name="clothes",
        image_shape=(5, 4, 3),
        image_format=image_format,
        image_preparation="resize",
        class_names=("T-shirt/top", "größe", "Ankle boot"),
        splits={
            "train": Split(23, (8, 8, 7), shards(7, 8, 8)),
            "validation": Split(2, (1, 1, 0), shards(1, 1)),
            "test": Split(5, (2, 2, 1), shards(5)),
        },
        conversion={},
        sources=(),
        record_checksums={},
    )


@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_the_files_are_the_golden_ones(tmp_path: Path, image_format: str) -> None:
    write_tfds_metadata(tmp_path, make_manifest(image_format))
    golden = GOLDEN / f"tfds_{image_format}"
    names = {path.name for path in golden.iterdir()}
    assert names == {"dataset_info.json", "features.json", "image-class-label.labels.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        assert (tmp_path / name).read_text("utf-8") == (golden / name).read_text("utf-8")


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is not None,
    reason="tensorflow_datasets is installed: run benchmarks/tfds_opens.py",
)
def test_without_tfds_the_benchmark_says_what_it_needs(
    run_script: RunScript, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    make_dataset(tmp_path / "tiny")
    done = run_script("benchmarks/tfds_opens.py", f"--data_dir={tmp_path}/tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "tfds_opens.py: expected the module tensorflow_datasets, found none; "
        "pip install -r benchmarks/requirements-peers.txt\n"
    )
