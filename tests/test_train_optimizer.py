import math

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from train.config import OPTIMIZERS, TrainConfig
from train.optimizer import build_train_step, learning_rate_at

v1 = tf.compat.v1
TARGET = np.array([[1.0, -2.0, 3.0]], np.float32)


def rates(steps, *, total_steps=100, steps_an_epoch=20.5, **values):
    config = TrainConfig(learning_rate=0.4, **values)
    return learning_rate_at(
        tf.constant(steps), config, total_steps=total_steps, steps_an_epoch=steps_an_epoch
    ).numpy()


def cosine(progress):
    return 0.5 * (1 + math.cos(math.pi * progress))


def test_constant():
    assert rates([0, 50, 99], schedule="constant") == pytest.approx([0.4] * 3)


def test_warmup_rises_linearly_to_the_peak():
    expected = [0.1, 0.2, 0.3, 0.4, 0.4]
    found = rates([0, 1, 2, 3, 4], schedule="constant", warmup_steps=4)
    assert found == pytest.approx(expected)


def test_exponential_falls_by_its_rate_each_epoch():
    expected = [0.4, 0.4 * 0.5 ** (1 / 20.5), 0.4 * 0.5**2]
    assert rates([0, 1, 41], schedule="exponential", decay_rate=0.5) == pytest.approx(expected)
    # The fall begins where the warm-up ends.
    found = rates([2, 3, 4], schedule="exponential", decay_rate=0.5, warmup_steps=3)
    assert found == pytest.approx([0.4, 0.4, 0.4 * 0.5 ** (1 / 20.5)])


def test_cosine_falls_to_0():
    expected = [0.4 * cosine(step / 100) for step in (0, 25, 50, 99)]
    assert rates([0, 25, 50, 99], schedule="cosine") == pytest.approx(expected, rel=1e-4)
    assert rates([100, 130], schedule="cosine") == pytest.approx([0, 0], abs=1e-6)
    expected = [0.4 * cosine((step - 20) / 80) for step in (20, 60)]
    assert rates([20, 60], schedule="cosine", warmup_steps=20) == pytest.approx(expected)


def test_one_cycle_rises_for_30_percent_and_falls_to_0():
    steps = [0, 10, 29, 30, 65, 99]
    expected = [0.4 * (0.04 + 0.96 * step / 30) for step in (0, 10, 29)]
    expected += [0.4 * cosine((step - 30) / 70) for step in (30, 65, 99)]
    found = rates(steps, schedule="one_cycle")
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[0] == pytest.approx(0.4 / 25)
    assert found.argmax() == 3 and found[3] == np.float32(0.4)
    found = rates([4, 5, 6], schedule="one_cycle", warmup_steps=5)
    expected = [0.4 * (0.04 + 0.96 * 4 / 5), 0.4, 0.4 * cosine(1 / 95)]
    assert found == pytest.approx(expected)


def test_one_cycle_is_what_keras_calls_cosine_decay_with_a_warmup():
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        0.4 / 25, decay_steps=70, warmup_target=0.4, warmup_steps=30
    )
    steps = [0, 1, 17, 29, 30, 31, 64, 99, 100, 120]
    expected = [float(schedule(step)) for step in steps]
    assert rates(steps, schedule="one_cycle") == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
@pytest.mark.parametrize("warmup_steps", [None, 0, 1, 5])
def test_shortest_runs_have_a_finite_rate(schedule, warmup_steps):
    found = rates([0], total_steps=1, schedule=schedule, warmup_steps=warmup_steps)
    assert 0 < found[0] <= 0.4 + 1e-6


def run_steps(steps, fetch=lambda step: [], **values):
    """Moves weights and biases towards their target; returns all values before and after each."""
    config = TrainConfig(schedule="constant", **values)
    history = []
    with tf.Graph().as_default(), v1.Session() as session:
        start = {"weights": 2.0, "biases": -1.0}
        variables = [
            slim.model_variable(
                f"dense1/{name}", [1, 3], initializer=tf.constant_initializer(value)
            )
            for name, value in start.items()
        ]
        loss = tf.add_n([tf.reduce_sum(tf.square(v - TARGET)) / 2 for v in variables])
        step = build_train_step(loss, config, total_steps=steps, steps_an_epoch=10.0)
        session.run(v1.global_variables_initializer())
        fetches = {variable.op.name: variable for variable in v1.global_variables()}
        history.append({**session.run(fetches), "loss": session.run(loss)})
        for _ in range(steps):
            _, *extra = session.run([step.train_op, *fetch(step)])
            values_now = {**session.run(fetches), "loss": session.run(loss), "extra": extra}
            history.append(values_now)
    return history


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimizer_lowers_the_loss(optimizer):
    history = run_steps(60, optimizer=optimizer, learning_rate=0.05)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["global_step"] == 60


