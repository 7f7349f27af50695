"""Words and blocks of a text, and what is told of mistakes in them, with the place."""

import pytest

from model_definition.mistakes import Place
from tests.architecture_fixtures import error_of, layers_of, mistakes_of, parse, wrong_lines

REST = "flatten\noutput"
CONV_USAGE = (
    "; write conv FILTERS KERNEL_SIZE [stride=1] [padding=same] [dilation=1] [activation=relu] "
    "[bias=true] [initializer=auto] [l2=0]"
)
POOL_USAGE = "; write maxpool POOL_SIZE [stride=POOL_SIZE] [padding=valid]"
LAYERS = (
    "; a line begins with conv, separable_conv, maxpool, avgpool, global_avgpool, batchnorm, relu, "
    "leaky_relu, elu, gelu, swish, tanh, sigmoid, dropout, flatten, dense, output, residual, "
    "repeat or end"
)
COUNT = "a whole number from 1 to 100,000,000"
SIZE = "HEIGHTxWIDTH such as 5x5, each from 1 to 1,024"
NO_COUNT = "repeat lacks its count, a whole number from 1 to 500; write repeat COUNT"
REPEATS = "a whole number from 1 to 500"
SPACES = "put no spaces around the = of an option: write stride=2"


# Words


@pytest.mark.parametrize(
    ("line", "carets", "message"),
    [
        ("maxpol 2x2", "^^^^^^", f"unknown layer 'maxpol' (did you mean maxpool?){LAYERS}"),
        ("Conv 4 5x5", "^^^^", f"unknown layer 'Conv' (did you mean conv?){LAYERS}"),
        ("conv2d 4 5x5", "^^^^^^", f"unknown layer 'conv2d' (did you mean conv?){LAYERS}"),
        ("§§§ 4", "^^^", f"unknown layer '§§§'{LAYERS}"),
        ("y" * 50, "^" * 50, f"unknown layer '{'y' * 39}…'{LAYERS}"),
        ("conv", "^^^^", f"conv lacks its filters, {COUNT}{CONV_USAGE}"),
        ("conv 4 stride=2", "^^^^", f"conv lacks its kernel_size, {SIZE}{CONV_USAGE}"),
        ("conv 4 5x5 7", " " * 11 + "^", f"conv has no place for '7'{CONV_USAGE}"),
        (
            "conv 4 5x5 stride",
            " " * 11 + "^^^^^^",
            f"conv has no place for 'stride' (did you mean stride=?){CONV_USAGE}",
        ),
        ("flatten 3", " " * 8 + "^", "flatten has no place for '3'; write flatten"),
        (
            "output 10",
            " " * 7 + "^^",
            "output has no place for '10'; write output [bias=true] [initializer=auto] [l2=0]",
        ),
        (
            "conv 4 5x5 strid=2",
            " " * 11 + "^^^^^^^",
            f"conv has no option 'strid' (did you mean stride?){CONV_USAGE}",
        ),
        (
            "conv 4 5x5 filters=2",
            " " * 11 + "^" * 9,
            f"conv has no option 'filters'{CONV_USAGE}",
        ),
        ("maxpool 2x2 l2=0", " " * 12 + "^^^^", f"maxpool has no option 'l2'{POOL_USAGE}"),
        (
            "maxpool 2x2 stride=2=2",
            " " * 12 + "^" * 10,
            f"maxpool has no option 'stride=2' (did you mean stride?){POOL_USAGE}",
        ),
        (
            "conv 4 5x5 l2=0 l2=0",
            " " * 16 + "^^^^",
            "conv has its option l2 twice; keep one of them",
        ),
        ("conv 4 5x5 =2", " " * 11 + "^^", SPACES),
        ("conv 4 5x5 stride= 2", " " * 11 + "^" * 7, SPACES),
        ("conv 4 5x5 stride = 2", " " * 18 + "^", SPACES),
        ("= 2", "^", SPACES),
    ],
)
def test_a_wrong_word_is_told_with_what_is_allowed(line, carets, message):
    assert error_of(f"# first\n{line}\n{REST}") == (
        f"my.txt, line 2: {message}\n    {line}\n    {carets}"
    )


def test_a_very_long_number_is_cut():
    message, line, carets = error_of(f"flatten\ndense {'9' * 5000}\noutput").splitlines()
    assert message == f"my.txt, line 2: dense's units is '{'9' * 39}…'; expected {COUNT}"
    assert line == "    dense " + "9" * 94
    assert carets == "          " + "^" * 94


