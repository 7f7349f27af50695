"""The layers one by one: what may be written, and what size each has."""

import pytest

from model_definition import layer_kinds
from model_definition.layer_kinds import ACTIVATIONS, INITIALIZERS, LAYER_KINDS
from tests.architecture_fixtures import error_of, parse

WEIGHTS = {"bias": True, "initializer": "auto", "l2": 0.0}
KERNEL = {
    "filters": 4,
    "kernel_size": (3, 2),
    "stride": (1, 1),
    "padding": "same",
    "dilation": (1, 1),
    "activation": "relu",
    **WEIGHTS,
}


def first_layer(line: str, image_shape=(13, 7, 3)):
    return parse(f"{line}\nflatten\noutput", image_shape=image_shape).layers[0]


def second_layer(line: str):
    """Returns what the line makes of a flat input of 13 * 7 * 3 = 273."""
    return parse(f"flatten\n{line}\noutput").layers[1]


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("conv 4 3x2", KERNEL),
        (
            "conv 4 3x2 l2=1e-4 initializer=he_uniform bias=false activation=none dilation=2x1 "
            "padding=valid stride=1x1",
            KERNEL
            | {"padding": "valid", "dilation": (2, 1), "activation": "none"}
            | {"bias": False, "initializer": "he_uniform", "l2": 1e-4},
        ),
        ("conv stride=2x1 4 padding=valid 3x2", KERNEL | {"stride": (2, 1), "padding": "valid"}),
        ("separable_conv 4 3x2 stride=2", KERNEL | {"stride": (2, 2)}),
        ("maxpool 3x2", {"pool_size": (3, 2), "stride": (3, 2), "padding": "valid"}),
        ("maxpool 3x2 stride=1", {"pool_size": (3, 2), "stride": (1, 1), "padding": "valid"}),
        (
            "avgpool 3x2 stride=2x1 padding=same",
            {"pool_size": (3, 2), "stride": (2, 1), "padding": "same"},
        ),
        ("batchnorm", {"momentum": 0.99, "epsilon": 0.001}),
        ("batchnorm epsilon=1e-5 momentum=0", {"momentum": 0.0, "epsilon": 1e-5}),
        ("leaky_relu", {"slope": 0.2}),
        ("leaky_relu slope=.01", {"slope": 0.01}),
        ("dropout 0", {"rate": 0.0}),
        ("dropout .25", {"rate": 0.25}),
        ("flatten", {}),
        *((kind, {}) for kind in ACTIVATIONS if kind != "leaky_relu"),
    ],
)
def test_options_with_their_defaults(line, options):
    text = f"{line}\noutput" if line == "flatten" else f"{line}\nflatten\noutput"
    assert parse(text).layers[0].options == options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("dense 6", {"units": 6, "activation": "relu", **WEIGHTS}),
        (
            "dense 6 activation=tanh bias=false initializer=lecun_normal l2=0.5",
            {"units": 6, "activation": "tanh", "bias": False}
            | {"initializer": "lecun_normal", "l2": 0.5},
        ),
    ],
)
def test_options_of_a_dense_layer(line, options):
    assert second_layer(line).options == options


def test_options_of_the_output():
    assert parse("flatten\noutput").layers[-1].options == WEIGHTS
    output = parse("flatten\noutput l2=.5 initializer=glorot_normal bias=false").layers[-1]
    assert output.options == {"bias": False, "initializer": "glorot_normal", "l2": 0.5}


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "none"])
def test_every_activation_is_an_option(activation):
    assert first_layer(f"conv 4 1x1 activation={activation}").options["activation"] == activation