def test_sgd_and_momentum_are_as_defined():
    start = np.full((1, 3), 2.0)
    weights = [v["dense1/weights"] for v in run_steps(2, optimizer="sgd", learning_rate=0.1)]
    np.testing.assert_allclose(weights[1], start - 0.1 * (start - TARGET), rtol=1e-5)
    history = run_steps(2, optimizer="momentum", momentum=0.5, learning_rate=0.1)
    weights = [values["dense1/weights"] for values in history]
    velocity = 0.5 * (start - TARGET) + (weights[1] - TARGET)
    np.testing.assert_allclose(weights[2], weights[1] - 0.1 * velocity, rtol=1e-5)


def test_adam_is_as_defined():
    start, (beta1, beta2) = np.full((1, 3), 2.0), (0.7, 0.8)
    history = run_steps(2, optimizer="adam", beta1=beta1, beta2=beta2, learning_rate=0.1)
    weights = [values["dense1/weights"] for values in history]
    gradients = [start - TARGET, weights[1] - TARGET]
    mean = (1 - beta1) * (beta1 * gradients[0] + gradients[1]) / (1 - beta1**2)
    squares = [gradient**2 for gradient in gradients]
    square = (1 - beta2) * (beta2 * squares[0] + squares[1]) / (1 - beta2**2)
    np.testing.assert_allclose(weights[2], weights[1] - 0.1 * mean / np.sqrt(square), rtol=1e-5)


def test_weight_decay_shrinks_weights_but_no_biases():
    after = run_steps(1, optimizer="sgd", learning_rate=0.1, weight_decay=0.5)[1]
    # Decoupled: the gradient is that of the weights before they shrink.
    expected = 2.0 - 0.1 * 0.5 * 2.0 - 0.1 * (2.0 - TARGET)
    np.testing.assert_allclose(after["dense1/weights"], expected, rtol=1e-6)
    np.testing.assert_allclose(after["dense1/biases"], -1.0 - 0.1 * (-1.0 - TARGET), rtol=1e-6)


def test_weight_decay_does_not_pass_through_adam():
    plain = run_steps(1, optimizer="adam", learning_rate=0.1)[1]["dense1/weights"]
    decayed = run_steps(1, optimizer="adam", learning_rate=0.1, weight_decay=0.5)[1]
    np.testing.assert_allclose(decayed["dense1/weights"], plain - 0.1 * 0.5 * 2.0, rtol=1e-5)


def test_gradient_is_clipped_by_its_norm_and_reported_before_that():
    gradients = np.stack([2.0 - TARGET, -1.0 - TARGET])
    norm = np.linalg.norm(gradients)
    after = run_steps(
        1,
        lambda step: [step.gradient_norm, step.learning_rate],
        optimizer="sgd",
        learning_rate=0.1,
        clip_norm=0.5,
    )[1]
    assert after["extra"] == pytest.approx([norm, 0.1])
    expected = 2.0 - 0.1 * (2.0 - TARGET) * 0.5 / norm
    np.testing.assert_allclose(after["dense1/weights"], expected, rtol=1e-5)
    unclipped = run_steps(1, optimizer="sgd", learning_rate=0.1, clip_norm=100.0)[1]
    np.testing.assert_allclose(unclipped["dense1/weights"], 2.0 - 0.1 * (2.0 - TARGET), rtol=1e-5)


def test_moving_average_is_as_defined():
    history = run_steps(4, optimizer="sgd", learning_rate=0.1, ema_decay=0.3)
    average = history[0]["dense1/weights"]
    for step, values in enumerate(history[1:], start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * values["dense1/weights"]
        name = "dense1/weights/ExponentialMovingAverage"
        np.testing.assert_allclose(values[name], average, rtol=1e-5)
    assert decay == 0.3  # Both of its bounds were met on the way.
