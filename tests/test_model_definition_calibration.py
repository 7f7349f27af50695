import numpy as np
import pytest
import tensorflow as tf

from model_definition.calibrated import _build_scores, build_features
from model_definition.calibration import choose_threshold, fit_rejection, fit_temperature

RANDOM = np.random.default_rng(0)


def cross_entropy(logits, labels, temperature):
    scaled = logits / temperature
    return np.mean(np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(labels)), labels])


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true):
    logits = RANDOM.normal(0, 3, (20_000, 7))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < RANDOM.random((20_000, 1))).sum(axis=1).clip(0, 6)
    found = fit_temperature((logits * true).astype(np.float32), labels)
    assert found == pytest.approx(true, rel=0.05)
    least = cross_entropy(logits * true, labels, found)
    for other in (found * 0.97, found * 1.03):
        assert least < cross_entropy(logits * true, labels, other)


def test_temperature_stays_bounded_where_the_best_is_none():
    logits = np.eye(3, dtype=np.float32)
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(1 / 20)  # all are right
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(20)  # all are wrong


@pytest.mark.parametrize("num_classes", [1, 4])
def test_temperature_of_a_network_that_says_nothing_is_one(num_classes):
    assert fit_temperature(np.zeros((5, num_classes), np.float32), np.zeros(5, int)) == 1


def make_clouds(num_classes=3, n=300):
    """Classes in tight clouds, others all around them; one feature never differs."""
    centres = 4 * np.eye(num_classes, 6)
    labels = np.arange(n) % num_classes
    features = (centres[labels] + RANDOM.normal(0, 0.3, (n, 6))).astype(np.float32)
    others = RANDOM.normal(0, 3, (2 * n, 6)).astype(np.float32)
    features[:, 5] = others[:, 5] = 7
    return features, labels, others


@pytest.mark.parametrize("num_classes", [1, 3])
def test_head_tells_classes_from_others(num_classes):
    features, labels, others = make_clouds(num_classes)
    rejection = fit_rejection(features, labels, others, num_classes=num_classes, seed=0)
    new, _, new_others = make_clouds(num_classes)
    threshold = np.quantile(rejection.score(new), 0.05)
    assert np.mean(rejection.score(new_others) < threshold) > 0.9


def test_head_depends_on_the_seed_alone():
    data = make_clouds()
    first, again, other = (fit_rejection(*data, num_classes=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.weights, again.weights)
    assert (first.weights != other.weights).any()


def test_one_image_of_each_kind_is_enough():
    rejection = fit_rejection(
        np.zeros((1, 2), np.float32), np.zeros(1, int), np.ones((1, 2), np.float32),
        num_classes=1, seed=0,
    )  # fmt: skip
    assert np.isfinite(rejection.score(np.zeros((3, 2), np.float32))).all()


def test_no_feature_weighs_without_end():
    rejection = fit_rejection(*make_clouds(), num_classes=3, seed=0)
    far, farther = np.full((2, 6), [[1e6], [1e30]], np.float32)
    assert rejection.score(far[None]) == rejection.score(farther[None])


def test_the_graph_scores_as_numpy_does():
    features, labels, others = make_clouds()
    rejection = fit_rejection(features, labels, others, num_classes=3, seed=0)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        scores = session.run(_build_scores(tf.constant(others), rejection))
    np.testing.assert_allclose(scores, rejection.score(others), atol=1e-4)
    assert scores.shape == (len(others),)


def test_features_are_of_the_whole_image():
    maps = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    flat = np.ones((2, 5), np.float32)
    end_points = {"conv1": maps, "flatten1": flat, "dense1": 2 * flat, "dropout1": flat}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        found = session.run(build_features({k: tf.constant(v) for k, v in end_points.items()}))
    expected = [maps.mean(axis=(1, 2)), maps.max(axis=(1, 2)), 2 * flat]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1))


def test_threshold_rejects_no_more_than_one_in_two_hundred():
    scores = np.arange(1000.0)
    assert choose_threshold(scores, np.full(50, 4.5)) == 5
    assert choose_threshold(scores, np.full(50, 5.5)) == 0


def test_threshold_rejects_none_for_nothing():
    assert choose_threshold(np.arange(10.0, 1010.0), np.arange(-50.0, 0.0)) == 10


def test_threshold_weighs_digits_thirty_times():
    scores = np.arange(1000.0)
    # To reject three digits, that is 0.3 % and weighs 9 %, is worth 10 % of the others, not 8 %.
    assert choose_threshold(scores, np.r_[np.full(10, 2.5), np.full(90, -1.0)]) == 3
    assert choose_threshold(scores, np.r_[np.full(8, 2.5), np.full(92, -1.0)]) == 0
