"""Event files, and folders in which there can be none."""

import errno
import tempfile

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model_definition.event_writer import open_event_writer


def test_it_makes_the_folder_and_writes_what_tensorboard_reads(tmp_path):
    folder = tmp_path / "run" / "train"
    writer = open_event_writer(folder, suffix=".7")
    value = tf.compat.v1.Summary.Value(tag="loss", simple_value=0.5)
    writer.add_summary(tf.compat.v1.Summary(value=[value]), 3)
    writer.close()
    (path,) = folder.iterdir()
    assert path.name.startswith("events.out.tfevents.") and path.name.endswith(".7")
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "train").touch()
    with pytest.raises(FileExistsError) as refused:
        open_event_writer(tmp_path / "train")
    assert refused.value.filename == str(tmp_path / "train")


def test_a_disk_that_cannot_be_written_to_is_named_by_the_folder(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system", f"{dir}/tmp123")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="Read-only") as refused:
        open_event_writer(tmp_path / "train")
    assert (refused.value.errno, refused.value.filename) == (errno.EROFS, str(tmp_path / "train"))
