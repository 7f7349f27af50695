"""The layers of an architecture together: names, residuals, what each sees, and bounds."""

import numpy as np
import pytest
import tensorflow as tf

from model_definition.architecture import ZOO, load_architecture
from model_definition.network import build_network
from tests.architecture_fixtures import error_of, layers_of, parse, wrong_lines


def test_lenet_is_the_published_network():
    architecture = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    assert [(layer.name, layer.output_shape) for layer in architecture.layers] == [
        ("conv1", (28, 28, 32)),
        ("maxpool1", (14, 14, 32)),
        ("conv2", (14, 14, 64)),
        ("maxpool2", (7, 7, 64)),
        ("flatten1", (3136,)),
        ("dense1", (1024,)),
        ("dropout1", (1024,)),
        ("output", (10,)),
    ]
    assert architecture.num_parameters == 3_274_634
    assert architecture.multiply_adds == 13_883_904
    assert architecture.text == (ZOO / "lenet.txt").read_text()


def test_a_line_becomes_a_layer():
    conv, pool, flatten, dense, dropout, output = parse(
        "# A comment.\n"
        "\n"
        "  conv 4  3x2 padding=valid stride=2x1  # another\n"
        "maxpool 3x2 padding=same\r\n"
        "flatten\n"
        "dense 6 l2=1e-4 activation=none\n"
        "dropout .25\n"
        "output l2=0.5\n"
    ).layers
    assert (conv.name, conv.kind, conv.line) == ("conv1", "conv", 3)
    assert conv.text == "conv 4 3x2 padding=valid stride=2x1"
    assert (conv.input_shape, conv.output_shape) == ((13, 7, 3), (6, 6, 4))
    assert conv.num_parameters == 3 * 2 * 3 * 4 + 4
    assert conv.multiply_adds == 3 * 2 * 3 * 4 * 6 * 6
    assert pool.options == {"pool_size": (3, 2), "stride": (3, 2), "padding": "same"}
    assert pool.output_shape == (2, 3, 4)
    assert (flatten.input_shape, flatten.output_shape) == ((2, 3, 4), (24,))
    assert (dense.num_parameters, dense.multiply_adds) == (24 * 6 + 6, 24 * 6)
    assert (dropout.line, dropout.options, dropout.output_shape) == (7, {"rate": 0.25}, (6,))
    assert (output.name, output.line, output.output_shape) == ("output", 8, (5,))
    assert all(layer.shortcut is None for layer in (conv, pool, flatten, dense, dropout, output))


def test_totals_are_those_of_the_layers():
    architecture = parse("conv 4 3x2\nbatchnorm\nresidual\nconv 2 1x1\nend\nflatten\noutput")
    # The residual's projection has 4 * 2 weights and 2 biases.
    assert architecture.num_parameters == sum((76, 8, 10, 10, 182 * 5 + 5))
    assert architecture.multiply_adds == 91 * (72 + 8 + 8) + 182 * 5


def test_layers_are_named_after_kind_and_count():
    text = (
        "conv 1 1x1\nrelu\nresidual\nrepeat 2\nconv 1 1x1\nresidual\nrelu\nend\nend\nend\n"
        "separable_conv 1 1x1\nflatten\ndropout 0\noutput"
    )
    assert [layer.name for layer in parse(text).layers] == [
        "conv1",
        "relu1",
        "conv2",
        "relu2",
        "residual1",
        "conv3",
        "relu3",
        "residual2",
        "residual3",
        "separable_conv1",
        "flatten1",
        "dropout1",
        "output",
    ]


# Residuals


def test_a_residual_adds_the_input_of_its_lines():
    layers = layers_of(
        "residual\nbatchnorm\nend\n"
        "relu\nresidual\nconv 3 3x3\nresidual\nrelu\nresidual\nelu\nend\nend\nend\n"
        "repeat 2\nresidual\ntanh\nend\nend\nflatten\nresidual\ngelu\nend\noutput"
    )
    residuals = {name: layer for name, layer in layers.items() if layer.kind == "residual"}
    assert {name: layer.shortcut for name, layer in residuals.items()} == {
        "residual1": "images",
        "residual2": "relu2",  # The innermost ends first.
        "residual3": "conv1",
        "residual4": "relu1",
        "residual5": "residual4",
        "residual6": "residual5",
        "residual7": "flatten1",
    }
    names = list(layers)
    assert names[names.index("elu1") :][:4] == ["elu1", "residual2", "residual3", "residual4"]
    for layer in residuals.values():
        assert layer.options == {}
        assert layer.input_shape == layer.output_shape
        assert (layer.num_parameters, layer.multiply_adds) == (0, 0)
        assert layer.text == "residual"
    assert [layer.line for layer in residuals.values()] == [1, 9, 7, 5, 15, 15, 20]


