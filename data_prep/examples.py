"""Makes dataset folders of new labelled images, from which train/update.py improves a run.

    FOLDER/feedback.tfrecord       corrections, as predict/serve.py keeps them
    FOLDER/manifest.json           a dataset folder
    FOLDER/train.csv, FILE.csv     a label and pixels a line
    FOLDER/7/1.png, …              a folder for each class

Images of a validation split are held out, as their owner wants it; where there is none, a third of
the new images is, by a hash of their pixels: a third of those that the version to be improved
misreads, so that a gain can be seen, and a third of the others. Of fewer than four, or where fewer
than two are misread, none is. Test splits are left alone.

An image is told by its pixels: one that an earlier version has learnt, or held out, stays where it
was and is not new, so a folder that grows can be given again and again. If its label is another one
now, the old label was wrong: it is new, and the earlier one is forgotten.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from data_prep import csv_images, feedback, image_folder, tfrecord
from data_prep.command_line import UserError, log
from data_prep.dataset_folder import ConversionOptions, write_dataset
from data_prep.schema import (
    FEEDBACK_NAME,
    MANIFEST_NAME,
    Manifest,
    decode_example,
    load_manifest,
)
from data_prep.source import Batch, Source, SourceFile, SourceSplit, describe_file

FEWEST_TO_HOLD_OUT = 4  # new images; of fewer, all are learnt
_FEWEST_MISREAD = 2  # of them; of fewer, none can be learnt and another one be held out
_HELD_OUT_SHARE = 3  # one image in so many
_MOST_HELD_OUT = 5_000
_LIGHT = 128  # a border of at least this is no black background
_SPLITS = ("train", "validation")

# From uint8 [n, height, width, channels] and their labels, int64 [n], to bool [n].
FindMisread: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ImageForm:
    """The images that a run reads, and its classes; as `Manifest` has them."""

    image_shape: tuple[int, int, int]
    image_preparation: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class _Examples:
    """Labelled images: uint8 [n, height, width, channels], int64 [n], bool [n]."""

    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray

    def keys(self) -> list[bytes]:
        return [hashlib.sha256(image.tobytes()).digest() for image in self.images]

    def choose(self, indices: Sequence[int]) -> _Examples:
        chosen = np.array(indices, np.int64)
        return _Examples(self.images[chosen], self.labels[chosen], self.held_out[chosen])


def write_examples(
    path: Path,
    form: ImageForm,
    *,
    find_misread: FindMisread,
    earlier: Sequence[Path],
    examples_dir: Path,
    earlier_dir: Path,
) -> Manifest:
    """Writes the new images as a dataset folder, and what was learnt before them as another.

    Args:
      path: the new images.
      form: what they must be.
      find_misread: tells which images the version to be improved reads wrong.
      earlier: the dataset folders that the version to be improved has learnt; may be none.
      examples_dir: the folder to make for the new images. Its train split is to be learnt, its
        validation split, if there is one, is held out.
      earlier_dir: the folder to make of `earlier`; not made where there are none.

    Returns:
      The new images' manifest.

    Raises:
      UserError: the images are not as above, damaged, of unknown classes, or none of them is new.
    """
    kind, source = _open(path, form)
    found = _read(source, form, _match_labels(path, kind, source.class_names, form))
    if form.image_preparation == "mnist":
        _refuse_light_backgrounds(path, found, form)
    known = [_read_folder(folder, form) for folder in earlier]
    old = _join(known) if known else None
    new, old = _part(path, found, old)
    if len(source.splits) == 1:
        new = _hold_out(new, find_misread)
    if new.held_out.all():
        raise UserError(f"{path}: holds no new image to learn; give some that the run has not seen")
    if old is not None:
        _write(earlier_dir, old, form, kind="examples", files=())
    return _write(examples_dir, new, form, kind=kind, files=source.files)


def _open(path: Path, form: ImageForm) -> tuple[str, Source]:
    """Finds out what a folder or file is; returns its name as `--dataset` has it, and the source.

    The splits of the source are train and perhaps validation.
    """
    if (path / MANIFEST_NAME).is_file():
        kind, source = "dataset folder", _open_folder(path)
    elif (path / FEEDBACK_NAME).is_file():
        kind, source = "feedback", feedback.read_feedback(path)
    elif path.is_file() and _is_picture(path):
        raise UserError(
            f"{path}: a picture's class is its folder's name; put it into a folder such as DIR/7/, "
            "and give DIR"
        )
    elif path.is_file() or any((path / name).is_file() for name in ("train.csv", "train.csv.gz")):
        kind, source = "csv", _open_csv(path, form)
    elif inner := [folder.parent for folder in sorted(path.glob(f"*/{FEEDBACK_NAME}"))]:
        names = ", ".join(map(str, inner))
        raise UserError(f"{path}: holds the corrections of each run in a folder; name one: {names}")
    else:
        kind, source = "image_folder", image_folder.read_image_folder(path, form.image_shape, 0)
    if source.image_shape != form.image_shape:
        raise UserError(
            f"{path}: expected images of {_spell(form.image_shape)}, as the run reads them, found "
            f"{_spell(source.image_shape)}; give images of that shape"
        )
    if "test" in source.splits:
        log(f"{path}: its test split is left alone")
    splits = {split: own for split, own in source.splits.items() if split in _SPLITS}
    return kind, Source(source.image_shape, source.class_names, source.files, splits)


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _spell(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _open_csv(path: Path, form: ImageForm) -> Source:
    try:
        return csv_images.read_csv_dataset(path, form.image_shape)
    except UserError as error:
        # Here the run decides the shape, and no flag.
        raise UserError(str(error).replace(_CSV_ADVICE, "give images as the run reads them")) from (
            error
        )


_CSV_ADVICE = "pass their --image_shape=HEIGHT,WIDTH,CHANNELS"


def _open_folder(data_dir: Path) -> Source:
    manifest = load_manifest(data_dir)
    if "train" not in manifest.splits:
        raise UserError(f"{data_dir}: expected a train split, found {', '.join(manifest.splits)}")

    def make_split(name: str) -> SourceSplit:
        count = manifest.splits[name].num_examples
        return SourceSplit(count, lambda: _read_split(data_dir, manifest, name))

    return Source(
        image_shape=manifest.image_shape,
        class_names=manifest.class_names,
        files=(describe_file(data_dir / MANIFEST_NAME),),
        splits={name: make_split(name) for name in manifest.splits},
    )


def _read_split(data_dir: Path, manifest: Manifest, split: str) -> Iterator[Batch]:
    for shard in manifest.splits[split].shards:
        count = 0
        for record in tfrecord.scan_records(data_dir / shard.name):
            try:
                if record.damage:
                    raise ValueError(record.damage)
                example = decode_example(record.data)
                if example.label >= len(manifest.class_names):
                    raise ValueError(f"its label is {example.label}, and no class has that number")
                pixels = _decode(example.encoded, example.image_format, manifest.image_shape)
            except ValueError as error:
                raise UserError(
                    f"{data_dir / shard.name}: {record}: {error}; python data_prep/verify.py "
                    f"--data_dir={data_dir} lists all damage"
                ) from error
            yield pixels[None], np.array([example.label], np.int64)
            count += 1
        if count != shard.num_examples:
            raise UserError(
                f"{data_dir / shard.name}: expected {shard.num_examples:,} records, found {count:,}"
            )


def _decode(encoded: bytes, image_format: str, shape: tuple[int, int, int]) -> np.ndarray:
    if image_format == "png":
        from PIL import Image

        with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
            return np.asarray(image).reshape(shape)
    return np.frombuffer(encoded, np.uint8).reshape(shape)


def _match_labels(
    path: Path, kind: str, class_names: tuple[str, ...], form: ImageForm
) -> np.ndarray:
    """Returns the run's label of each label of the source."""
    if kind == "csv":  # Its classes are numbers, the run's labels.
        if len(class_names) > len(form.class_names):
            raise UserError(
                f"{path}: expected labels of 0 to {len(form.class_names) - 1}, found "
                f"{len(class_names) - 1}; correct or remove its lines"
            )
        return np.arange(len(class_names))
    unknown = [name for name in class_names if name not in form.class_names]
    if unknown:
        raise UserError(
            f"{path}: expected the run's classes, {' '.join(form.class_names[:20])}, found "
            f"{unknown[0]!r}; an update adds no class: train anew for that"
        )
    return np.array([form.class_names.index(name) for name in class_names])


