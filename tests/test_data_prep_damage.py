"""Every kind of damage, done to a dataset of three shards, and what verify.py says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_prep import tfrecord
from data_prep.damage import find_broken_record, find_damage
from data_prep.schema import ExampleEncoder, Manifest, decode_example, load_manifest
from tests.conftest import MakeDataset, RunScript

SHARD = "tiny-train.tfrecord-0000{}-of-00003"
COUNT = 20  # records in each shard of train
SHAPE = (3, 5, 1)


@pytest.fixture(scope="module")
def intact(make_dataset: MakeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intact") / "tiny"
    make_dataset(folder, image_shape=SHAPE, num_train=3 * COUNT, num_shards=3)
    return folder


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(intact, tmp_path / "tiny"))


def damage_of(folder: Path) -> list[str]:
    """What is found, without the folder's name in front."""
    lines = find_damage(folder, load_manifest(folder))
    assert all(line.startswith(f"{folder}/") and "\n" not in line for line in lines)
    return [line.removeprefix(f"{folder}/") for line in lines]


def records_of(path: Path) -> list[bytes]:
    return [record.data for record in tfrecord.scan_records(path)]


def offset_of(path: Path, index: int) -> int:
    return next(r.offset for r in tfrecord.scan_records(path) if r.index == index)


def rewrite(path: Path, records: list[bytes]) -> None:
    """Writes a shard anew, with checksums that fit."""
    path.write_bytes(b"".join(tfrecord.frame(data, tfrecord.crc32c(data)) for data in records))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def relabel(data: bytes, label: int) -> bytes:
    example = decode_example(data)
    return ExampleEncoder(example.image_shape, example.image_format).encode(example.encoded, label)


def test_an_intact_dataset(intact: Path) -> None:
    manifest = load_manifest(intact)
    assert find_damage(intact, manifest) == []
    assert {find_broken_record(intact, manifest, split) for split in manifest.splits} == {None}


@pytest.mark.parametrize("index", [0, 7, COUNT - 1])
def test_a_flipped_bit_in_the_data(folder: Path, index: int) -> None:
    path = folder / SHARD.format(1)
    offset = offset_of(path, index)
    flip(path, offset + 30)
    at = f"record {index} (at byte {offset:,})"
    assert damage_of(folder) == [f"{path.name}: {at}: the checksum of its data does not match"]


def test_a_flipped_bit_in_a_stored_checksum(folder: Path) -> None:
    path = folder / SHARD.format(1)
    flip(path, offset_of(path, 8) - 1)  # the last byte of record 7
    (line,) = damage_of(folder)
    assert f"{path.name}: record 7 (at byte " in line
    assert line.endswith(": the checksum of its data does not match")


@pytest.mark.parametrize("byte", [0, 5, 8, 11])
def test_a_flipped_bit_in_a_length(folder: Path, byte: int) -> None:
    path = folder / SHARD.format(1)
    offset = offset_of(path, 7)
    flip(path, offset + byte)
    assert damage_of(folder) == [
        f"{path.name}: record 7 (at byte {offset:,}): the checksum of its length does not match",
        f"{path.name}: record 8 (at byte {path.stat().st_size:,}): 12 of 20 records are missing "
        "from here",
    ]


def test_a_cut_inside_a_record(folder: Path) -> None:
    path = folder / SHARD.format(2)
    offset = offset_of(path, 19)
    path.write_bytes(path.read_bytes()[: offset + 20])
    (line,) = damage_of(folder)
    assert line.startswith(f"{path.name}: record 19 (at byte {offset:,}): the file ends ")


def test_a_cut_between_records(folder: Path) -> None:
    path = folder / SHARD.format(2)
    offset = offset_of(path, 15)
    path.write_bytes(path.read_bytes()[:offset])
    assert damage_of(folder) == [
        f"{path.name}: record 15 (at byte {offset:,}): 5 of 20 records are missing from here"
    ]


def test_an_emptied_shard(folder: Path) -> None:
    (folder / SHARD.format(0)).write_bytes(b"")
    (line,) = damage_of(folder)
    assert line.endswith("record 0 (at byte 0): 20 of 20 records are missing from here")


def test_a_missing_shard(folder: Path) -> None:
    (folder / SHARD.format(0)).unlink()
    assert damage_of(folder) == [f"{SHARD.format(0)}: missing; 20 records are expected in it"]