@pytest.mark.parametrize("initializer", ["auto", *INITIALIZERS])
def test_every_initializer_is_an_option(initializer):
    assert first_layer(f"conv 4 1x1 initializer={initializer}").options["initializer"] == (
        initializer
    )


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("conv 4 5x3", (13, 7, 4)),
        ("conv 4 5x3 stride=2", (7, 4, 4)),
        ("conv 4 5x3 stride=3x7", (5, 1, 4)),
        ("conv 4 5x3 padding=valid", (9, 5, 4)),
        ("conv 4 5x3 padding=valid stride=2", (5, 3, 4)),
        ("conv 4 13x7 padding=valid", (1, 1, 4)),
        ("conv 4 25x25", (13, 7, 4)),
        ("conv 4 5x3 dilation=2", (13, 7, 4)),
        ("conv 4 5x3 dilation=3 padding=valid", (1, 1, 4)),  # 13x7, dilated
        ("conv 4 3x2 dilation=2x4 padding=valid", (9, 3, 4)),  # 5x5, dilated
        ("separable_conv 4 5x3", (13, 7, 4)),
        ("separable_conv 4 5x3 padding=valid stride=2", (5, 3, 4)),
        ("separable_conv 4 3x2 dilation=2x4 padding=valid", (9, 3, 4)),
        ("maxpool 2x2", (6, 3, 3)),
        ("maxpool 2x2 padding=same", (7, 4, 3)),
        ("maxpool 3x2 stride=1", (11, 6, 3)),
        ("maxpool 13x7", (1, 1, 3)),
        ("avgpool 3x2 stride=2x1", (6, 6, 3)),
        ("avgpool 3x2 stride=2x1 padding=same", (7, 7, 3)),
        ("batchnorm", (13, 7, 3)),
        ("dropout 0.5", (13, 7, 3)),
        *((kind, (13, 7, 3)) for kind in ACTIVATIONS),
    ],
)
def test_shape_of_an_image_after_a_layer(line, shape):
    layer = first_layer(line)
    assert (layer.input_shape, layer.output_shape) == ((13, 7, 3), shape)


@pytest.mark.parametrize(
    ("line", "units"),
    [("dense 6", 6), ("batchnorm", 273), ("dropout 0.5", 273), *((k, 273) for k in ACTIVATIONS)],
)
def test_shape_of_a_flat_input_after_a_layer(line, units):
    layer = second_layer(line)
    assert (layer.input_shape, layer.output_shape) == ((273,), (units,))


@pytest.mark.parametrize(("line", "units"), [("flatten", 273), ("global_avgpool", 3)])
def test_what_makes_an_image_flat(line, units):
    layer, output = parse(f"{line}\noutput").layers
    assert layer.output_shape == output.input_shape == (units,)
    assert output.output_shape == (5,)


@pytest.mark.parametrize(
    ("line", "parameters", "multiply_adds"),
    [
        ("conv 4 5x2", 5 * 2 * 3 * 4 + 4, 5 * 2 * 3 * 4 * 13 * 7),
        ("conv 4 5x2 bias=false", 5 * 2 * 3 * 4, 5 * 2 * 3 * 4 * 13 * 7),
        ("conv 4 5x2 padding=valid", 5 * 2 * 3 * 4 + 4, 5 * 2 * 3 * 4 * 9 * 6),
        ("conv 4 5x2 stride=2x3", 5 * 2 * 3 * 4 + 4, 5 * 2 * 3 * 4 * 7 * 3),
        ("conv 4 5x2 dilation=2", 5 * 2 * 3 * 4 + 4, 5 * 2 * 3 * 4 * 13 * 7),
        ("separable_conv 4 5x2", 5 * 2 * 3 + 3 * 4 + 4, (5 * 2 * 3 + 3 * 4) * 13 * 7),
        ("separable_conv 4 5x2 bias=false", 5 * 2 * 3 + 3 * 4, (5 * 2 * 3 + 3 * 4) * 13 * 7),
        ("separable_conv 4 5x2 stride=2", 5 * 2 * 3 + 3 * 4 + 4, (5 * 2 * 3 + 3 * 4) * 7 * 4),
        ("maxpool 2x2", 0, 0),
        ("avgpool 2x2", 0, 0),
        ("batchnorm", 2 * 3, 0),  # Gamma and beta; the moving averages are not trained.
        ("dropout 0.5", 0, 0),
        *((kind, 0, 0) for kind in ACTIVATIONS),
    ],
)
def test_size_of_a_layer_on_an_image(line, parameters, multiply_adds):
    layer = first_layer(line)
    assert (layer.num_parameters, layer.multiply_adds) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("line", "parameters", "multiply_adds"),
    [
        ("dense 6", 273 * 6 + 6, 273 * 6),
        ("dense 6 bias=false", 273 * 6, 273 * 6),
        ("batchnorm", 2 * 273, 0),
        ("tanh", 0, 0),
    ],
)
def test_size_of_a_layer_on_a_flat_input(line, parameters, multiply_adds):
    layer = second_layer(line)
    assert (layer.num_parameters, layer.multiply_adds) == (parameters, multiply_adds)


