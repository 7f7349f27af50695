import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from data_prep.command_line import UserError
from model_definition.checkpoints import (
    InferenceSaver,
    checkpoint_step,
    choose_checkpoint,
    find_damage,
    list_checkpoints,
)
from model_definition.run_dir import Run

v1 = tf.compat.v1
SHAPES = {"conv1/weights": (3, 3, 3, 4), "output/biases": (5,)}


@pytest.fixture
def run(tmp_path):
    return Run(
        logdir=tmp_path,
        model="tiny",
        architecture_text="flatten\noutput\n",
        data_dir="/data",
        dataset_name="tiny",
        dataset_digest="",
        image_shape=(1, 1, 3),
        image_preparation="resize",
        class_names=tuple("abcde"),
        config={},
        versions={},
    )


def value_of(step, name):
    return np.full(SHAPES[name], step + 0.25 * len(name), np.float32)


def write_checkpoints(folder, *steps, averages=False, shapes=SHAPES):
    """Writes checkpoints in whose variables every number tells the step."""
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        variables = {name: slim.model_variable(name, shape) for name, shape in shapes.items()}
        if averages:
            for name, shape in shapes.items():
                key = f"{name}/ExponentialMovingAverage"
                variables[key] = v1.get_variable(key, shape)
        saver = v1.train.Saver(save_relative_paths=True)
        for number in steps:
            step.load(number, session)
            for name, variable in variables.items():
                plain = name.removesuffix("/ExponentialMovingAverage")
                value = np.full(variable.shape, number + 0.25 * len(plain), np.float32)
                variable.load(value if plain == name else value + 100, session)
            saver.save(session, str(folder / "model.ckpt"), number, write_meta_graph=False)
    return [folder / f"model.ckpt-{number}" for number in steps]


def restore(checkpoint, shapes=SHAPES):
    with tf.Graph().as_default(), v1.Session() as session:
        variables = {name: slim.model_variable(name, shape) for name, shape in shapes.items()}
        InferenceSaver().restore(session, checkpoint)
        return session.run(variables)


def test_checkpoints_are_listed_newest_first_wherever_the_folder_is(tmp_path):
    assert list_checkpoints(tmp_path) == []
    (tmp_path / "run").mkdir()
    write_checkpoints(tmp_path / "run", 5, 9, 1000)
    (tmp_path / "run").rename(tmp_path / "moved")
    expected = [tmp_path / "moved" / f"model.ckpt-{step}" for step in (1000, 9, 5)]
    assert list_checkpoints(tmp_path / "moved") == expected


def test_checkpoints_count_even_where_tensorflows_list_of_them_is_missing(tmp_path):
    write_checkpoints(tmp_path, 5, 9)
    (tmp_path / "checkpoint").unlink()
    assert list_checkpoints(tmp_path) == [tmp_path / "model.ckpt-9", tmp_path / "model.ckpt-5"]


def test_step_is_read_from_the_name(tmp_path):
    assert checkpoint_step(tmp_path / "model.ckpt-1000") == 1000
    with pytest.raises(UserError, match=r"best: expected a checkpoint such as model\.ckpt-1000$"):
        checkpoint_step(tmp_path / "best")


