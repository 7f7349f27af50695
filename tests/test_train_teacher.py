"""A network that learns from another one: what it is told, by whom, and by whom it may not be."""

import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from input_pipeline.preprocess import normalize
from model_definition.checkpoints import choose_checkpoint, list_checkpoints
from model_definition.ensemble import Member
from model_definition.inference import open_ensemble
from model_definition.run_dir import load_run
from tests.train_fixtures import (
    SIZES,
    make_config,
    make_examples,
    start_script,
    write_dataset,
    write_model,
)
from train import loop
from train.plan import make_plan
from train.teacher import load_teacher

v1 = tf.compat.v1
train = functools.partial(loop.train, exports=False)  # That takes longer than these runs.
TEACHER = "conv 6 3x3\nbatchnorm\nmaxpool 2x2\nflatten\ndropout 0.5\noutput\n"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "tiny"
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def train_one(data_dir, tmp_path_factory):
    """Trains a run by flags, in a folder of its own, once for each set of flags."""
    model = write_model(tmp_path_factory.mktemp("model"), TEACHER)
    runs = {}

    def train_one(**changes):
        key = str(sorted(changes.items()))
        if key not in runs:
            folder = tmp_path_factory.mktemp("run") / "teacher"
            train(make_config(model, **changes), data_dir=data_dir, logdir=folder)
            runs[key] = folder
        return runs[key]

    return train_one


def load(data_dir, teacher, **changes):
    config = make_config("lenet", teacher=str(teacher), **changes)
    return load_teacher(config, make_plan(config, data_dir, load_manifest(data_dir)))


def test_without_the_flag_there_is_none(data_dir):
    assert load(data_dir, "") is None


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_it_answers_as_its_runs_do_and_adds_no_variable(data_dir, train_one, seeds):
    folders = [train_one(seed=seed, ema_decay=0.5) for seed in seeds]
    teacher = load(
        data_dir, ",".join(map(str, folders)), teacher_share=0.25, teacher_temperature=7.0
    )
    assert (teacher.share, teacher.temperature) == (0.25, 7.0)
    images = make_examples(11)[0]
    with v1.Session(graph=tf.Graph()) as session:
        logits = teacher.logits_fn(normalize(tf.constant(images)))
        probabilities = session.run(tf.nn.softmax(logits))
        assert v1.global_variables() == []
    runs = [load_run(folder) for folder in folders]
    with open_ensemble([Member(run, choose_checkpoint(run, "best")) for run in runs]) as expected:
        np.testing.assert_allclose(probabilities, expected.predict(images), atol=1e-6)


def test_a_student_told_by_the_teacher_alone_learns_its_answers(tmp_path, model):
    images, labels = make_examples(200)
    wrong = (labels + 1) % 5
    for name, told in (("right", labels), ("wrong", wrong)):
        examples = {"train": (images, told), "validation": (images[:40], told[:40])}
        write_dataset(tmp_path / name, examples=examples)
    changes = {"epochs": 8.0, "learning_rate": 0.02}
    train(make_config(model, **changes), data_dir=tmp_path / "right", logdir=tmp_path / "teacher")
    taught = {**changes, "teacher": str(tmp_path / "teacher"), "teacher_share": 1.0}
    scores = {}
    for name, flags in (("taught", taught), ("told", changes)):
        config = make_config(model, **flags)
        result = train(config, data_dir=tmp_path / "wrong", logdir=tmp_path / name)
        assert result.best is not None
        scores[name] = result.best.accuracy
    assert scores["told"] > 0.8  # It learnt the wrong labels,
    assert scores["taught"] < 0.2  # and this one never saw them.


def test_a_checkpoint_and_run_json_are_the_students(tmp_path, data_dir, train_one, model):
    teacher = str(train_one())
    train(make_config(model, teacher=teacher), data_dir=data_dir, logdir=tmp_path / "student")
    train(make_config(model), data_dir=data_dir, logdir=tmp_path / "plain")
    names = [
        [name for name, _ in tf.train.list_variables(str(list_checkpoints(folder)[0]))]
        for folder in (tmp_path / "student", tmp_path / "plain")
    ]
    assert names[0] == names[1]
    events = EventAccumulator(str(tmp_path / "student/train"))
    events.Reload()
    shown = [node for node in events.Graph().node if node.name.startswith("teacher/")]
    assert {"teacher/conv1/Conv2D", "teacher/logits"} <= {node.name for node in shown}
    assert max(node.ByteSize() for node in shown) < 2000  # not the weights
    config = load_run(tmp_path / "student").config
    assert (config["teacher"], config["teacher_share"]) == (teacher, 0.9)