def test_swapped_shards(folder: Path) -> None:
    first, second, aside = folder / SHARD.format(0), folder / SHARD.format(1), folder / "aside"
    for old, new in ((first, aside), (second, first), (aside, second)):
        old.rename(new)
    start = "record 0 (at byte 0) and all after: it holds"
    assert damage_of(folder) == [
        f"{first.name}: {start} {second.name}",
        f"{second.name}: {start} {first.name}",
    ]


def test_an_extra_record_at_the_end(folder: Path) -> None:
    path = folder / SHARD.format(1)
    offset = path.stat().st_size
    rewrite(path, [*records_of(path), relabel(records_of(path)[3], 4)])
    assert damage_of(folder) == [
        f"{path.name}: record 20 (at byte {offset:,}): extra; 20 records are expected in this shard"
    ]


def test_an_extra_record_in_the_middle(folder: Path) -> None:
    path = folder / SHARD.format(1)
    records = records_of(path)
    offset = offset_of(path, 6)
    rewrite(path, [*records[:6], records[0], *records[6:]])
    assert damage_of(folder) == [
        f"{path.name}: record 6 (at byte {offset:,}): extra; 20 records are expected in this shard"
    ]


@pytest.mark.parametrize(("first", "count"), [(0, 1), (6, 1), (6, 3)])
def test_removed_records(folder: Path, first: int, count: int) -> None:
    path = folder / SHARD.format(1)
    records, offset = records_of(path), offset_of(path, first)
    rewrite(path, records[:first] + records[first + count :])
    assert damage_of(folder) == [
        f"{path.name}: record {first} (at byte {offset:,}): {count} of 20 records are missing from "
        "here"
    ]


def test_a_wrong_label_under_right_checksums(folder: Path) -> None:
    path = folder / SHARD.format(1)
    records, offset = records_of(path), offset_of(path, 6)
    label = decode_example(records[6]).label
    other = (label + 1) % 5
    records[6] = relabel(records[6], other)
    rewrite(path, records)
    assert damage_of(folder) == [
        f"{path.name}: record 6 (at byte {offset:,}): its label is {other}; it was written as "
        f"{label} ({label})"
    ]


def test_only_the_records_that_changed_are_named(folder: Path) -> None:
    path = folder / SHARD.format(1)
    records, offsets = records_of(path), [offset_of(path, index) for index in range(COUNT)]
    label = decode_example(records[12]).label
    other = (label + 1) % 5
    records[3], records[5], records[12] = records[5], records[3], relabel(records[12], other)
    rewrite(path, records)
    assert damage_of(folder) == [
        f"{path.name}: record 3 (at byte {offsets[3]:,}): its content is not what was written",
        f"{path.name}: record 5 (at byte {offsets[5]:,}): its content is not what was written",
        f"{path.name}: record 12 (at byte {offsets[12]:,}): its label is {other}; it was written "
        f"as {label} ({label})",
    ]


def encode(**changes: object) -> bytes:
    values = {"shape": SHAPE, "image_format": "raw", "pixels": bytes(15), "label": 1, **changes}
    encoder = ExampleEncoder(values["shape"], values["image_format"])  # type: ignore[arg-type]
    return encoder.encode(values["pixels"], values["label"])  # type: ignore[arg-type]


CONTRADICTIONS = [
    (encode(pixels=bytes(14)), "expected 15 bytes of pixels, found 14"),
    (encode(shape=(5, 3, 1)), "expected an image of (3, 5, 1), found (5, 3, 1)"),
    (encode(image_format="png"), "expected image/format raw, found 'png'"),
    (encode(label=5), "expected a label below 5, found 5"),
    (b"no Example", "not a tf.train.Example"),
    (b"", "feature image/channels is missing"),
]


@pytest.mark.parametrize(("record", "text"), CONTRADICTIONS)
def test_a_record_that_contradicts_the_manifest(folder: Path, record: bytes, text: str) -> None:
    path = folder / SHARD.format(1)
    offset = offset_of(path, 6)
    rewrite(path, [*records_of(path)[:6], record, *records_of(path)[7:]])
    expected = f"{path.name}: record 6 (at byte {offset:,}): {text}"
    assert damage_of(folder) == [expected]
    broken = find_broken_record(folder, load_manifest(folder), "train")
    assert broken == f"{folder}/{expected}"


