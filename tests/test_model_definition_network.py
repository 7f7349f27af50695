import random
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import (
    Architecture,
    ArchitectureError,
    load_architecture,
    parse_architecture,
)
from model_definition.layer_kinds import ACTIVATIONS, LAYER_KINDS
from model_definition.network import BUILDERS, build_network

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


def test_lenets_initial_weights_are_those_of_earlier_runs():
    architecture = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    weights = weights_of(architecture, images=np.zeros((1, 28, 28, 1)), seed=0)
    assert {name: zlib.crc32(value.tobytes()) for name, value in weights.items()} == {
        "conv1/weights": 0x09762817,
        "conv1/biases": 0xC2A8FA9D,
        "conv2/weights": 0x74F93382,
        "conv2/biases": 0x0D968558,
        "dense1/weights": 0x9AE01ECB,
        "dense1/biases": 0xC71C0011,
        "output/weights": 0x3A941C4C,
        "output/biases": 0xE9EC3DB1,
    }


def test_every_kind_of_the_format_is_built():
    assert set(BUILDERS) == {*LAYER_KINDS, "residual"}


EVERY_VARIABLE = """
separable_conv 4 2x3
residual
  conv 2 2x3
  batchnorm
  relu
  maxpool 2x2 padding=same
end
residual
  conv 2 2x3 bias=false
end
flatten
batchnorm
residual
  dense 7 bias=false
end
dropout 0.5
output
"""


def test_variables_have_the_names_and_shapes_that_checkpoints_rely_on():
    weights = weights_of(parse(EVERY_VARIABLE))
    assert {name: value.shape for name, value in weights.items()} == {
        "separable_conv1/depthwise_weights": (2, 3, 3, 1),
        "separable_conv1/pointwise_weights": (1, 1, 3, 4),
        "separable_conv1/biases": (4,),
        "conv1/weights": (2, 3, 4, 2),
        "conv1/biases": (2,),
        "batchnorm1/gamma": (2,),
        "batchnorm1/beta": (2,),
        "batchnorm1/moving_mean": (2,),
        "batchnorm1/moving_variance": (2,),
        "residual1/projection/weights": (1, 1, 4, 2),
        "residual1/projection/biases": (2,),
        "conv2/weights": (2, 3, 2, 2),
        "batchnorm2/gamma": (56,),
        "batchnorm2/beta": (56,),
        "batchnorm2/moving_mean": (56,),
        "batchnorm2/moving_variance": (56,),
        "dense1/weights": (56, 7),
        "residual3/projection/weights": (56, 7),
        "residual3/projection/biases": (7,),
        "output/weights": (7, 5),
        "output/biases": (5,),
    }


def test_all_variables_are_model_variables():
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, *IMAGE_SHAPE])
        build_network(parse(EVERY_VARIABLE), images, is_training=True, global_step=tf.constant(0))
        assert slim.get_model_variables() == v1.global_variables()


def test_end_points_stand_in_the_order_of_the_layers_and_a_residual_is_a_sum():
    architecture = parse(EVERY_VARIABLE)

    def fetch(_, end_points):
        assert list(end_points) == [layer.name for layer in architecture.layers]
        return end_points

    found = run_network(architecture, fetch, is_training=True)
    assert {name: value.shape[1:] for name, value in found.items()} == {
        layer.name: layer.output_shape for layer in architecture.layers
    }
    assert list(found)[3:9] == ["relu1", "maxpool1", "residual1", "conv2", "residual2", "flatten1"]
    np.testing.assert_allclose(found["residual2"], found["conv2"] + found["residual1"], rtol=1e-6)
    assert np.all(found["residual2"] >= found["residual1"])
    assert np.any(found["residual2"] > found["residual1"])


def random_architecture(generator: random.Random) -> Architecture:
    """Returns one with windows that are odd, oblong, strided, and larger than the image."""

    def size(highest):
        return f"{generator.randint(1, highest)}x{generator.randint(1, highest)}"

    lines = []
    for _ in range(generator.randint(0, 4)):
        padding = generator.choice(["same", "valid"])
        activation = generator.choice([*ACTIVATIONS, "none"])
        lines.append(
            generator.choice(
                [
                    f"conv {generator.randint(1, 4)} {size(3)} stride={size(2)} padding={padding}"
                    f" activation={activation}",
                    f"conv {generator.randint(1, 4)} {size(15)} activation={activation}",
                    f"maxpool {size(2)} stride={size(3)} padding={padding}",
                    f"maxpool {size(2)} padding={padding}",
                    f"avgpool {size(3)} stride={size(2)} padding={padding}",
                    f"separable_conv {generator.randint(1, 4)} {size(4)} dilation={size(3)}"
                    f" padding={padding} bias=false",
                    f"residual\nconv {generator.randint(1, 4)} {size(4)} stride={size(2)}\nend",
                    "dropout 0.3",
                    "batchnorm",
                    generator.choice(ACTIVATIONS),
                ]
            )
        )
    flat = generator.choice(["flatten", "global_avgpool"])
    dense = [
        f"dense {generator.randint(1, 9)} activation={activation}"
        for activation in generator.choice([[], ["relu"], ["none", "tanh"]])
    ]
    try:
        return parse("\n".join([*lines, flat, *dense, "output"]))
    except ArchitectureError:  # A pool larger than its input: draw again.
        return random_architecture(generator)