def test_size_of_flatten_global_avgpool_and_output():
    flatten, output = parse("flatten\noutput").layers
    pool, linear = parse("global_avgpool\noutput bias=false").layers
    assert [(layer.num_parameters, layer.multiply_adds) for layer in (flatten, output)] == [
        (0, 0),
        (273 * 5 + 5, 273 * 5),
    ]
    assert [(layer.num_parameters, layer.multiply_adds) for layer in (pool, linear)] == [
        (0, 0),
        (3 * 5, 3 * 5),
    ]


COUNT = "a whole number from 1 to 100,000,000"
SIZE = "HEIGHTxWIDTH such as 5x5, each from 1 to 1,024"
STRIDE = "one number such as 2, or HEIGHTxWIDTH such as 2x1, from 1 to 1,024"
FRACTION = "a number from 0 to less than 1, such as 0.5 or 1e-4"
POSITIVE = "a number from 1e-7 to less than 1, such as 0.001"


@pytest.mark.parametrize(
    ("line", "carets", "message"),
    [
        ("conv 3o 5x5", "     ^^", f"conv's filters is '3o'; expected {COUNT}"),
        ("conv 0 5x5", "     ^", f"conv's filters is '0'; expected {COUNT}"),
        ("conv -4 5x5", "     ^^", f"conv's filters is '-4'; expected {COUNT}"),
        ("conv 4.0 5x5", "     ^^^", f"conv's filters is '4.0'; expected {COUNT}"),
        ("conv ４ 5x5", "     ^", f"conv's filters is '４'; expected {COUNT}"),  # noqa: RUF001
        (
            "conv 100000001 5x5",
            "     ^^^^^^^^^",
            f"conv's filters is '100000001'; expected {COUNT}",
        ),
        ("conv 4 5", "       ^", f"conv's kernel_size is '5'; expected {SIZE}"),
        ("conv 4 5x5x5", "       ^^^^^", f"conv's kernel_size is '5x5x5'; expected {SIZE}"),
        ("conv 4 5X5", "       ^^^", f"conv's kernel_size is '5X5'; expected {SIZE}"),
        ("conv 4 0x5", "       ^^^", f"conv's kernel_size is '0x5'; expected {SIZE}"),
        ("conv 4 5x1025", "       ^^^^^^", f"conv's kernel_size is '5x1025'; expected {SIZE}"),
        ("conv 4 5x5 stride=0", "           ^^^^^^^^", f"conv's stride is '0'; expected {STRIDE}"),
        (
            "conv 4 5x5 dilation=x2",
            "           ^^^^^^^^^^^",
            f"conv's dilation is 'x2'; expected {STRIDE}",
        ),
        (
            "maxpool 2x2 stride=2x",
            "            ^^^^^^^^^",
            f"maxpool's stride is '2x'; expected {STRIDE}",
        ),
        ("maxpool 2", "        ^", f"maxpool's pool_size is '2'; expected {SIZE}"),
        # The stride's default is the pool size; it is not wrong a second time.
        ("avgpool abc", "        ^^^", f"avgpool's pool_size is 'abc'; expected {SIZE}"),
        (
            "conv 4 5x5 padding=vaild",
            "           ^^^^^^^^^^^^^",
            "conv's padding is 'vaild' (did you mean valid?); expected same or valid",
        ),
        (
            "conv 4 5x5 bias=False",
            "           ^^^^^^^^^^",
            "conv's bias is 'False' (did you mean false?); expected true or false",
        ),
        ("conv 4 5x5 bias=1", "           ^^^^^^", "conv's bias is '1'; expected true or false"),
        ("dropout 1.0", "        ^^^", f"dropout's rate is '1.0'; expected {FRACTION}"),
        ("dropout -0.5", "        ^^^^", f"dropout's rate is '-0.5'; expected {FRACTION}"),
        ("dropout nan", "        ^^^", f"dropout's rate is 'nan'; expected {FRACTION}"),
        ("dropout 50%", "        ^^^", f"dropout's rate is '50%'; expected {FRACTION}"),
        (
            "conv 4 5x5 l2=1e999",
            "           ^^^^^^^^",
            f"conv's l2 is '1e999'; expected {FRACTION}",
        ),
        (
            "leaky_relu slope=1",
            "           ^^^^^^^",
            f"leaky_relu's slope is '1'; expected {FRACTION}",
        ),
        (
            "batchnorm momentum=1",
            "          ^^^^^^^^^^",
            f"batchnorm's momentum is '1'; expected {FRACTION}",
        ),
        (
            "batchnorm epsilon=0",
            "          ^^^^^^^^^",
            f"batchnorm's epsilon is '0'; expected {POSITIVE}",
        ),
        (
            "batchnorm epsilon=1e-8",
            "          ^^^^^^^^^^^^",
            f"batchnorm's epsilon is '1e-8'; expected {POSITIVE}",
        ),
    ],
)
def test_a_wrong_word_is_told_with_what_is_allowed(line, carets, message):
    assert error_of(f"# first\n{line}\nflatten\noutput") == (
        f"my.txt, line 2: {message}\n    {line}\n    {carets}"
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [("activation", (*ACTIVATIONS, "none")), ("initializer", ("auto", *INITIALIZERS))],
)
def test_a_choice_of_words_lists_them_all(option, words):
    message = error_of(f"conv 4 5x5 {option}=zzz\nflatten\noutput").splitlines()[0]
    expected = message.partition("; expected ")[2]
    assert sorted(expected.replace(" or ", " ").replace(",", "").split()) == sorted(words)


