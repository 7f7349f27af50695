import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eval.evaluation import evaluate
from model_definition.architecture import parse_architecture, parse_run_architecture
from model_definition.checkpoints import choose_checkpoint
from model_definition.ensemble import Member
from model_definition.inference import open_model
from model_definition.layer_kinds import LAYER_KINDS
from model_definition.model_fn import ModeKeys, ModelParams, model_fn
from predict.classifier import load_classifier
from tests.eval_fixtures import read_split, score
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE, make_config, write_dataset, write_model
from train.loop import train

v1 = tf.compat.v1
MODEL = "conv 4 3x3 l2=0.1\nmaxpool 2x2\nflatten\ndropout 0.5\noutput\n"
ARCHITECTURE = parse_architecture(
    MODEL, filename="tiny.txt", image_shape=IMAGE_SHAPE, num_classes=len(CLASS_NAMES)
)
RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.uniform(0, 1, (17, *IMAGE_SHAPE)).astype(np.float32)
LABELS = RANDOM.integers(0, 5, 17)


def build(mode, images=IMAGES, labels=LABELS, **params):
    if mode == ModeKeys.TRAIN:
        params.setdefault("train_op_fn", lambda loss: tf.no_op())
    if labels is not None:
        labels = tf.constant(labels, tf.int64)
    return model_fn(tf.constant(images), labels, mode, ModelParams(ARCHITECTURE, **params))


def run(session, fetches):
    session.run([v1.global_variables_initializer(), v1.local_variables_initializer()])
    return session.run(fetches)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture
def session():
    with tf.Graph().as_default(), v1.Session() as session:
        yield session


def test_prediction_has_probabilities_and_no_loss(session):
    spec = build(ModeKeys.PREDICT, labels=None)
    predictions = run(session, dict(spec.predictions))
    np.testing.assert_allclose(
        predictions["probabilities"], softmax(predictions["logits"]), rtol=1e-5
    )
    assert predictions["classes"].tolist() == predictions["logits"].argmax(axis=1).tolist()
    assert (spec.mode, spec.loss, spec.train_op) == ("infer", None, None)
    assert spec.eval_metric_ops == {}
    assert list(spec.end_points) == ["conv1", "maxpool1", "flatten1", "dropout1", "output"]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_training_loss_is_smoothed_and_regularised(session, label_smoothing):
    spec = build(ModeKeys.TRAIN, label_smoothing=label_smoothing)
    weights = next(v for v in v1.trainable_variables() if v.op.name == "conv1/weights")
    loss, logits, weights = run(session, [spec.loss, spec.predictions["logits"], weights])
    targets = np.eye(5)[LABELS] * (1 - label_smoothing) + label_smoothing / 5
    expected = -(targets * np.log(softmax(logits))).sum(axis=1).mean()
    expected += 0.1 / 2 * (weights**2).sum()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_evaluation_loss_is_neither_smoothed_nor_regularised(session):
    spec = build(ModeKeys.EVAL, label_smoothing=0.2)
    loss, logits = run(session, [spec.loss, spec.predictions["logits"]])
    assert loss == pytest.approx(-np.log(softmax(logits)[np.arange(17), LABELS]).mean(), rel=1e-5)
    assert spec.train_op is None


def test_train_op_is_made_of_the_loss(session):
    losses = []

    def train_op_fn(loss):
        losses.append(loss)
        return tf.no_op("step")

    spec = build(ModeKeys.TRAIN, train_op_fn=train_op_fn)
    assert losses == [spec.loss]
    assert spec.train_op.name == "step"


def test_training_without_a_train_op_is_a_mistake():
    with tf.Graph().as_default(), pytest.raises(AssertionError, match="needs a train_op_fn"):
        build(ModeKeys.TRAIN, train_op_fn=None)


