"""Reads the corrections that `predict/serve.py` keeps.

    feedback.tfrecord   one record a correction, with the keys of `schema.FEATURES` among others
    feedback.json       image_shape, image_preparation and class_names

The server may be appending while this reads: an unfinished record at the end is left out. Of
several corrections of one image the last one counts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep import tfrecord
from data_prep.command_line import UserError, log
from data_prep.schema import (
    FEEDBACK_FACTS_NAME,
    FEEDBACK_NAME,
    IMAGE_PREPARATIONS,
    decode_example,
)
from data_prep.source import Batch, Source, SourceSplit, describe_file

_BATCH = 256  # images


def read_feedback(folder: Path) -> Source:
    """Opens the corrections of one run.

    Args:
      folder: with the two files.

    Returns:
      A source whose one split, train, holds the images with their right labels.

    Raises:
      UserError: a file is missing or damaged, or there is no correction yet.
    """
    records, facts_path = folder / FEEDBACK_NAME, folder / FEEDBACK_FACTS_NAME
    for path in (records, facts_path):
        if not path.is_file():
            raise UserError(
                f"{path}: missing; name the folder that serve.py keeps the corrections of one run "
                "in, such as runs/lenet/feedback/lenet"
            )
    try:
        facts = json.loads(facts_path.read_text(encoding="utf-8"))
        height, width, channels = map(int, facts["image_shape"])
        class_names = tuple(map(str, facts["class_names"]))
        preparation = facts["image_preparation"]
        if preparation not in IMAGE_PREPARATIONS:
            raise ValueError(f"image_preparation is {preparation!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{facts_path}: not what serve.py writes ({error}); restore it, or remove it and "
            "restart serve.py, which writes it with the next correction"
        ) from error
    shape = (height, width, channels)
    # Chosen once, so that records which are appended meanwhile are left for the next time.
    last = {
        hashlib.sha256(pixels.tobytes()).digest(): index
        for index, (pixels, _) in enumerate(_read_examples(records, shape, len(class_names)))
    }
    if not last:
        raise UserError(f"{records}: holds no correction yet; make some on serve.py's page")
    chosen = set(last.values())

    def read() -> Iterator[Batch]:
        numbered = enumerate(_read_examples(records, shape, len(class_names)))
        examples = (example for index, example in numbered if index in chosen)
        while batch := list(itertools.islice(examples, _BATCH)):
            images, labels = zip(*batch, strict=True)
            yield np.stack(images), np.array(labels, np.int64)

    return Source(
        image_shape=shape,
        class_names=class_names,
        files=(describe_file(records), describe_file(facts_path)),
        splits={"train": SourceSplit(len(chosen), read)},
        image_preparation=preparation,
    )


def _read_examples(
    path: Path, image_shape: tuple[int, int, int], num_classes: int
) -> Iterator[tuple[np.ndarray, int]]:
    for record in tfrecord.scan_records(path):
        if record.damage and record.damage.startswith("the file ends"):
            log(f"{path}: {record} is unfinished, and left out")
            return
        try:
            if record.damage:
                raise ValueError(record.damage)
            example = decode_example(record.data)
            if example.image_shape != image_shape or example.label >= num_classes:
                raise ValueError(
                    f"expected an image of {image_shape} with a label below {num_classes}, found "
                    f"{example.image_shape} with {example.label}"
                )
            pixels = np.frombuffer(example.encoded, np.uint8).reshape(image_shape)
        except ValueError as error:
            raise UserError(
                f"{path}: {record}: {error}; restore the file from a copy, or move it away"
            ) from error
        yield pixels, example.label