@pytest.mark.parametrize(
    ("text", "line", "carets", "message"),
    [
        (
            "dense 4\noutput",
            1,
            "^^^^^",
            "dense needs a flat input, but its input is 13x7x3; put a line flatten before it",
        ),
        (
            "conv 2 3x3\noutput",
            2,
            "^^^^^^",
            "output needs a flat input, but its input is 13x7x2; put a line flatten before it",
        ),
        (
            "flatten\ndropout 0.5\nflatten\noutput",
            3,
            "^^^^^^^",
            "flatten's input is flat already (273); remove this line",
        ),
        *(
            (
                f"flatten\n{line}\noutput",
                2,
                "^" * len(kind),
                f"{kind} needs an image, but its input is flat (273); put {kind} before flatten",
            )
            for kind, line in (
                ("conv", "conv 2 3x3"),
                ("separable_conv", "separable_conv 2 3x3"),
                ("maxpool", "maxpool 2x2"),
                ("avgpool", "avgpool 2x2"),
                ("global_avgpool", "global_avgpool"),
            )
        ),
        *(
            (
                text,
                line,
                carets,
                f"{what} is larger than its input of {shape}; use a smaller size, or fewer pools "
                "and strides before it",
            )
            for text, line, carets, what, shape in (
                (
                    "maxpool 5x3\navgpool 2x3\nflatten\noutput",
                    2,
                    "        ^^^",
                    "avgpool's 2x3",
                    "2x2x3",
                ),
                (
                    "maxpool 14x1 padding=same\nflatten\noutput",
                    1,
                    "        ^^^^",
                    "maxpool's 14x1",
                    "13x7x3",
                ),
                (
                    "conv 4 7x13 padding=valid\nflatten\noutput",
                    1,
                    "       ^^^^",
                    "conv's 7x13",
                    "13x7x3",
                ),
                (
                    "separable_conv 4 2x3 padding=valid dilation=4\nflatten\noutput",
                    1,
                    "                 ^^^",
                    "separable_conv's 5x9",
                    "13x7x3",
                ),
            )
        ),
        (
            "conv 4 3x3 stride=2x1 dilation=1x2\nflatten\noutput",
            1,
            "                      ^^^^^^^^^^^^",
            "conv cannot have both a stride and a dilation above 1",
        ),
        (
            "conv 4 2x1024 dilation=2\nflatten\noutput",
            1,
            "              ^^^^^^^^^^",
            "conv's 2x1024, dilated, reaches over 3x2047; expected at most 1,024 a side",
        ),
        (
            "separable_conv 4 3x3 stride=2x1\nflatten\noutput",
            1,
            "                     ^^^^^^^^^^",
            "separable_conv's stride is 2x1; its height and width must be the same",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_told(text, line, carets, message):
    assert error_of(text) == (
        f"my.txt, line {line}: {message}\n    {text.splitlines()[line - 1]}\n    {carets}"
    )


def test_the_table_of_the_docstring_lists_every_kind():
    assert layer_kinds.__doc__ is not None
    assert set(LAYER_KINDS) <= set(layer_kinds.__doc__.replace(",", " ").split())