@pytest.mark.parametrize("batch_size", [1, 7, 16, 17, 18])
def test_metrics_count_every_example_once_whatever_the_batch_size(session, batch_size):
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(batch_size)
    features, labels = v1.data.make_one_shot_iterator(dataset).get_next()
    spec = model_fn(features, labels, ModeKeys.EVAL, ModelParams(ARCHITECTURE))
    whole = model_fn_of_all()
    updates = [update for _, update in spec.eval_metric_ops.values()]
    session.run([v1.global_variables_initializer(), v1.local_variables_initializer()])
    with pytest.raises(tf.errors.OutOfRangeError):
        while True:
            session.run(updates)
    found = session.run({name: value for name, (value, _) in spec.eval_metric_ops.items()})
    probabilities = softmax(session.run(whole))
    expected = {
        "accuracy": (probabilities.argmax(axis=1) == LABELS).mean(),
        "loss": -np.log(probabilities[np.arange(17), LABELS]).mean(),
        "mean_squared_error": ((probabilities - np.eye(5)[LABELS]) ** 2).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-5)


def model_fn_of_all():
    """The logits of all images at once, from the same variables."""
    with v1.variable_scope(v1.get_variable_scope(), reuse=True):
        spec = model_fn(tf.constant(IMAGES), None, ModeKeys.PREDICT, ModelParams(ARCHITECTURE))
    return spec.predictions["logits"]


def test_all_modes_have_the_same_variables():
    names = {}
    for mode in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT):
        with tf.Graph().as_default():
            build(mode, labels=None if mode == ModeKeys.PREDICT else LABELS)
            names[mode] = {v.op.name: v.shape.as_list() for v in v1.trainable_variables()}
    assert names["train"] == {
        "conv1/weights": [3, 3, 3, 4],
        "conv1/biases": [4],
        "output/weights": [96, 5],
        "output/biases": [5],
    }
    assert names["train"] == names["eval"] == names["infer"]


def test_only_training_drops(session):
    spec = build(ModeKeys.EVAL)
    before, after = run(session, [spec.end_points["flatten1"], spec.end_points["dropout1"]])
    np.testing.assert_array_equal(before, after)
    with tf.Graph().as_default(), v1.Session() as other:
        spec = build(ModeKeys.TRAIN)
        before, after = run(other, [spec.end_points["flatten1"], spec.end_points["dropout1"]])
    assert np.mean(after[before > 0] == 0) == pytest.approx(0.5, abs=0.1)


EVERY_KIND = """
width = 4
conv width 3x3 activation=none bias=false l2=1e-4
batchnorm momentum=0.9
relu
maxpool 2x2
repeat 2
  residual
    separable_conv 2*width 2x3 activation=leaky_relu initializer=glorot_uniform
    batchnorm
    elu
    conv 2*width 3x2 dilation=1x2 activation=gelu
  end
  swish
end
residual
  conv 6 2x2 stride=2x1 activation=tanh
end
leaky_relu slope=0.1
avgpool 2x2 stride=1 padding=same
gelu
global_avgpool
batchnorm
residual
  dense 7 activation=swish
  dropout 0.1
end
tanh
sigmoid
output l2=0.001
"""


def test_every_kind_trains_evaluates_and_predicts(tmp_path):
    manifest = write_dataset(tmp_path / "data")
    config = make_config(
        write_model(tmp_path, EVERY_KIND), epochs=None, max_steps=12, learning_rate=0.1
    )
    run = train(config, data_dir=tmp_path / "data", logdir=tmp_path / "run").run
    architecture = parse_run_architecture(run)
    # An image is made flat in one of two ways; the other one is in most other tests.
    assert {layer.kind for layer in architecture.layers} == {*LAYER_KINDS, "residual"} - {"flatten"}

    events = EventAccumulator(str(run.logdir / "train"), size_guidance={"histograms": 0})
    events.Reload()
    assert {f"{layer.name}/output" for layer in architecture.layers} < {
        *events.Tags()["histograms"]
    }
    assert "batchnorm1/moving_variance" in events.Tags()["histograms"]

    images, labels = read_split(tmp_path / "data", manifest, "test")
    checkpoint = choose_checkpoint(run, "best")
    with open_model(run, checkpoint) as model:
        probabilities = model.predict(images)
    assert probabilities.std(axis=0).max() > 0.01  # The images make a difference.
    np.testing.assert_allclose(load_classifier(run).predict(images), probabilities, atol=1e-4)
    evaluation = evaluate(
        [Member(run, checkpoint)],
        data_dir=tmp_path / "data",
        manifest=manifest,
        splits=["test"],
        batch_size=4,
    )
    found = {name: getattr(evaluation, name) for name in ("accuracy", "loss", "mean_squared_error")}
    assert found == pytest.approx(score(probabilities, labels), rel=1e-4)
