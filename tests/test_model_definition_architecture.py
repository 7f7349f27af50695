import random
import re

import pytest

from data_prep.command_line import UserError
from model_definition.architecture import (
    ZOO,
    Architecture,
    ArchitectureError,
    load_architecture,
    parse_architecture,
)


def parse(text: str, image_shape=(13, 7, 3), num_classes=5) -> Architecture:
    return parse_architecture(
        text, filename="my.txt", image_shape=image_shape, num_classes=num_classes
    )


def error_of(text: str, **kwargs) -> str:
    with pytest.raises(ArchitectureError) as info:
        parse(text, **kwargs)
    assert "\n" not in str(info.value)
    return str(info.value)


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


def test_a_line_becomes_a_layer_with_all_its_options():
    conv, pool, flatten, dense, dropout, output = parse(
        "# A comment.\n"
        "\n"
        "  conv 4 3x2 padding=valid stride=2x1  # another\n"
        "maxpool 3x2 padding=same\r\n"
        "flatten\n"
        "dense 6 l2=1e-4 activation=none\n"
        "dropout .25\n"
        "output l2=0.5\n"
    ).layers
    assert (conv.name, conv.kind, conv.line) == ("conv1", "conv", 3)
    assert conv.text == "conv 4 3x2 padding=valid stride=2x1"
    assert conv.options == {
        "filters": 4,
        "kernel_size": (3, 2),
        "stride": (2, 1),
        "padding": "valid",
        "activation": "relu",
        "l2": 0.0,
    }
    assert (conv.input_shape, conv.output_shape) == ((13, 7, 3), (6, 6, 4))
    assert conv.num_parameters == 3 * 2 * 3 * 4 + 4
    assert conv.multiply_adds == 3 * 2 * 3 * 4 * 6 * 6
    assert pool.options == {"pool_size": (3, 2), "stride": (3, 2), "padding": "same"}
    assert pool.output_shape == (2, 3, 4)
    assert (pool.num_parameters, pool.multiply_adds) == (0, 0)
    assert (flatten.options, flatten.output_shape) == ({}, (24,))
    assert dense.options == {"units": 6, "activation": "none", "l2": 1e-4}
    assert (dense.num_parameters, dense.multiply_adds) == (24 * 6 + 6, 24 * 6)
    assert (dropout.options, dropout.output_shape) == ({"rate": 0.25}, (6,))
    assert output.options == {"l2": 0.5}
    assert (output.name, output.line, output.output_shape) == ("output", 8, (5,))


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
        ("maxpool 2x2", (6, 3, 3)),
        ("maxpool 2x2 padding=same", (7, 4, 3)),
        ("maxpool 3x2 stride=1", (11, 6, 3)),
        ("maxpool 13x7", (1, 1, 3)),
    ],
)
def test_shape_after_a_layer(line, shape):
    assert parse(f"{line}\nflatten\noutput").layers[0].output_shape == shape


def test_layers_are_named_after_kind_and_count():
    text = "conv 1 1x1\nmaxpool 1x1\nconv 1 1x1\ndropout 0\nflatten\ndropout 0\noutput"
    assert [layer.name for layer in parse(text).layers] == [
        "conv1",
        "maxpool1",
        "conv2",
        "dropout1",
        "flatten1",
        "dropout2",
        "output",
    ]