def test_a_long_line_is_shown_around_the_word():
    spaces = " " * 300
    message, line, carets = error_of(f"flatten\ndense{spaces}4o{spaces}l2=0\noutput").splitlines()
    assert message.startswith("my.txt, line 2: dense's units is '4o'")
    assert (line, carets) == ("    " + " " * 50 + "4o", "    " + " " * 50 + "^^")
    assert mistakes_of(f"flatten\ndense{spaces}4o{spaces}l2=0\noutput")[0].place == Place(2, 306, 2)


@pytest.mark.parametrize(
    ("line", "shown", "carets"),
    [
        ("  conv 4 5", "  conv 4 5", "         ^"),
        ("\tconv\t4\t\t5  # a comment", " conv 4  5  # a comment", "         ^"),
        ("conv 4 \x005\x1b[31m", "conv 4 ?5?[31m", "       ^^^^^^^"),
        ("conv\u00a04\u20035", "conv 4 5", "       ^"),  # spaces of other widths
        ("conv\x0b4\x0c5", "conv 4 5", "       ^"),
        ("conv 4 5\u202e", "conv 4 5?", "       ^^"),  # It would turn the line round.
        ("conv 4 é5", "conv 4 é5", "       ^^"),
    ],
)
def test_carets_stand_under_the_word_whatever_is_before_it(line, shown, carets):
    message, *lines = error_of(f"{line}\n{REST}").splitlines()
    assert message.startswith("my.txt, line 1: conv's kernel_size is ")
    assert message.isprintable()
    assert lines == [f"    {shown}", f"    {carets}"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(ending):
    lines = ["# one", "", "relu", "  # four", "flatten", "output", "", ""]
    assert [layer.line for layer in parse(ending.join(lines)).layers] == [3, 5, 6]
    lines[4] = "faltten"
    assert wrong_lines(ending.join(lines)) == [5]


def test_what_ends_no_line_elsewhere_ends_none_here():
    layers = parse("relu # one\x0b\x0c\x1c\x85\u2028 relu\nflatten\noutput").layers
    assert [layer.line for layer in layers] == [1, 2, 3]


def test_a_comment_may_follow_without_a_space():
    assert layers_of("flatten#relu\ndense 4#5 l2=x\noutput")["dense1"].text == "dense 4"


# All mistakes at once


def test_all_wrong_words_of_a_line_are_told_in_their_order():
    line = "conv 0 0x3 padding=sam l2=2 stride=q"
    mistakes = mistakes_of(f"relu\n  {line}\n{REST}")
    assert [mistake.place for mistake in mistakes] == [
        Place(2, 8, 1),
        Place(2, 10, 3),
        Place(2, 14, 11),
        Place(2, 26, 4),
        Place(2, 31, 8),
    ]
    assert [mistake.message.split()[1] for mistake in mistakes] == [
        "filters",
        "kernel_size",
        "padding",
        "l2",
        "stride",
    ]


def test_all_wrong_lines_are_told_in_their_order():
    text = "width = 4\nkonv 4 5x5\nmaxpool 2x2\nfaltten\nresidual\ndense\n\nend 2\nrepeat 2\nrelu"
    told = error_of(text).splitlines()
    assert [line.partition(":")[0] for line in told[::3]] == [
        f"my.txt, line {number}" for number in (1, 2, 4, 6, 8, 9)
    ]
    assert [line for line in told[1::3]] == [
        "    width = 4",
        "    konv 4 5x5",
        "    faltten",
        "    dense",
        "    end 2",
        "    repeat 2",
    ]


def test_of_more_than_twenty_mistakes_the_lines_are_told():
    told = error_of("x\n" * 23).splitlines()
    assert told[57].startswith("my.txt, line 20: unknown layer 'x'")
    assert told[60:] == ["and 3 more: line 21, 22, 23"]
    assert error_of("x\n" * 20).splitlines()[-1] == "    ^"
    assert error_of("x\n" * 32).splitlines()[-1] == (
        "and 12 more: line 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, …"
    )


def test_reading_stops_after_fifty_mistakes():
    assert wrong_lines("repeat 2\n" + "x\n" * 60 + "a = 1") == list(range(2, 52))
    assert wrong_lines("A = 1\n" * 60 + "flatten\noutput") == list(range(1, 51))


# How the layers fit is checked as far as the first line whose words are wrong.


def test_a_misfit_does_not_stop_the_others():
    text = (
        "dense 4\nmaxpool 2x2\nconv 2 9x9 padding=valid\nflatten\ndense 4\nflatten\noutput\nrelu\n"
    )
    assert wrong_lines(text) == [1, 2, 3, 4, 6, 8]


def test_after_a_wrong_line_only_words_are_checked():
    assert wrong_lines("flatten\nflatten\nkonv 4 5x5\nflatten\nrellu") == [2, 3, 5]


def test_a_wrong_value_does_not_stop_the_checks():
    assert wrong_lines("width = 32\n1x = 4\nflatten\nflatten\noutput") == [1, 2, 4]


def test_after_a_block_that_does_not_end_only_words_are_checked():
    assert wrong_lines("flatten\nrepeat 2\nflatten\nflatten\nrellu") == [2, 5]


def test_a_wrong_line_in_a_repeat_stops_its_first_turn():
    # In a second turn conv 6000 would follow conv 6000, as conv 2 is not understood.
    text = f"repeat 3\nconv 6000 3x3\nconv 2 3x3 stride=2o\nend\n{REST}"
    assert wrong_lines(text) == [3]


def test_a_misfit_in_a_repeat_is_told_once():
    text = f"repeat 3\nflatten\nrepeat 2\ndense 4\nend\nend\n{REST}"
    told = error_of(text).splitlines()
    assert len(told) == 6
    assert told[0] == "my.txt, line 2: flatten's input is flat already (4); remove this line"
    assert told[3] == "my.txt, line 7: flatten's input is flat already (4); remove this line"


# Blocks


def test_repeat_stands_for_its_lines_so_many_times():
    repeated = parse(f"repeat 2\nconv 4 3x2\nrepeat 3\nrelu\nend\nmaxpool 1x1\nend\n{REST}")
    body = "conv 4 3x2\n" + "relu\n" * 3 + "maxpool 1x1\n"
    written = parse(f"{body}{body}{REST}")
    assert [layer.name for layer in repeated.layers] == [layer.name for layer in written.layers]
    assert [layer.num_parameters for layer in repeated.layers] == [
        layer.num_parameters for layer in written.layers
    ]
    assert [layer.line for layer in repeated.layers] == [*[2, 4, 4, 4, 6] * 2, 8, 9]


def test_five_hundred_repeats_are_allowed():
    assert len(parse("flatten\nrepeat 498\nrelu\nend\noutput").layers) == 500
    assert wrong_lines("repeat 500\nrelu\nend\nflatten\noutput") == [4]  # layer 501


@pytest.mark.parametrize(
    ("text", "line", "carets", "message"),
    [
        (
            "repeat\nrelu\nend",
            1,
            "^^^^^^",
            f"repeat lacks its count, {REPEATS}; write repeat COUNT",
        ),
        ("repeat count=2\nrelu\nend", 1, "^^^^^^", NO_COUNT),
        ("repeat 0\nrelu\nend", 1, "       ^", f"repeat's count is '0'; expected {REPEATS}"),
        ("repeat 501\nrelu\nend", 1, "       ^^^", f"repeat's count is '501'; expected {REPEATS}"),
        ("repeat x\nrelu\nend", 1, "       ^", f"repeat's count is 'x'; expected {REPEATS}"),
        (
            "repeat 2 times\nrelu\nend",
            1,
            "         ^^^^^",
            "repeat has no place for 'times'; write repeat COUNT",
        ),
        ("residual 2\nrelu\nend", 1, "         ^", "residual has no place for '2'; write residual"),
        ("repeat 2\nrelu\nend 2", 3, "    ^", "end has no place for '2'; write end"),
        ("repeat 2\n# relu\nend", 3, "^^^", "the repeat of line 1 holds no layer"),
        ("relu\n  residual\n  end", 3, "  ^^^", "the residual of line 2 holds no layer"),
        ("relu\nend", 2, "^^^", "end has no repeat or residual before it; remove this line"),
        (
            "residual\nrelu",
            1,
            "^^^^^^^^",
            "residual has no end; add a line end after its last layer",
        ),
        (
            "repeat 2\noutput\nend",
            2,
            "^^^^^^",
            "output stands within a repeat; put it after end",
        ),
        (
            "residual\n output\nend",
            2,
            " ^^^^^^",
            "output stands within a residual; put it after end",
        ),
        (
            "repeat 1\n" * 16 + "relu\n" + "end\n" * 16,
            16,
            "^^^^^^",
            "repeat is a block within 15 others; use fewer",
        ),
    ],
)
def test_a_mistake_in_a_block_is_told(text, line, carets, message):
    shown = text.split("\n")[line - 1]
    assert error_of(text) == f"my.txt, line {line}: {message}\n    {shown}\n    {carets}"


def test_fifteen_blocks_may_be_nested():
    assert len(parse("repeat 1\n" * 15 + "relu\n" + "end\n" * 15 + REST).layers) == 3