def test_changed_pixels_under_right_checksums(folder: Path) -> None:
    path = folder / SHARD.format(1)
    offset = offset_of(path, 6)
    rewrite(path, [*records_of(path)[:6], encode(), *records_of(path)[7:]])
    assert damage_of(folder) == [
        f"{path.name}: record 6 (at byte {offset:,}): its content is not what was written"
    ]
    # It reads well, so training cannot tell.
    assert find_broken_record(folder, load_manifest(folder), "train") is None


def test_several_shards_at_once(folder: Path) -> None:
    for index in (0, 2):
        flip(folder / SHARD.format(index), 30)
    (folder / "tiny-test.tfrecord-00001-of-00003").unlink()
    starts = [line.partition(":")[0] for line in damage_of(folder)]
    assert starts == [SHARD.format(0), SHARD.format(2), "tiny-test.tfrecord-00001-of-00003"]


def test_no_more_than_ten_records_of_a_shard_are_named(folder: Path) -> None:
    path = folder / SHARD.format(1)
    for index in range(13):
        flip(path, offset_of(path, index) + 30)
    lines = damage_of(folder)
    assert len(lines) == 11
    assert lines[10] == f"{path.name}: 3 more records differ"


def test_a_damaged_file_of_checksums(folder: Path) -> None:
    flip(folder / "record_crc32c.bin", 5)
    line = "record_crc32c.bin: its sha256 is not the manifest's"
    assert damage_of(folder) == [line]
    path = folder / SHARD.format(1)
    records = records_of(path)
    rewrite(path, [*records[:6], encode(), *records[7:]])
    assert damage_of(folder) == [line, f"{path.name}: its sha256 is not the manifest's"]
    rewrite(path, records[:18])
    assert "record 18 (at byte " in damage_of(folder)[1]
    rewrite(path, [*records, records[0]])
    assert "extra; 20 records are expected" in damage_of(folder)[1]


def test_a_missing_file_of_checksums(folder: Path) -> None:
    (folder / "record_crc32c.bin").unlink()
    assert damage_of(folder) == ["record_crc32c.bin: missing"]


def test_broken_records_are_found_for_training(folder: Path) -> None:
    def broken(split: str = "train") -> str | None:
        return find_broken_record(folder, manifest, split)

    manifest: Manifest = load_manifest(folder)
    path = folder / SHARD.format(1)
    content, offset = path.read_bytes(), offset_of(path, 7)
    flip(path, offset + 30)
    assert broken() == (
        f"{path}: record 7 (at byte {offset:,}): the checksum of its data does not match"
    )
    assert broken("test") is None
    path.write_bytes(content[:offset])
    assert broken() == f"{path}: expected 20 records, found 7"
    path.unlink()
    assert broken() == f"{path}: missing"


def test_a_manifest_that_was_edited(folder: Path) -> None:
    """The shards are whole, but not of the images that it says."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "image_shape": [5, 3, 1]}))
    found = damage_of(folder)
    assert found[:3] == [
        f"{SHARD.format(shard)}: record 0 (at byte 0): expected an image of (5, 3, 1), found "
        "(3, 5, 1); the manifest is not the one it was written with"
        for shard in range(3)
    ]


def test_verify_says_that_all_is_intact(run_script: RunScript, intact: Path) -> None:
    done = run_script("data_prep/verify.py", "--data_dir", intact)
    expected = f"tiny in {intact}: 88 records in 9 shards, all intact\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")
    done = run_script("data_prep/verify.py", "--data_dir", intact, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"data_dir": str(intact), "dataset": "tiny", "damage": []}


def test_verify_names_the_damage_and_the_remedy(run_script: RunScript, folder: Path) -> None:
    path = folder / SHARD.format(1)
    flip(path, 30)
    line = f"{path}: record 0 (at byte 0): the checksum of its data does not match"
    done = run_script("data_prep/verify.py", "--data_dir", folder)
    assert (done.returncode, done.stdout) == (1, line + "\n")
    assert done.stderr == (
        f"{folder} is damaged; python data_prep/convert.py --overwrite, with the flags it was made "
        "with, makes it anew\n"
    )
    done = run_script("data_prep/verify.py", "--data_dir", folder, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["damage"] == [line]


def test_verify_without_a_dataset(run_script: RunScript, tmp_path: Path) -> None:
    done = run_script("data_prep/verify.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "verify.py: data/mnist: no such dataset folder; python data_prep/convert.py makes a "
        "dataset folder\n"
    )