def test_every_flipped_byte_of_the_weights_is_found(tmp_path):
    [checkpoint] = write_checkpoints(tmp_path, 7)
    assert find_damage(checkpoint) is None
    path = tmp_path / "model.ckpt-7.data-00000-of-00001"
    content = path.read_bytes()
    for offset in (0, len(content) // 2, len(content) - 1):
        flipped = bytearray(content)
        flipped[offset] ^= 1
        path.write_bytes(flipped)
        damage = find_damage(checkpoint)
        assert damage and "\n" not in damage and len(damage) <= 200
    path.write_bytes(content)
    assert find_damage(checkpoint) is None


@pytest.mark.parametrize("name", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("harm", ["missing", "cut", "empty", "junk"])
def test_damaged_files_are_found(tmp_path, name, harm):
    [checkpoint] = write_checkpoints(tmp_path, 7)
    path = tmp_path / f"model.ckpt-7.{name}"
    if harm == "missing":
        path.unlink()
    elif harm == "junk":
        path.write_bytes(b"junk" * 200)
    else:
        os.truncate(path, path.stat().st_size - 3 if harm == "cut" else 0)
    damage = find_damage(checkpoint)
    assert damage and "\n" not in damage


def test_best_and_last_are_chosen(run):
    write_checkpoints(run.logdir, 3, 6)
    last = run.logdir / "model.ckpt-6"
    assert choose_checkpoint(run, "last") == last
    assert choose_checkpoint(run, "best") == last  # There was no validation.
    (run.logdir / "best").mkdir()
    [best] = write_checkpoints(run.logdir / "best", 3)
    assert choose_checkpoint(run, "best") == best
    assert choose_checkpoint(run, "last") == last


def test_checkpoint_is_chosen_by_its_path(run):
    first, _ = write_checkpoints(run.logdir, 3, 6)
    assert choose_checkpoint(run, str(first)) == first
    assert choose_checkpoint(run, f"{first}.index") == first
    with pytest.raises(
        UserError, match=r"ckpt-4: no such checkpoint; name one such as model\.ckpt-1000$"
    ):
        choose_checkpoint(run, str(run.logdir / "model.ckpt-4"))


@pytest.mark.parametrize("which", ["best", "last"])
def test_run_without_a_checkpoint_is_refused(run, which):
    with pytest.raises(UserError) as error:
        choose_checkpoint(run, which)
    assert str(error.value) == (
        f"{run.logdir}: no checkpoint yet; wait for the first one, or train with "
        f"python train/train_lenet.py --logdir={run.logdir}"
    )


@pytest.mark.parametrize(
    ("which", "remedy"),
    [
        ("last", "remove its files to use the one before it"),
        ("best", "evaluate.py and export.py take the last one with --checkpoint=last"),
        ("model.ckpt-3", "name another"),
    ],
)
def test_damaged_choice_is_refused(run, which, remedy):
    write_checkpoints(run.logdir, 3)
    shutil.copytree(run.logdir, run.logdir / "best")
    for folder in (run.logdir, run.logdir / "best"):
        os.truncate(folder / "model.ckpt-3.data-00000-of-00001", 10)
    with pytest.raises(
        UserError, match=rf"ckpt-3: this checkpoint cannot be read \(.*\); {remedy}$"
    ):
        choose_checkpoint(run, which)


@pytest.mark.parametrize("averages", [False, True])
def test_moving_averages_are_restored_where_there_are_any(tmp_path, averages):
    [checkpoint] = write_checkpoints(tmp_path, 7, averages=averages)
    for name, value in restore(checkpoint).items():
        np.testing.assert_array_equal(value, value_of(7, name) + (100 if averages else 0))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {**SHAPES, "output/biases": (6,)},
            r"output/biases is \[6\] in model\.txt and \[5\] here; this checkpoint is of another",
        ),
        (
            {**SHAPES, "dense1/biases": (2,)},
            r"dense1/biases is \[2\] in model\.txt and missing here; this checkpoint is of another",
        ),
    ],
)
def test_checkpoint_of_another_model_is_refused_in_words(tmp_path, shapes, message):
    [checkpoint] = write_checkpoints(tmp_path, 7)
    with pytest.raises(UserError, match=f"^{re.escape(str(checkpoint))}: {message} model$"):
        restore(checkpoint, shapes)


def test_saved_weights_are_the_folders_only_checkpoint(tmp_path):
    first, second = write_checkpoints(tmp_path, 7, 8, averages=True)
    best = tmp_path / "best"
    with tf.Graph().as_default(), v1.Session() as session:
        for name, shape in SHAPES.items():
            slim.model_variable(name, shape)
        saver = InferenceSaver()
        for checkpoint in (first, second, second):  # A run taken up again saves the same anew.
            saver.restore(session, checkpoint)
            saver.save(session, best, checkpoint_step(checkpoint))
    assert sorted(path.name for path in best.iterdir()) == [
        "checkpoint",
        "model.ckpt-8.data-00000-of-00001",
        "model.ckpt-8.index",
    ]
    [saved] = list_checkpoints(best)
    reader = tf.train.load_checkpoint(str(saved))
    assert set(reader.get_variable_to_shape_map()) == set(SHAPES)
    for name in SHAPES:
        np.testing.assert_array_equal(reader.get_tensor(name), value_of(8, name) + 100)