@pytest.mark.parametrize(
    ("body", "stride", "shape", "parameters", "multiply_adds"),
    [
        ("conv 4 3x3", (1, 1), (13, 7, 4), 3 * 4 + 4, 3 * 4 * 13 * 7),
        ("conv 3 3x3 stride=2", (2, 2), (7, 4, 3), 3 * 3 + 3, 3 * 3 * 7 * 4),
        ("conv 3 3x3 stride=1x2", (1, 2), (13, 4, 3), 3 * 3 + 3, 3 * 3 * 13 * 4),
        ("conv 9 3x3 stride=2x1\navgpool 2x2 stride=3x2 padding=same", (6, 2), (3, 4, 9), 36, 324),
        ("residual\nconv 4 3x3 stride=2\nend\nrelu", (2, 2), (7, 4, 4), 3 * 4 + 4, 3 * 4 * 7 * 4),
        ("maxpool 1x1 stride=13x7", (13, 7), (1, 1, 3), 3 * 3 + 3, 3 * 3),
    ],
)
def test_where_the_shape_changes_the_input_is_projected(
    body, stride, shape, parameters, multiply_adds
):
    layers = layers_of(f"residual\n{body}\nend\nflatten\noutput")
    residual = [layer for layer in layers.values() if layer.kind == "residual"][-1]
    assert residual.shortcut == "images"
    assert residual.options == {"projection_stride": stride}
    assert residual.input_shape == residual.output_shape == shape
    assert (residual.num_parameters, residual.multiply_adds) == (parameters, multiply_adds)


def test_a_strided_layer_before_a_residual_is_not_its_stride():
    layers = layers_of("maxpool 2x2\nresidual\nconv 4 3x3 stride=3\nend\nglobal_avgpool\noutput")
    assert layers["residual1"].options == {"projection_stride": (3, 3)}
    assert layers["residual1"].shortcut == "maxpool1"


def test_a_flat_residual_is_projected_by_a_dense_layer():
    layers = layers_of("flatten\ndense 4\nresidual\ndense 9\nrelu\ndense 6\nend\noutput")
    residual = layers["residual1"]
    assert (residual.shortcut, residual.output_shape) == ("dense1", (6,))
    assert set(residual.options) == {"projection_stride"}
    assert (residual.num_parameters, residual.multiply_adds) == (4 * 6 + 6, 4 * 6)


@pytest.mark.parametrize(
    ("body", "before", "after"),
    [
        ("conv 3 3x3 padding=valid", "13x7x3", "11x5x3"),
        ("maxpool 2x2", "13x7x3", "6x3x3"),
        ("flatten", "13x7x3", "273"),
        ("global_avgpool", "13x7x3", "3"),
    ],
)
def test_a_residual_whose_input_cannot_be_projected_is_told(body, before, after):
    assert error_of(f"relu\n  residual\n  {body}\n  end\nglobal_avgpool\noutput").startswith(
        f"my.txt, line 2: residual turns {before} into {after}, which a 1x1 projection of its "
        "input cannot follow; within a block use padding=same, and nothing that flattens\n"
        "      residual\n      ^^^^^^^^"
    )


# Receptive fields


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("conv 2 3x2\nconv 2 5x3\nrelu", [(3, 2), (7, 4), (7, 4)]),
        ("conv 2 3x2 stride=2x1\nconv 2 3x2\nmaxpool 2x2", [(3, 2), (7, 3), (9, 4)]),
        ("maxpool 2x3\navgpool 2x1 stride=1\nconv 2 3x1", [(2, 3), (4, 3), (8, 3)]),
        ("conv 2 3x2 dilation=2x3\nseparable_conv 2 2x2 dilation=4x1", [(5, 4), (9, 5)]),
        ("maxpool 1x1 stride=2\nconv 2 2x2", [(1, 1), (3, 3)]),
        ("batchnorm\ndropout 0.5", [(1, 1), (1, 1)]),
        ("residual\nconv 3 3x2\nend\nconv 2 2x2", [(3, 2), (3, 2), (4, 3)]),
        ("conv 2 11x5\nconv 2 11x5", [(11, 5), (13, 7)]),  # no more than the image
        ("global_avgpool\ndense 4", [(13, 7), (13, 7)]),
        ("flatten\nbatchnorm", [(13, 7), (13, 7)]),
    ],
)
def test_receptive_fields(text, fields):
    flatten = "" if "flatten" in text or "global" in text else "flatten\n"
    layers = parse(f"{text}\n{flatten}output").layers
    assert [layer.receptive_field for layer in layers][: len(fields)] == fields
    assert layers[-1].receptive_field == (13, 7)