def _read(source: Source, form: ImageForm, labels: np.ndarray) -> _Examples:
    """Reads all images of a source, their labels exchanged for the run's."""
    images, numbers, held_out = [], [], []
    for name, split in source.splits.items():
        for batch, own in split.read():
            images.append(batch)
            numbers.append(labels[own])
            held_out.append(np.full(len(own), name == "validation"))
    return _Examples(
        np.concatenate([np.empty([0, *form.image_shape], np.uint8), *images]),
        np.concatenate([np.empty(0, np.int64), *numbers]),
        np.concatenate([np.empty(0, bool), *held_out]),
    )


def _read_folder(data_dir: Path, form: ImageForm) -> _Examples:
    return _read(_open_folder(data_dir), form, np.arange(len(form.class_names)))


def _join(parts: Sequence[_Examples]) -> _Examples:
    return _Examples(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("images", "labels", "held_out")
        )
    )


def _refuse_light_backgrounds(path: Path, found: _Examples, form: ImageForm) -> None:
    images = found.images
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1
    ).reshape(len(images), -1)
    light = np.flatnonzero(np.median(border, axis=1) >= _LIGHT)
    if len(light):
        name = form.class_names[found.labels[light[0]]]
        raise UserError(
            f"{path}: expected bright ink on black, cut out and centred, as the run's images are, "
            f"found {len(light):,} image(s) with a light background, the first of class {name}; "
            "serve.py's page turns photos into such images, and keeps corrections of them"
        )


