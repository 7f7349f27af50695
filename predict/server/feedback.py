"""Corrections that people send, kept for training.

    FOLDER/NAME/feedback.tfrecord   one record a correction, in the order they came
    FOLDER/NAME/feedback.json       the images' shape and the classes' names

A record has the keys of `data_prep.schema`, its label being the right one, and besides them the
answer that was given: `prediction/label`, `prediction/probabilities`, `prediction/model`. So it can
be read by whatever reads the project's records, and `data_prep/convert.py --dataset=feedback
--from_dir=FOLDER/NAME` makes a dataset folder of them.

A record is appended under a lock, which the kernel drops when its holder dies. What a killed append
has left at the end of the file is cut off by the next one: nobody was told that it was kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import numpy as np

from data_prep import tfrecord
from data_prep.command_line import UserError
from data_prep.schema import FEEDBACK_FACTS_NAME, FEEDBACK_NAME, encode_features
from model_definition.run_dir import Run, write_atomically
from predict.server.errors import ApiError

_FRAME_BYTES = 16  # around a record's data: its length and two checksums


class FeedbackFile:
    """The corrections of one run, which several processes may append to."""

    def __init__(self, folder: Path, run: Run, max_bytes: int) -> None:
        """Creates nothing before the first correction.

        Args:
          folder: where the two files are.
          run: whose answers are corrected.
          max_bytes: of the file of records.
        """
        self._folder = folder
        self._run = run
        self._max_bytes = max_bytes
        self._end = 0  # of the records that were found whole
        self._lock = threading.Lock()  # `flock` is for other processes.

    def append(self, image: np.ndarray, label: int, probabilities: np.ndarray) -> None:
        """Keeps a correction.

        Args:
          image: uint8 [height, width, channels], what the network read.
          label: what it should have answered.
          probabilities: float32 [num_classes], what it answered.

        Raises:
          ApiError: the file is full.
          UserError: the folder holds the corrections of other classes, or is damaged.
        """
        height, width, channels = image.shape
        data = encode_features(
            {
                "image/channels": channels,
                "image/class/label": label,
                "image/encoded": image.tobytes(),
                "image/format": b"raw",
                "image/height": height,
                "image/width": width,
                "prediction/label": int(probabilities.argmax()),
                "prediction/model": self._run.logdir.resolve().name.encode(),
                "prediction/probabilities": tuple(probabilities.tolist()),
            }
        )
        record = tfrecord.frame(data, tfrecord.crc32c(data))
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._keep_facts()
            self._append(record)

    def _append(self, record: bytes) -> None:
        path = self._folder / FEEDBACK_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = self._find_end(path, os.fstat(descriptor).st_size)
            if end + len(record) > self._max_bytes:
                raise ApiError(
                    507,
                    f"the corrections fill their {self._max_bytes:,} bytes; --feedback_mb raises "
                    "the limit",
                )
            os.truncate(descriptor, end)
            try:
                _write_all(descriptor, record, end)
                os.fsync(descriptor)
            except BaseException:
                os.truncate(descriptor, end)
                raise
            self._end = end + len(record)
        finally:
            os.close(descriptor)

    def _find_end(self, path: Path, num_bytes: int) -> int:
        """Returns where the last whole record ends."""
        if num_bytes == self._end:
            return num_bytes
        end = 0
        for record in tfrecord.scan_records(path):
            if record.damage and not record.data:
                if not record.damage.startswith("the file ends"):
                    raise UserError(f"{path}: {record}: {record.damage}; move the file away")
                break  # An append was cut short.
            end = record.offset + len(record.data) + _FRAME_BYTES
        return end

    def _keep_facts(self) -> None:
        """Writes what the records need to be understood, or checks that it fits."""
        path = self._folder / FEEDBACK_FACTS_NAME
        run = self._run
        facts = {
            "image_shape": list(run.image_shape),
            "image_preparation": run.image_preparation,
            "class_names": list(run.class_names),
        }
        if not path.exists():
            write_atomically(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
            return
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); restore it, or move it away") from error
        if kept != facts:
            raise UserError(f"{path}: describes other images or classes; move the folder away")


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