def test_receptive_fields_are_those_of_the_graph():
    architecture = parse(
        "conv 2 3x2 activation=none\n"
        "avgpool 2x3 stride=2x1 padding=same\n"
        "separable_conv 2 2x3 dilation=2x3 activation=none\n"
        "residual\nconv 3 3x3 stride=1x2 activation=none\nconv 2 3x1 activation=tanh\nend\n"
        "conv 2 2x2 padding=valid activation=none\n"
        "global_avgpool\noutput",
        image_shape=(61, 53, 1),
    )
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        images = tf.constant(np.random.default_rng(0).random((1, 61, 53, 1)), tf.float32)
        _, end_points = build_network(architecture, images, is_training=False)
        images_layers = [layer for layer in architecture.layers if len(layer.output_shape) == 3]
        gradients = []
        for layer in images_layers:
            height, width, _ = layer.output_shape
            number = end_points[layer.name][0, height // 2, width // 2, 0]
            gradients.append(tf.gradients(number, images)[0][0, :, :, 0])
        session.run(tf.compat.v1.global_variables_initializer())
        gradients = session.run(gradients)
    assert len(images_layers) == 7
    for layer, gradient in zip(images_layers, gradients, strict=True):
        rows, columns = np.nonzero(gradient)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == layer.receptive_field, layer.name


# What the text must have, and the bounds


@pytest.mark.parametrize(
    ("text", "line", "shown", "message"),
    [
        (
            "flatten\noutput\n\ndropout 0.5\nrelu",
            4,
            "dropout 0.5\n    ^^^^^^^",
            "dropout follows the output of line 2, which must be the last layer",
        ),
        (
            "flatten\noutput\noutput",
            3,
            "output\n    ^^^^^^",
            "output follows the output of line 2, which must be the last layer",
        ),
        (
            "flatten\ndense 4\n# the end\n\n",
            3,
            "# the end\n    ^",
            "the architecture ends without an output; add a last line output",
        ),
        ("", 1, "", "the architecture ends without an output; add a last line output"),
        (
            "flatten\ndense 400000\noutput",
            2,
            "dense 400000\n    ^^^^^",
            "with dense1 there are 109,600,000 parameters; at most 100,000,000 are allowed",
        ),
        (
            "conv 100000000 1x1\nflatten\noutput",
            1,
            "conv 100000000 1x1\n    ^^^^",
            "with conv1 there are 400,000,000 parameters; at most 100,000,000 are allowed",
        ),
        (
            "conv 9000 1x1\nresidual\nconv 1 1x1\nconv 12000 1x1\nend\nflatten\noutput",
            2,
            "residual\n    ^^^^^^^^",
            "with residual1 there are 108,081,001 parameters; at most 100,000,000 are allowed",
        ),
        (
            "conv 600000 1x1\nflatten\noutput",
            1,
            "conv 600000 1x1\n    ^^^^",
            "with conv1 there are 54,600,000 activations an image; at most 50,000,000 are allowed",
        ),
        (
            "conv 300000 1x1\ndropout 0.5\nflatten\noutput",
            2,
            "dropout 0.5\n    ^^^^^^^",
            "with dropout1 there are 54,600,000 activations an image; at most 50,000,000 are "
            "allowed",
        ),
        (
            "dropout 0.1\n" * 501,
            501,
            "dropout 0.1\n    ^^^^^^^",
            "with dropout501 there are 501 layers; at most 500 are allowed",
        ),
    ],
)
def test_what_a_text_must_have_and_its_bounds(text, line, shown, message):
    end = f"\n    {shown}" if shown else ""
    assert error_of(text) == f"my.txt, line {line}: {message}{end}"


def test_multiply_adds_are_bounded():
    text = "conv 1000 1x1 bias=false\nconv 100 10x10 bias=false\nflatten\noutput"
    assert parse(text, image_shape=(30, 33, 1)).multiply_adds < 1e10
    assert error_of(text, image_shape=(31, 33, 1)).startswith(
        "my.txt, line 2: with conv2 there are 10,231,023,000 multiply-adds an image; at most "
        "10,000,000,000 are allowed\n"
    )


REPEATS, ENDS = "repeat 500\n" * 14, "end\n" * 14


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{REPEATS}dropout 0.1\n{ENDS}flatten\noutput", 15),
        (f"{REPEATS}maxpool 99x99\n{ENDS}flatten\noutput", 15),
        (f"{REPEATS}residual\nmaxpool 2x1\nend\n{ENDS}flatten\noutput", 15),
        (f"flatten\noutput\n{REPEATS}relu\n{ENDS}", 17),
        ("repeat 500\n" * 5000 + "relu\n" + "end\n" * 5000, 16),
    ],
)
def test_nested_repeats_are_answered_at_once(text, line):
    assert wrong_lines(text)[0] == line  # Unless it stopped, the test would never end.
