import numpy as np
import pytest
import tensorflow as tf

from model_definition.distillation import Teacher

v1 = tf.compat.v1
RANDOM = np.random.default_rng(5)
FEATURES = RANDOM.uniform(0, 1, (6, 5, 4, 1)).astype(np.float32)
LOGITS = RANDOM.normal(0, 3, (6, 3)).astype(np.float32)
LOSSES = RANDOM.uniform(0, 2, 6).astype(np.float32)
TAUGHT = RANDOM.normal(0, 1, (20, 3)).astype(np.float32)  # the teacher: one dense layer


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def answer(features):
    return tf.reshape(features, [-1, 20]) @ TAUGHT


@pytest.mark.parametrize(("share", "temperature"), [(0.25, 1.0), (0.9, 4.0), (1.0, 0.5)])
def test_a_share_of_the_loss_is_the_cross_entropy_with_softened_answers(share, temperature):
    teacher = Teacher(answer, share, temperature, digest="")
    with v1.Session(graph=tf.Graph()) as session:
        losses = session.run(teacher.blend(*map(tf.constant, (LOSSES, FEATURES, LOGITS))))
    taught = FEATURES.reshape(6, 20) @ TAUGHT
    soft = np.exp(log_softmax(taught / temperature))
    apart = -(soft * log_softmax(LOGITS / temperature)).sum(axis=1) * temperature**2
    np.testing.assert_allclose(losses, (1 - share) * LOSSES + share * apart, rtol=1e-5)


def test_at_any_temperature_the_gradients_are_of_one_size():
    # With the temperature's square, and logits that are small beside it, they are the difference
    # of the logits (each less its mean) by the number of classes (Hinton et al., equation 4).
    taught = FEATURES.reshape(6, 20) @ TAUGHT
    for temperature in (200.0, 800.0):
        with v1.Session(graph=tf.Graph()) as session:
            logits = tf.constant(LOGITS)
            loss = Teacher(answer, 1.0, temperature, digest="").blend(
                tf.constant(LOSSES), tf.constant(FEATURES), logits
            )
            gradient = session.run(tf.gradients(loss, logits)[0])
        difference = LOGITS - taught
        expected = (difference - difference.mean(axis=1, keepdims=True)) / 3
        np.testing.assert_allclose(gradient, expected, atol=0.1)


def test_the_teacher_learns_nothing():
    with tf.Graph().as_default():
        weights = v1.get_variable("taught", initializer=TAUGHT)
        teacher = Teacher(lambda features: tf.reshape(features, [-1, 20]) @ weights, 0.5, 2.0, "")
        features, logits = tf.constant(FEATURES), tf.constant(LOGITS)
        loss = teacher.blend(tf.constant(LOSSES), features, logits)
        assert tf.gradients(loss, [weights, features]) == [None, None]
        assert tf.gradients(loss, logits) != [None]