def test_a_run_taken_up_again_ends_with_the_same_weights(tmp_path, data_dir, train_one, model):
    config = make_config(
        model, teacher=str(train_one()), max_steps=8, epochs=None, schedule="constant"
    )
    train(config, data_dir=data_dir, logdir=tmp_path / "whole")
    train(replace(config, max_steps=4), data_dir=data_dir, logdir=tmp_path / "halted")
    train(config, data_dir=data_dir, logdir=tmp_path / "halted")
    whole, halted = (
        tf.train.load_checkpoint(str(tmp_path / name / "model.ckpt-8"))
        for name in ("whole", "halted")
    )
    for name in whole.get_variable_to_shape_map():
        assert np.array_equal(whole.get_tensor(name), halted.get_tensor(name)), name
    with pytest.raises(UserError, match=r"teacher_share: 0\.9 in the run, 0\.5 now"):
        train(replace(config, teacher_share=0.5), data_dir=data_dir, logdir=tmp_path / "halted")


def test_a_run_goes_on_only_with_the_teacher_that_it_began_with(
    tmp_path, data_dir, train_one, model
):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    shutil.copytree(train_one(), teacher)
    config = make_config(model, teacher=str(teacher), max_steps=4, epochs=None, schedule="constant")
    train(config, data_dir=data_dir, logdir=student)
    shutil.rmtree(teacher)
    shutil.copytree(train_one(seed=1), teacher)
    with pytest.raises(UserError) as refused:
        train(replace(config, max_steps=8), data_dir=data_dir, logdir=student)
    assert str(refused.value) == (
        f"{student}: its teacher {teacher} has other weights than when this run began; restore "
        "those to go on with it, or name another --logdir"
    )
    shutil.rmtree(teacher)
    shutil.copytree(train_one(), teacher)
    assert train(replace(config, max_steps=8), data_dir=data_dir, logdir=student).step == 8


def test_one_that_knows_the_validation_images_is_refused(data_dir, train_one, tmp_path, model):
    everything = train_one(train_splits="train+validation", validate_on="none")
    with pytest.raises(UserError) as refused:
        train(
            make_config(model, teacher=str(everything)),
            data_dir=data_dir,
            logdir=tmp_path / "student",
        )
    assert str(refused.value) == (
        f"--teacher={everything}: was trained on 17 of the images that this run would be "
        "validated on, and would tell their answers; name a teacher that was not, or give "
        "--validate_on=none"
    )
    assert not (tmp_path / "student").exists()
    assert load(data_dir, everything, validate_on="none") is not None


def test_folds_count_by_their_images(data_dir, train_one):
    first = train_one(validate_on="1/3")
    assert load(data_dir, first, validate_on="1/3") is not None
    assert load(data_dir, first) is not None  # The validation split is no part of them.
    with pytest.raises(UserError, match="was trained on 18 of the images"):
        load(data_dir, first, validate_on="2/3")
    few = train_one(train_limit=20, seed=3)
    with pytest.raises(UserError, match="would tell their answers"):
        load(data_dir, few, validate_on="1/3")


def test_one_of_another_dataset_is_taken_at_its_word(tmp_path, data_dir, train_one, capfd):
    write_dataset(tmp_path / "other", sizes={**SIZES, "train": 54})
    teacher = train_one()
    capfd.readouterr()
    assert load(tmp_path / "other", teacher) is not None
    assert capfd.readouterr().err.startswith(
        f"--teacher={teacher}: was trained on images that are not known here; if this run's "
        "validation images are among them, validation looks too good\n"
    )


def test_one_whose_training_has_not_ended_is_named(data_dir, train_one, capfd, tmp_path):
    teacher = tmp_path / "teacher"
    shutil.copytree(train_one(), teacher)  # Without exports, which training writes at its end.
    capfd.readouterr()
    said = f"--teacher={teacher}: has no model.tflite, so its training may not have ended\n"
    assert load(data_dir, teacher) is not None
    assert said in capfd.readouterr().err
    (teacher / "export").mkdir()
    (teacher / "export/model.tflite").touch()
    assert load(data_dir, teacher) is not None
    assert said not in capfd.readouterr().err


def test_one_of_other_classes_or_images_is_refused(tmp_path, train_one):
    teacher = train_one()
    write_dataset(tmp_path / "named", class_names=("ape", "bee", "cow", "dog", "elk"))
    with pytest.raises(UserError) as refused:
        load(tmp_path / "named", teacher)
    assert str(refused.value) == (
        f"--teacher={teacher}: this run's class names: ant bee cow dog elk; the dataset tiny's: "
        "ape bee cow dog elk; name a teacher for which they are the same"
    )
    images, labels = make_examples(30)
    grey = {split: (images[..., :1].copy(), labels) for split in ("train", "validation")}
    write_dataset(tmp_path / "grey", examples=grey)
    with pytest.raises(UserError, match=r"image shape: \(13, 9, 3\); the dataset tiny's: \(13, 9"):
        load(tmp_path / "grey", teacher)


def test_one_that_is_not_there_is_named(tmp_path, data_dir):
    process = start_script(
        "train/train_lenet.py",
        f"--data_dir={data_dir}",
        f"--logdir={tmp_path / 'student'}",
        f"--teacher={tmp_path / 'nobody'}",
    )
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert errors.splitlines()[-1].startswith(
        f"train_lenet.py: --teacher: {tmp_path / 'nobody'}: no such run folder; "
    )
    assert "Traceback" not in errors
    assert not (tmp_path / "student").exists()
