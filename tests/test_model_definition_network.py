import random

import numpy as np
import pytest
import tensorflow as tf

from model_definition import network
from model_definition.architecture import (
    Architecture,
    ArchitectureError,
    load_architecture,
    parse_architecture,
)
from model_definition.layer_kinds import LAYER_KINDS
from model_definition.network import build_network

v1 = tf.compat.v1
IMAGE_SHAPE = (13, 7, 3)
IMAGES = np.random.default_rng(0).normal(size=(6, *IMAGE_SHAPE)).astype(np.float32)


def parse(text: str) -> Architecture:
    return parse_architecture(text, filename="my.txt", image_shape=IMAGE_SHAPE, num_classes=5)


def run_network(architecture, fetch, *, images=IMAGES, step=0, **kwargs):
    """Builds the network in a graph of its own and runs what `fetch` picks from it."""
    with tf.Graph().as_default(), v1.Session() as session:
        placeholder = v1.placeholder(tf.float32, [None, *architecture.image_shape])
        global_step = tf.constant(step, tf.int64)
        logits, end_points = build_network(
            architecture, placeholder, global_step=global_step, **kwargs
        )
        session.run(v1.global_variables_initializer())
        return session.run(fetch(logits, end_points), {placeholder: images})


def run_end_point(text: str, name: str, **kwargs) -> np.ndarray:
    return run_network(parse(text), lambda _, end_points: end_points[name], **kwargs)


def weights_of(architecture, **kwargs) -> dict[str, np.ndarray]:
    return run_network(
        architecture,
        lambda *_: {variable.op.name: variable for variable in v1.global_variables()},
        is_training=False,
        **kwargs,
    )


def test_lenet_variables_are_those_of_its_checkpoints():
    architecture = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 28, 28, 1])
        logits, end_points = build_network(architecture, images, is_training=False)
        shapes = {v.op.name: tuple(v.shape) for v in v1.trainable_variables()}
        assert v1.global_variables() == v1.trainable_variables()
    assert shapes == {
        "conv1/weights": (5, 5, 1, 32),
        "conv1/biases": (32,),
        "conv2/weights": (5, 5, 32, 64),
        "conv2/biases": (64,),
        "dense1/weights": (3136, 1024),
        "dense1/biases": (1024,),
        "output/weights": (1024, 10),
        "output/biases": (10,),
    }
    assert sum(np.prod(shape) for shape in shapes.values()) == 3_274_634
    assert list(end_points) == [layer.name for layer in architecture.layers]
    assert end_points["output"] is logits
    assert logits.dtype == tf.float32


def test_every_kind_of_the_format_is_built():
    assert {*network._BUILDERS, "maxpool"} == set(LAYER_KINDS)


def random_architecture(generator: random.Random) -> Architecture:
    """Returns one with windows that are odd, oblong, strided, and larger than the image."""

    def size(highest):
        return f"{generator.randint(1, highest)}x{generator.randint(1, highest)}"

    lines = []
    for _ in range(generator.randint(0, 3)):
        padding = generator.choice(["same", "valid"])
        activation = generator.choice(["relu", "none"])
        lines.append(
            generator.choice(
                [
                    f"conv {generator.randint(1, 4)} {size(3)} stride={size(2)} padding={padding}"
                    f" activation={activation}",
                    f"conv {generator.randint(1, 4)} {size(15)} activation={activation}",
                    f"maxpool {size(2)} stride={size(3)} padding={padding}",
                    f"maxpool {size(2)} padding={padding}",
                    "dropout 0.3",
                ]
            )
        )
    dense = [
        f"dense {generator.randint(1, 9)} activation={activation}"
        for activation in generator.choice([[], ["relu"], ["none", "relu"]])
    ]
    try:
        return parse("\n".join([*lines, "flatten", *dense, "output"]))
    except ArchitectureError:  # A pool larger than its input: draw again.
        return random_architecture(generator)


@pytest.mark.parametrize("seed", range(20))
def test_graph_has_the_computed_shapes_and_sizes(seed):
    architecture = random_architecture(random.Random(seed))

    def fetch(logits, end_points):
        variables = v1.trainable_variables()
        return variables, end_points, tf.gradients(tf.reduce_sum(logits), variables)

    weights, end_points, gradients = run_network(architecture, fetch, is_training=True)
    assert sum(weight.size for weight in weights) == architecture.num_parameters
    assert {name: value.shape for name, value in end_points.items()} == {
        layer.name: (6, *layer.output_shape) for layer in architecture.layers
    }
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_a_batch_may_be_empty():
    text = "conv 2 3x3\nmaxpool 2x2\nflatten\noutput"
    logits = run_end_point(text, "output", images=IMAGES[:0], is_training=False)
    assert logits.shape == (0, 5)