CONV_USAGE = "; write conv FILTERS KERNEL_SIZE [stride=1] [padding=same] [activation=relu] [l2=0]"
POOL_USAGE = "; write maxpool POOL_SIZE [stride=POOL_SIZE] [padding=valid]"
LAYERS = "; a line begins with conv, maxpool, flatten, dense, dropout or output"
COUNT = "a whole number from 1 to 100,000,000"
SIZE = "HEIGHTxWIDTH such as 5x5, each from 1 to 1,024"
STRIDE = "one number such as 2, or HEIGHTxWIDTH such as 2x1, from 1 to 1,024"
FRACTION = "a number from 0 to less than 1, such as 0.5 or 1e-4"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("maxpol 2x2", f"unknown layer 'maxpol' (did you mean maxpool?){LAYERS}"),
        ("Conv 4 5x5", f"unknown layer 'Conv' (did you mean conv?){LAYERS}"),
        ("conv2d 4 5x5", f"unknown layer 'conv2d' (did you mean conv?){LAYERS}"),
        ("§§§ 4", f"unknown layer '§§§'{LAYERS}"),
        ("y" * 50, f"unknown layer '{'y' * 39}…'{LAYERS}"),
        ("conv", f"conv lacks its filters, {COUNT}{CONV_USAGE}"),
        ("conv 4 stride=2", f"conv lacks its kernel_size, {SIZE}{CONV_USAGE}"),
        ("conv 4 5x5 7", f"conv has no place for '7'{CONV_USAGE}"),
        (
            "conv 4 5x5 stride = 2",
            f"conv has no place for 'stride' (did you mean stride=?){CONV_USAGE}",
        ),
        ("flatten 3", "flatten has no place for '3'; write flatten"),
        ("output 10", "output has no place for '10'; write output [l2=0]"),
        (
            "conv 4 5x5 strid=2",
            f"conv has no option 'strid' (did you mean stride?){CONV_USAGE}",
        ),
        ("conv 4 5x5 filters=2", f"conv has no option 'filters'{CONV_USAGE}"),
        ("maxpool 2x2 l2=0", f"maxpool has no option 'l2'{POOL_USAGE}"),
        ("conv 4 5x5 =2", f"conv has no option ''{CONV_USAGE}"),
        ("conv 4 5x5 l2=0 l2=0", "conv has its option l2 twice; keep one of them"),
        ("conv 3o 5x5", f"conv's filters is '3o'; expected {COUNT}"),
        ("conv 0 5x5", f"conv's filters is '0'; expected {COUNT}"),
        ("conv -4 5x5", f"conv's filters is '-4'; expected {COUNT}"),
        ("conv 4.0 5x5", f"conv's filters is '4.0'; expected {COUNT}"),
        ("conv ４ 5x5", f"conv's filters is '４'; expected {COUNT}"),  # noqa: RUF001
        ("conv 100000001 5x5", f"conv's filters is '100000001'; expected {COUNT}"),
        ("dense " + "9" * 5000, f"dense's units is '{'9' * 39}…'; expected {COUNT}"),
        ("conv 4 5", f"conv's kernel_size is '5'; expected {SIZE}"),
        ("conv 4 5x5x5", f"conv's kernel_size is '5x5x5'; expected {SIZE}"),
        ("conv 4 5X5", f"conv's kernel_size is '5X5'; expected {SIZE}"),
        ("conv 4 0x5", f"conv's kernel_size is '0x5'; expected {SIZE}"),
        ("conv 4 5x1025", f"conv's kernel_size is '5x1025'; expected {SIZE}"),
        ("conv 4 5x5 stride=0", f"conv's stride is '0'; expected {STRIDE}"),
        ("conv 4 5x5 stride=", f"conv's stride is ''; expected {STRIDE}"),
        ("maxpool 2x2 stride=2x", f"maxpool's stride is '2x'; expected {STRIDE}"),
        (
            "conv 4 5x5 padding=vaild",
            "conv's padding is 'vaild' (did you mean valid?); expected same or valid",
        ),
        (
            "dense 4 activation=RELU",
            "dense's activation is 'RELU' (did you mean relu?); expected relu or none",
        ),
        ("dropout 1.0", f"dropout's rate is '1.0'; expected {FRACTION}"),
        ("dropout -0.5", f"dropout's rate is '-0.5'; expected {FRACTION}"),
        ("dropout nan", f"dropout's rate is 'nan'; expected {FRACTION}"),
        ("dropout 50%", f"dropout's rate is '50%'; expected {FRACTION}"),
        ("output l2=1e999", f"output's l2 is '1e999'; expected {FRACTION}"),
    ],
)
def test_a_wrong_word_is_named_with_what_is_allowed(line, message):
    assert error_of(f"# first\n{line}\nflatten\noutput") == f"my.txt, line 2: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dense 4\nflatten\noutput",
            "line 1: dense needs a flat input, but its input is 13x7x3; "
            "put a line flatten before it",
        ),
        (
            "conv 2 3x3\noutput",
            "line 2: output needs a flat input, but its input is 13x7x2; "
            "put a line flatten before it",
        ),
        (
            "flatten\ndropout 0.5\nflatten\noutput",
            "line 3: flatten's input is flat already (273); remove this line",
        ),
        (
            "flatten\nconv 2 3x3\noutput",
            "line 2: conv needs an image, but its input is flat (273); put conv before flatten",
        ),
        (
            "flatten\n\nmaxpool 2x2\noutput",
            "line 3: maxpool needs an image, but its input is flat (273); "
            "put maxpool before flatten",
        ),
        (
            "maxpool 5x3\nmaxpool 2x3\nflatten\noutput",
            "line 2: maxpool's 2x3 is larger than its input of 2x2x3; "
            "use a smaller size, or fewer pools and strides before it",
        ),
        (
            "maxpool 14x1 padding=same\nflatten\noutput",
            "line 1: maxpool's 14x1 is larger than its input of 13x7x3; "
            "use a smaller size, or fewer pools and strides before it",
        ),
        (
            "conv 4 7x13 padding=valid\nflatten\noutput",
            "line 1: conv's 7x13 is larger than its input of 13x7x3; "
            "use a smaller size, or fewer pools and strides before it",
        ),
        (
            "flatten\noutput\n\ndropout 0.5",
            "line 4: dropout follows the output of line 2, which must be the last layer",
        ),
        (
            "flatten\noutput\noutput",
            "line 3: output follows the output of line 2, which must be the last layer",
        ),
        (
            "flatten\ndense 4\n# the end\n\n",
            "line 3: the architecture ends without an output; add a last line output",
        ),
        ("", "line 1: the architecture ends without an output; add a last line output"),
        (
            "\n# nothing\n",
            "line 2: the architecture ends without an output; add a last line output",
        ),
        (
            "flatten\ndense 400000\noutput",
            "line 2: with dense1 there are 109,600,000 parameters; at most 100,000,000 are allowed",
        ),
        (
            "conv 100000000 1x1\nflatten\noutput",
            "line 1: with conv1 there are 400,000,000 parameters; at most 100,000,000 are allowed",
        ),
        (
            "conv 400000 1x1\nconv 150000 1x1\nflatten\noutput",
            "line 2: with conv2 there are 60,001,750,000 parameters; "
            "at most 100,000,000 are allowed",
        ),
        (
            "conv 600000 1x1\nflatten\noutput",
            "line 1: with conv1 there are 54,600,000 activations an image; "
            "at most 50,000,000 are allowed",
        ),
        (
            "conv 300000 1x1\ndropout 0.5\nflatten\noutput",
            "line 2: with dropout1 there are 54,600,000 activations an image; "
            "at most 50,000,000 are allowed",
        ),
        (
            "dropout 0.1\n" * 501,
            "line 501: with dropout501 there are 501 layers; at most 500 are allowed",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_named(text, message):
    assert error_of(text) == f"my.txt, {message}"


def test_all_wrong_lines_are_found_and_the_first_is_told():
    text = "konv 4 5x5\nmaxpool 2x2\nfaltten\ndense\n" + "x\n" * 4
    with pytest.raises(ArchitectureError) as info:
        parse(text)
    assert [mistake.line for mistake in info.value.mistakes] == [1, 3, 4, 5, 6, 7, 8]
    assert "flatten" in info.value.mistakes[1].message
    assert str(info.value).startswith("my.txt, line 1: unknown layer 'konv'")
    assert str(info.value).endswith(" (and 6 more: line 3, 4, 5, 6, 7, …)")
    assert error_of("konv\nmaxpol\nflatten").endswith(" (and 1 more: line 2)")


def test_load_reads_a_file_by_its_path(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfflatten\r\noutput\r\n")  # with a byte order mark
    architecture = load_architecture(str(path), image_shape=(3, 2, 1), num_classes=4)
    assert [layer.name for layer in architecture.layers] == ["flatten1", "output"]
    assert architecture.num_parameters == 6 * 4 + 4
    assert architecture.filename == str(path)


def test_load_names_what_it_does_not_find(tmp_path):
    for model, hint in (("lenat", " (did you mean lenet?)"), (str(tmp_path), ""), ("zzz", "")):
        with pytest.raises(UserError) as info:
            load_architecture(model, image_shape=(28, 28, 1), num_classes=10)
        text = str(info.value)
        assert f"of that name{hint}; the zoo has " in text
        assert text.startswith("model ")
        assert "lenet" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"flatten\n# caf\xe9\noutput\n",
            "line 2: found a byte 0xe9, expected text; save it as UTF-8",
        ),
        (
            b"#" + b"\n" * 70_000,
            "line 65537: the file goes on after 65,536 bytes; an architecture is shorter",
        ),
    ],
)
def test_load_refuses_what_is_not_a_short_text(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError) as info:
        load_architecture(str(path), image_shape=(28, 28, 1), num_classes=10)
    assert str(info.value) == f"{path}, {message}"


def test_mangled_text_gives_an_architecture_or_a_line_number():
    generator = random.Random(0)
    text = (ZOO / "lenet.txt").read_text() + "conv 8 3x3 stride=2 padding=valid l2=1e-4\n"
    outcomes: set[type] = set()
    for _ in range(2000):
        letters = list(text)
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(letters))
            change = generator.choice(["", "\n", " ", "=", "x", "9", "\x00", "é", "#"])
            letters[place : place + generator.randint(0, 60)] = change
        try:
            outcomes.add(type(parse("".join(letters), image_shape=(28, 28, 1))))
        except ArchitectureError as error:
            outcomes.add(type(error))
            assert re.match(r"my.txt, line \d+: ", str(error))
    assert outcomes == {Architecture, ArchitectureError}
