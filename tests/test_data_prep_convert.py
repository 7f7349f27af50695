"""Conversion: what is written. What is kept or refused, and interruptions, have their own files."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import tfrecord
from data_prep.conversion import convert
from data_prep.damage import find_damage
from data_prep.dataset_folder import ConversionOptions
from data_prep.schema import decode_example, load_manifest
from tests.conftest import RunScript
from tests.convert_fixtures import (
    NUM_TEST,
    NUM_TRAIN,
    SHAPE,
    WriteIdx,
    contents,
    make,
    read,
    refuse,
    write_source,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, write_idx: WriteIdx) -> Path:
    return write_source(tmp_path_factory.mktemp("source"), write_idx)


def test_a_conversion_holds_every_image_once(tmp_path: Path, source: Path) -> None:
    manifest = make(tmp_path / "My Digits!", source).manifest
    assert manifest == load_manifest(tmp_path / "My Digits!")
    assert find_damage(tmp_path / "My Digits!", manifest) == []
    assert (manifest.name, manifest.image_shape) == ("my_digits", SHAPE)
    assert manifest.class_names == ("0", "1", "2", "3")
    assert {name: split.num_examples for name, split in manifest.splits.items()} == {
        "train": 55,
        "validation": 5,  # a twelfth
        "test": 13,
    }
    splits = read(tmp_path / "My Digits!")
    raw = (source / "train-images-idx3-ubyte").read_bytes()[16:]
    images = [raw[i : i + 15] for i in range(0, len(raw), 15)]
    order = [images.index(pixels) for pixels, _ in splits["train"]]
    aside = [images.index(pixels) for pixels, _ in splits["validation"]]
    assert sorted(order + aside) == list(range(NUM_TRAIN))
    assert order == sorted(order)
    assert [label for _, label in splits["train"]] == [index % 4 for index in order]
    assert [label for _, label in splits["test"]] == [index % 4 for index in range(NUM_TEST)]
    for name, split in manifest.splits.items():
        counts = np.bincount([label for _, label in splits[name]], minlength=4)
        assert split.class_counts == tuple(counts)


def test_the_manifest_names_the_source_files(tmp_path: Path, source: Path) -> None:
    sources = make(tmp_path / "a", source).manifest.sources
    assert [file["name"] for file in sources] == [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    content = (source / sources[0]["name"]).read_bytes()
    assert sources[0]["num_bytes"] == len(content)
    assert sources[0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "1" / "a", tmp_path / "2" / "a"
    make(first, source)
    monkeypatch.setattr("data_prep.idx.BATCH_BYTES", 15 * 7)  # seven images at a time
    make(second, source)
    assert contents(first) == contents(second)


def test_the_seed_decides_what_is_set_aside(tmp_path: Path, source: Path) -> None:
    for seed in (0, 1):
        make(tmp_path / str(seed), source, seed=seed)
    zero, one = read(tmp_path / "0"), read(tmp_path / "1")
    assert zero["test"] == one["test"]
    assert zero["validation"] != one["validation"]


def test_the_limit_keeps_the_first_examples_of_each_split(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "all", source)
    make(tmp_path / "few", source, limit=7)
    whole = read(tmp_path / "all")
    assert read(tmp_path / "few") == {split: pixels[:7] for split, pixels in whole.items()}


def test_a_validation_size_of_zero_makes_no_split(tmp_path: Path, source: Path) -> None:
    manifest = make(tmp_path / "a", source, validation_size=0).manifest
    assert list(manifest.splits) == ["train", "test"]


def test_a_source_without_a_test_split_gets_one(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    manifest = make(tmp_path / "a", tmp_path).manifest
    sizes = {name: split.num_examples for name, split in manifest.splits.items()}
    assert sizes == {"train": 45, "validation": 5, "test": 10}
    assert "no test split in the source: 10 training images become one" in capfd.readouterr().err
    splits = read(tmp_path / "a")
    assert len({pixels for split in splits.values() for pixels, _ in split}) == NUM_TRAIN
    manifest = make(tmp_path / "b", tmp_path, test_size=7, validation_size=2).manifest
    assert [split.num_examples for split in manifest.splits.values()] == [51, 2, 7]


def test_png_holds_the_same_images_as_raw(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "raw", source)
    assert make(tmp_path / "png", source, image_format="png").manifest.image_format == "png"
    assert read(tmp_path / "png") == read(tmp_path / "raw")


def test_csv_comes_back_as_the_same_dataset(tmp_path: Path, source: Path) -> None:
    make(tmp_path / "direct", source, limit=9)
    manifest = make(tmp_path / "csv", source, limit=9, output_format="csv").manifest
    names = {"train.csv", "validation.csv", "test.csv", "manifest.json"}
    assert contents(tmp_path / "csv").keys() == names
    assert find_damage(tmp_path / "csv", manifest) == []
    assert make(tmp_path / "csv", source, limit=9, output_format="csv").kept
    make(tmp_path / "again", tmp_path / "csv", dataset="csv", image_shape=SHAPE)
    assert read(tmp_path / "again") == read(tmp_path / "direct")
    (tmp_path / "csv" / "test.csv").write_text("label,pixel0\n")
    reason = refuse(tmp_path / "csv", source, limit=9, output_format="csv")
    assert "test.csv: its sha256 is not the manifest's; pass --overwrite" in reason


def test_an_image_folder_is_converted(tmp_path: Path) -> None:
    for index, name in enumerate(("cat", "dog", "cat", "dog", "dog", "cat")):
        (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (9, 4 + index), (40 * index, 0, 9))
        image.save(tmp_path / "pets" / name / f"{index}.png")
    options = ConversionOptions("image_folder", image_shape=(7, 5, 3), validation_size=1)
    manifest = convert(options, data_dir=tmp_path / "a", from_dir=tmp_path / "pets").manifest
    assert (manifest.class_names, manifest.image_shape) == (("cat", "dog"), (7, 5, 3))
    assert manifest.image_preparation == "resize"
    assert [split.num_examples for split in manifest.splits.values()] == [4, 1, 1]


def test_synthetic_digits_are_the_same_each_time(tmp_path: Path) -> None:
    options = ConversionOptions(dataset="synthetic", synthetic_train=30, synthetic_test=6)
    first = convert(options, data_dir=tmp_path / "a").manifest
    assert convert(options, data_dir=tmp_path / "b").manifest == first
    assert (
        first.digest != convert(replace(options, seed=1), data_dir=tmp_path / "c").manifest.digest
    )
    assert (first.name, first.image_preparation) == ("synthetic", "mnist")
    assert (first.class_names[6], first.sources) == ("6", ())


def test_the_class_of_a_six_is_six(tmp_path: Path, source: Path) -> None:
    """And the file of class names that TFDS reads says so too."""
    options = ConversionOptions(dataset="synthetic", synthetic_train=30, synthetic_test=6)
    assert convert(options, data_dir=tmp_path / "a").manifest.class_names == tuple("0123456789")
    labels = (tmp_path / "a" / "image-class-label.labels.txt").read_text()
    assert labels == "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"


def test_few_images_make_few_shards(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = make(tmp_path / "a", source, num_shards=6).manifest
    assert [len(split.shards) for split in manifest.splits.values()] == [6, 5, 6]
    assert capfd.readouterr().err == "validation: 5 examples make 5 shard(s), not 6\n"


def test_the_script_says_what_it_wrote(run_script: RunScript, tmp_path: Path, source: Path) -> None:
    args = ("data_prep/convert.py", "--dataset=idx", f"--from_dir={source}", "--data_dir=x/tiny")
    done = run_script(*args, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny in x/tiny: written in ")
    assert done.stdout.splitlines()[1:] == [
        "  5x3x1 images (raw), 4 classes: 0 1 2 3",
        "  train             55 images   4 file(s)      0.0 MB",
        "  validation         5 images   4 file(s)      0.0 MB",
        "  test              13 images   4 file(s)      0.0 MB",
    ]
    done = run_script(*args, cwd=tmp_path)
    assert done.stdout.startswith("tiny in x/tiny: already there, verified and kept\n")
    done = run_script(*args, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "data_dir": "x/tiny",
        "dataset": "tiny",
        "kept": True,
        "image_shape": list(SHAPE),
        "class_names": ["0", "1", "2", "3"],
        "splits": {"train": 55, "validation": 5, "test": 13},
        "digest": load_manifest(tmp_path / "x" / "tiny").digest,
    }
    done = run_script(*args, "--seed=1", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("convert.py: x/tiny: holds a dataset made with seed=0, and")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--dataset=mnst"], "convert.py: --dataset=mnst: value should be one of <mnist|"),
        (["--num_shards=0"], "0 is not an integer in the range [1, 10000]"),
        (["--seed=4294967296"], "4294967296 is not an integer in the range [0, 4294967295]"),
        (["--limt=3"], "Unknown command line flag 'limt'. Did you mean: limit ?"),
        (["mnist"], "convert.py: expected no positional argument(s), found: mnist; options"),
        (["--image_shape=28"], "convert.py: --image_shape: expected HEIGHT,WIDTH,CHANNELS"),
        (["--synthetic_test=9"], "--synthetic_test belongs to --dataset=synthetic; leave it out"),
        (
            ["--from_dir=files", "--download_dir=d"],
            "--download_dir belongs to downloads, which --from_dir makes none of; leave it out",
        ),
        (
            ["--output_format=csv", "--num_shards=2"],
            "--num_shards belongs to --output_format=tfrecord; leave it out",
        ),
        (["--dataset=synthetic", "--data_dir=/"], "convert.py: /: expected a folder that can be"),
    ],
)
def test_the_script_refuses_wrong_arguments(
    run_script: RunScript, tmp_path: Path, args: list[str], text: str
) -> None:
    done = run_script("data_prep/convert.py", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_follows_the_last_image_is_checked(
    run_script: RunScript, tmp_path: Path, source: Path
) -> None:
    folder = Path(shutil.copytree(source, tmp_path / "source"))
    plain = folder / "train-images-idx3-ubyte"
    content = bytearray(gzip.compress(plain.read_bytes()))
    content[-8] ^= 1  # the checksum of the whole, after all pixels
    plain.with_name(f"{plain.name}.gz").write_bytes(content)
    plain.unlink()
    done = run_script(
        "data_prep/convert.py", "--dataset=idx", "--from_dir=source", "--data_dir=a", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "train-images-idx3-ubyte.gz: " in done.stderr
    assert not (tmp_path / "a").exists()


def run_in_shell(tmp_path: Path, rest: str) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).resolve().parents[1] / "data_prep" / "convert.py"
    line = f"{sys.executable} {script} {rest}"
    return subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)


def test_the_reader_of_stdout_may_go(tmp_path: Path) -> None:
    assert "Traceback" not in run_in_shell(tmp_path, "--help | head -1").stderr


@pytest.mark.parametrize("flags", ["--dataset=synthetic --synthetic_train=20", "--help", "--nope"])
def test_a_closed_stdout_is_refused_before_anything_is_lost(tmp_path: Path, flags: str) -> None:
    done = run_in_shell(tmp_path, f"{flags} >&-")
    assert done.returncode == 1
    assert done.stderr == (
        "convert.py: stdout is closed; redirect it, to /dev/null where nobody is to read it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_closed_stderr_leaves_stdout_to_the_results(tmp_path: Path) -> None:
    flags = "--dataset=synthetic --synthetic_train=20 --json"  # It logs that there are few shards.
    done = run_in_shell(tmp_path, f"{flags} 2>&-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["dataset"] == "synthetic"
    refused = run_in_shell(tmp_path, "--nope <&- 2>&-")
    assert (refused.returncode, refused.stdout) == (1, "")


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path, write_idx: WriteIdx) -> None:
    script = Path(__file__).resolve().parents[1] / "data_prep" / "convert.py"
    peaks = []
    for count in (15_000, 60_000):
        folder = tmp_path / str(count)
        images = np.broadcast_to(np.uint8(7), (count, 28, 28))
        write_idx(folder, "train", images, np.arange(count) % 3)
        command = [sys.executable, str(script), "--dataset=idx", f"--from_dir={folder}"]
        # In a small process of its own: a child's peak begins with its parent's memory.
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *command, f"--data_dir={folder}/out"],
            check=True,
            capture_output=True,
            text=True,
        )
        unit = 1 if sys.platform == "darwin" else 1024
        peaks.append(int(done.stdout.split()[-1]) * unit)
    assert peaks[0] < 150e6
    assert peaks[1] - peaks[0] < 15e6  # The larger one has 35 MB more of pixels.


def test_mnist_is_converted_whole(run_script: RunScript, tmp_path: Path, mnist_dir: Path) -> None:
    done = run_script(
        "data_prep/convert.py", f"--from_dir={mnist_dir}", f"--data_dir={tmp_path}/m", "--json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["splits"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert result["class_names"] == list("0123456789")
    splits = load_manifest(tmp_path / "m").splits
    test_counts = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    train_counts = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    assert splits["test"].class_counts == test_counts
    both = zip(splits["train"].class_counts, splits["validation"].class_counts, strict=True)
    assert tuple(a + b for a, b in both) == train_counts
    first = next(tfrecord.scan_records(tmp_path / "m" / splits["test"].shards[0].name))
    seven = decode_example(first.data)
    image = np.frombuffer(seven.encoded, np.uint8).reshape(28, 28)
    assert seven.label == 7
    assert image[7, 6:16].tolist() == [84, 185, 159, 151, 60, 36, 0, 0, 0, 0]
