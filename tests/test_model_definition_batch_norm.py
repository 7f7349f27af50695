"""Batch normalisation's moving averages and statistics; test_…_network_keras has its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from model_definition.batch_norm import batch_norm
from tests.train_fixtures import make_config
from train.optimizer import build_train_step

v1 = tf.compat.v1
RANDOM = np.random.default_rng(0)
CHANNELS = 3
SCALE, SHIFT = np.array([0.5, 2.0, 7.0]), np.array([-3.0, 0.1, 40.0])
# Six batches of images, and of flat numbers, whose channels differ.
IMAGES = (RANDOM.normal(size=(6, 4, 5, 2, CHANNELS)) * SCALE + SHIFT).astype(np.float32)
FLAT = (RANDOM.normal(size=(6, 7, CHANNELS)) * SCALE + SHIFT).astype(np.float32)


def statistics(batch, *, ddof=0):
    values = batch.astype(np.float64).reshape(-1, CHANNELS)
    return values.mean(axis=0), values.var(axis=0, ddof=ddof)


def train(batches, *, rate=0.0, **options):
    """Makes a step with each batch as training does.

    Returns:
      What training's last step put out; for each step, the moving averages after it; and what
      evaluation then makes of the last batch.
    """
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.float32, [None, *batches.shape[2:]])
        step = v1.train.get_or_create_global_step()
        outputs = batch_norm(inputs, is_training=True, global_step=step, scope="bn", **options)
        config = make_config("lenet", optimizer="sgd", schedule="constant", learning_rate=rate)
        train_step = build_train_step(
            tf.reduce_sum(outputs**3), config, total_steps=len(batches), steps_an_epoch=3.0
        )
        with v1.variable_scope(v1.get_variable_scope(), reuse=True):
            evaluated = batch_norm(inputs, is_training=False, scope="bn", **options)
        averages = [variable for variable in v1.global_variables() if "moving" in variable.op.name]
        session.run(v1.global_variables_initializer())
        after = []
        for batch in batches:
            trained, _ = session.run([outputs, train_step.train_op], {inputs: batch})
            after.append(session.run(averages))
        assert session.run(step) == len(batches)
        return trained, after, session.run(evaluated, {inputs: batches[-1]})


@pytest.mark.parametrize("momentum", [0.99, 0.2, 0.0])
@pytest.mark.parametrize("batches", [IMAGES, FLAT], ids=["images", "flat"])
def test_moving_averages_follow_the_batches_once_a_step(batches, momentum):
    """The variance's average takes the unbiased variance, where Keras's takes the biased one."""
    _, found, _ = train(batches, momentum=momentum)
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for step, (batch, (found_mean, found_variance)) in enumerate(zip(batches, found, strict=True)):
        kept = min(momentum, (1 + step) / (10 + step))
        batch_mean, batch_variance = statistics(batch, ddof=1)
        mean = kept * mean + (1 - kept) * batch_mean
        variance = kept * variance + (1 - kept) * batch_variance
        np.testing.assert_allclose(found_mean, mean, rtol=1e-5)
        np.testing.assert_allclose(found_variance, variance, rtol=1e-5)


@pytest.mark.parametrize("batches", [IMAGES, FLAT], ids=["images", "flat"])
@pytest.mark.parametrize("num_steps", [5, 60])
def test_evaluation_after_a_constant_batch_agrees_with_training(batches, num_steps):
    batch = batches[0]
    trained, averages, evaluated = train(np.stack([batch] * num_steps))
    # What the initial values still weigh: after 5 steps 0.0005.
    left = np.prod([min(0.99, (1 + step) / (10 + step)) for step in range(num_steps)])
    assert left < 0.001
    mean, variance = statistics(batch, ddof=1)
    mean, variance = (1 - left) * mean, (1 - left) * variance + left
    np.testing.assert_allclose(averages[-1], [mean, variance], rtol=1e-4)
    expected = (batch - mean) / np.sqrt(variance + 0.001)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-3, atol=1e-4)
    # It differs from training by the unbiased variance alone.
    n = batch.size // CHANNELS
    unbiased = trained * np.sqrt((n - 1) / n)
    np.testing.assert_allclose(evaluated, unbiased, atol=0.06 if num_steps == 5 else 2e-3)


def test_scale_and_shift_are_learnt():
    first, _, _ = train(IMAGES[:1])
    second, _, _ = train(np.stack([IMAGES[0]] * 2), rate=0.001)
    assert np.abs(first - second).max() > 0.01


def normalise(values, *, is_training, epsilon=0.001):
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.float32, [None, *values.shape[1:]])
        step = tf.constant(0)
        outputs = batch_norm(
            inputs, is_training=is_training, epsilon=epsilon, global_step=step, scope="bn"
        )
        assert outputs.shape.as_list() == inputs.shape.as_list()
        session.run(v1.global_variables_initializer())
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        outputs, _ = session.run([outputs, updates], {inputs: values})
        return outputs, session.run({v.op.name: v for v in v1.global_variables()})


@pytest.mark.parametrize("epsilon", [1e-7, 1e-5, 0.9])
def test_epsilon_is_added_to_the_variance(epsilon):
    # The smallest epsilon can only be told beside a variance as small.
    batch = (0.001 * IMAGES[0] / SCALE).astype(np.float32)
    mean, variance = statistics(batch)
    outputs, _ = normalise(batch, is_training=True, epsilon=epsilon)
    expected = (batch - mean) / np.sqrt(variance + epsilon)
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-3)


def test_flat_batch_of_one_is_its_own_mean():
    outputs, variables = normalise(FLAT[0, :1], is_training=True)
    assert outputs.tolist() == [[0.0] * CHANNELS]
    np.testing.assert_allclose(variables["bn/moving_mean"], 0.9 * FLAT[0, 0], rtol=1e-6)
    np.testing.assert_allclose(variables["bn/moving_variance"], 0.1, rtol=1e-6)


@pytest.mark.parametrize("batches", [IMAGES, FLAT], ids=["images", "flat"])
def test_evaluation_takes_any_number_of_examples_and_changes_nothing(batches):
    whole, variables = normalise(batches[0], is_training=False)
    np.testing.assert_allclose(whole, batches[0] / np.sqrt(1.001), rtol=1e-5)
    for n in (0, 1, 3):
        outputs, after = normalise(batches[0, :n], is_training=False)
        np.testing.assert_allclose(outputs, whole[:n], rtol=1e-6)
        assert all(np.array_equal(after[name], variables[name]) for name in variables)
    assert {name: value.tolist() for name, value in variables.items()} == {
        "bn/gamma": [1.0] * CHANNELS,
        "bn/beta": [0.0] * CHANNELS,
        "bn/moving_mean": [0.0] * CHANNELS,
        "bn/moving_variance": [1.0] * CHANNELS,
    }


def test_only_scale_and_shift_are_trained_and_only_training_updates():
    with tf.Graph().as_default():
        batch_norm(tf.constant(IMAGES[0]), is_training=False, scope="bn")
        assert [v.op.name for v in v1.trainable_variables()] == ["bn/gamma", "bn/beta"]
        assert not v1.get_collection(v1.GraphKeys.UPDATE_OPS)