def test_pooling_early_gives_what_the_text_says():
    text = "conv 4 3x3\nmaxpool 2x2 stride=1 padding=same\nmaxpool 3x2\nconv 3 2x2\nflatten\noutput"

    def fetch(logits, end_points):
        variables = v1.trainable_variables()
        weights = {variable.op.name: variable for variable in variables}
        net = v1.get_default_graph().get_tensor_by_name("Placeholder:0")
        expected = {}
        for name in ("conv1", "maxpool1", "maxpool2", "conv2"):
            if name.startswith("conv"):
                net = tf.nn.conv2d(net, weights[f"{name}/weights"], 1, "SAME")
                net = tf.nn.relu(net + weights[f"{name}/biases"])
            elif name == "maxpool1":
                net = tf.nn.max_pool2d(net, 2, 1, "SAME")
            else:
                net = tf.nn.max_pool2d(net, [3, 2], [3, 2], "VALID")
            expected[name] = net
        net = tf.reshape(net, [6, -1]) @ weights["output/weights"] + weights["output/biases"]
        expected["output"] = net
        losses = tf.reduce_sum(logits**2), tf.reduce_sum(net**2)
        gradients = [tf.gradients(loss, variables) for loss in losses]
        return {name: (end_points[name], expected[name]) for name in expected}, gradients

    outputs, (gradients, expected_gradients) = run_network(parse(text), fetch, is_training=False)
    for found, expected in outputs.values():
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.any(outputs["conv1"][0] == 0)
    for found, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_pool_after_a_linear_convolution_stays_linear():
    text = "conv 4 3x3 activation=none\nmaxpool 2x2\nflatten\noutput"
    assert run_end_point(text, "maxpool1", is_training=False).min() < 0


def dropped(
    step: int,
    *,
    is_training: bool = True,
    seed: int = 3,
    text: str = "dropout 0.4\nflatten\noutput",
) -> np.ndarray:
    """Returns the images after dropout, float32 [n, height * width * channels]."""
    return run_end_point(text, "flatten1", step=step, is_training=is_training, seed=seed)


def test_dropout_depends_on_the_seed_and_the_step_alone():
    np.testing.assert_array_equal(dropped(7), dropped(7))
    assert np.any(dropped(7) != dropped(8))
    assert np.any(dropped(7) != dropped(7, seed=4))
    kept = dropped(7) != 0
    assert 0.5 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped(7)[kept], IMAGES.reshape(6, -1)[kept] / 0.6, rtol=1e-5)


def test_two_dropouts_drop_different_units():
    twice = dropped(7, text="dropout 0.4\ndropout 0.4\nflatten\noutput")
    assert 0.26 < np.mean(twice != 0) < 0.46


def test_dropout_drops_nothing_in_evaluation():
    np.testing.assert_array_equal(dropped(7, is_training=False), IMAGES.reshape(6, -1))


def test_weights_depend_on_the_seed_the_name_and_the_shape_alone():
    text = "conv 4 3x3\nmaxpool 2x2\nflatten\ndense 6\noutput"
    weights = weights_of(parse(text), seed=-1)
    again = weights_of(parse(text.replace("flatten", "dropout 0.5\nflatten")), seed=-1)
    other = weights_of(parse(text), seed=2**40)
    assert list(weights) == list(again)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, again[name])
        assert np.all(value == other[name]) == name.endswith("biases")
    assert weights["dense1/biases"].tolist() == [0.0] * 6


def test_weights_keep_the_variance_and_leave_the_classes_open():
    text = "conv 64 5x5\nflatten\ndense 200 activation=none\noutput"
    weights = weights_of(parse(text), seed=1)
    for name, scale in (("conv1", 2.0), ("dense1", 1.0), ("output", 0.01)):
        value = weights[f"{name}/weights"]
        num_inputs = np.prod(value.shape[:-1])
        assert np.var(value) * num_inputs == pytest.approx(scale, rel=0.1)
        assert abs(value.mean()) < value.std() / 10


def test_l2_adds_half_the_squares_of_the_layers_weights():
    text = "conv 4 3x3 l2=0.1\nflatten\ndense 6\noutput l2=0.2"

    def fetch(*_):
        weights = {variable.op.name: variable for variable in v1.trainable_variables()}
        return v1.losses.get_regularization_losses(), weights

    losses, weights = run_network(parse(text), fetch, is_training=True)
    assert losses == pytest.approx(
        [
            0.05 * np.sum(weights["conv1/weights"] ** 2),
            0.1 * np.sum(weights["output/weights"] ** 2),
        ],
        rel=1e-5,
    )


def test_a_second_network_can_share_the_variables():
    architecture = parse("conv 2 3x3\nmaxpool 2x2\nflatten\ndropout 0.5\noutput")
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, *IMAGE_SHAPE])
        build_network(architecture, images, is_training=True, global_step=tf.constant(0))
        with v1.variable_scope(v1.get_variable_scope(), reuse=True):
            build_network(architecture, images, is_training=False)
        assert len(v1.global_variables()) == 4


def test_a_programs_mistakes_are_refused():
    architecture = parse("flatten\noutput")
    with tf.Graph().as_default():
        with pytest.raises(
            ValueError, match=r"expected images \(13, 7, 3\), found \(6, 7, 13, 3\)"
        ):
            build_network(architecture, tf.zeros([6, 7, 13, 3]), is_training=False)
        with pytest.raises(ValueError, match="expected a global step to train with"):
            build_network(architecture, tf.zeros([6, 13, 7, 3]), is_training=True)