def _hold_out(new: _Examples, find_misread: FindMisread) -> _Examples:
    """Decides by their pixels which new images are held out."""
    if len(new.labels) < FEWEST_TO_HOLD_OUT:
        return new
    misread = find_misread(new.images, new.labels)
    if misread.sum() < _FEWEST_MISREAD:
        return new
    keys, held_out = new.keys(), new.held_out.copy()
    for kind in (misread, ~misread):
        order = sorted(np.flatnonzero(kind), key=keys.__getitem__)
        held_out[order[: min((len(order) + 1) // _HELD_OUT_SHARE, _MOST_HELD_OUT)]] = True
    return replace(new, held_out=held_out)


def _part(
    path: Path, found: _Examples, old: _Examples | None
) -> tuple[_Examples, _Examples | None]:
    """Finds what is new; returns it, and what stays of old."""
    before: Mapping[bytes, int] = {}
    if old is not None:
        before = dict(zip(old.keys(), old.labels.tolist(), strict=True))
    last = {key: index for index, key in enumerate(found.keys())}  # The last label counts.
    if len(last) < len(found.labels):
        log(f"{path}: {len(found.labels) - len(last):,} image(s) come again; the last label counts")
    new = {key: i for key, i in last.items() if before.get(key) != found.labels[i]}
    if len(new) < len(last):
        log(f"{path}: {len(last) - len(new):,} image(s) were learnt or held out before")
    chosen = found.choose(list(new.values()))
    if old is not None:
        corrected = new.keys() & before.keys()
        if corrected:
            log(f"{path}: {len(corrected):,} image(s) have another label than before")
        old = old.choose([i for i, key in enumerate(old.keys()) if key not in corrected])
        old = None if old.held_out.all() else old
    return chosen, old


def _write(
    folder: Path,
    examples: _Examples,
    form: ImageForm,
    *,
    kind: str,
    files: tuple[SourceFile, ...],
) -> Manifest:
    """Writes images as a dataset folder."""

    def make_split(chosen: np.ndarray) -> SourceSplit:
        images, labels = examples.images[chosen], examples.labels[chosen]
        return SourceSplit(len(labels), lambda: iter([(images, labels)]))

    splits = {"train": make_split(~examples.held_out)}
    if examples.held_out.any():
        splits["validation"] = make_split(examples.held_out)
    options = ConversionOptions(
        dataset=kind,
        num_shards=1,
        validation_size=None if "validation" in splits else 0,
        test_size=0,
    )
    folder.mkdir()
    source = Source(form.image_shape, form.class_names, files, splits)
    return write_dataset(
        folder, source, options, name="examples", preparation=form.image_preparation
    )