@pytest.mark.parametrize("seed", range(15))
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


@pytest.mark.parametrize("activation", ["", " activation=none\nrelu"])
def test_end_points_of_pools_and_of_what_they_follow_are_activated(activation):
    """The gradients are compared with Keras's."""
    text = f"conv 4 3x3{activation}\nmaxpool 2x2 stride=1\nmaxpool 3x2\nflatten\noutput"
    found = run_network(parse(text), lambda _, end_points: end_points, is_training=False)
    net = found["relu1" if activation else "conv1"]
    assert np.any(net == 0)
    for name, (height, width), (down, right) in (
        ("maxpool1", (2, 2), (1, 1)),
        ("maxpool2", (3, 2), (3, 2)),
    ):
        windows = np.lib.stride_tricks.sliding_window_view(net, (height, width), (1, 2))
        net = windows[:, ::down, ::right].max(axis=(4, 5))
        np.testing.assert_array_equal(found[name], net)


def test_padding_does_not_count_in_an_average():
    text = "avgpool 4x3 stride=3x2 padding=same\nflatten\noutput"
    found = run_end_point(text, "avgpool1", is_training=False)
    assert found.shape == (6, 5, 4, 3)
    # Of 13 rows, five windows of 4 three apart want 16: one is added above, two below.
    np.testing.assert_allclose(found[:, 0, 0], IMAGES[:, :3, :2].mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found[:, 4, 3], IMAGES[:, 11:, 5:].mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found[:, 1, 1], IMAGES[:, 2:6, 1:4].mean(axis=(1, 2)), rtol=1e-4)


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


INITIALIZERS = {  # the variance
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
}


def assert_drawn(value: np.ndarray, variance: float, *, uniform: bool = False) -> None:
    """Checks mean, variance and limits; a normal distribution ends at two standard deviations."""
    assert abs(value.mean()) < value.std() / 10
    assert np.var(value) == pytest.approx(variance, rel=0.1)
    limit = np.sqrt(3 * variance) if uniform else 2 * np.sqrt(variance) / 0.87962566
    assert 0.97 * limit < np.abs(value).max() < 1.000001 * limit


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_have_their_variance(name):
    text = "conv 64 5x4 I\nseparable_conv 40 5x4 I\nflatten\ndense 20 I\noutput"
    weights = weights_of(parse(text.replace("I", f"initializer={name}")), seed=5)
    for variable, fans in {
        "conv1/weights": (20 * 3, 20 * 64),
        "separable_conv1/depthwise_weights": (20, 20),  # Each channel has a window of its own.
        "separable_conv1/pointwise_weights": (64, 40),
        "dense1/weights": (91 * 40, 20),
    }.items():
        variance = INITIALIZERS[name](*fans)
        assert_drawn(weights[variable], variance, uniform=name.endswith("uniform"))


@pytest.mark.parametrize("as_a_line", [True, False])
@pytest.mark.parametrize("word", [*ACTIVATIONS, "none"])
def test_auto_keeps_the_variance_through_the_activation(word, as_a_line):
    activation = f"activation=none\n{word}" if as_a_line else f"activation={word}"
    if word == "none":
        activation = "activation=none\ndropout 0.5" if as_a_line else "activation=none"
    text = f"conv 64 5x4 {activation}\nflatten\noutput"
    weights = weights_of(parse(text), seed=1)
    scale = 1 if word in ("tanh", "sigmoid", "none") else 2
    assert_drawn(weights["conv1/weights"], scale / (20 * 3))
    assert_drawn(weights["output/weights"], 0.01 / (91 * 64))


def test_projections_start_linear():
    text = "residual\nconv 1000 1x1\nend\nglobal_avgpool\nresidual\ndense 40\nend\noutput"
    weights = weights_of(parse(text), seed=1)
    assert_drawn(weights["residual1/projection/weights"], 1 / 3)
    assert_drawn(weights["residual2/projection/weights"], 1 / 1000)


def test_no_two_layers_begin_with_the_same_weights():
    block = "residual\nseparable_conv 1 1x1 stride=2\nconv 1 1x1\nend\n"
    text = f"{block}{block}flatten\noutput"
    architecture = parse_architecture(
        text, filename="my.txt", image_shape=(13, 7, 1), num_classes=5
    )
    weights = weights_of(architecture, images=IMAGES[..., :1])
    drawn = [value.item() for name, value in weights.items() if value.shape == (1, 1, 1, 1)]
    assert len(set(drawn)) == len(drawn) == 8


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
