"""Named values of a text: what they stand for, what may be given for them, and mistakes in them."""

import pytest

from data_prep.command_line import UserError
from model_definition.mistakes import Place
from tests.architecture_fixtures import error_of, mistakes_of, parse, wrong_lines

REST = "flatten\noutput"
COUNT = "a whole number from 1 to 100,000,000"
SIZE = "HEIGHTxWIDTH such as 5x5, each from 1 to 1,024"


def test_named_values_stand_for_their_words():
    text = (
        "kind=conv\n size =  3x2   # a comment\nwidth = 4\nrate=.5\nhow=valid\nagain=2\n"
        "kind width size padding=how\nrepeat again\n  conv 3*width size l2=rate\nend\n"
        "dropout rate\nflatten\noutput\n"
    )
    architecture = parse(text)
    assert architecture.values == {
        "kind": "conv",
        "size": "3x2",
        "width": "4",
        "rate": ".5",
        "how": "valid",
        "again": "2",
    }
    assert architecture.text == text
    assert [layer.text for layer in architecture.layers] == [
        "conv 4 3x2 padding=valid",
        "conv 12 3x2 l2=.5",
        "conv 12 3x2 l2=.5",
        "dropout .5",
        "flatten",
        "output",
    ]


def test_values_that_are_given_replace_those_of_the_text():
    text = "# first\r\n  width=32 # wide\r\nsize = 3x3\r\nconv width size\r\nconv 2*width size\r\n"
    architecture = parse(text + REST, values={"width": "4"})
    assert architecture.values == {"width": "4", "size": "3x3"}
    assert architecture.text == (
        "# first\n  width = 4  # wide\nsize = 3x3\nconv width size\nconv 2*width size\n"
        "flatten\noutput\n"
    )
    assert [layer.text for layer in architecture.layers[:2]] == ["conv 4 3x3", "conv 8 3x3"]
    assert parse(architecture.text) == architecture
    assert parse(text + REST, values={"width": "32"}).layers == parse(text + REST).layers


def test_mistakes_are_shown_in_the_text_with_the_given_values():
    told = error_of(f"  width = 4 # w\nconv 4 width\n{REST}", values={"width": "3"})
    assert told == (
        f"my.txt, line 2: conv's kernel_size is 'width', which is '3'; expected {SIZE}\n"
        "    conv 4 width\n           ^^^^^"
    )
    lines = error_of(f"  width = 4 # w\n{REST}", values={"width": "3"}).splitlines()
    assert lines[1:] == ["    " + "  width = 3  # w", "    " + "  ^^^^^"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flatten\ndense 4\noutput", "'widht' to set; it names none"),
        (
            "width = 4\nflatten\ndense width\noutput",
            "'widht' to set (did you mean width?); it names width",
        ),
        (
            "a = 1\nb = 2\nc = 3\nflatten\ndense a\ndense b\ndense c\noutput",
            "'widht' to set; it names a, b or c",
        ),
    ],
)
def test_a_given_value_that_the_text_does_not_name_is_refused(text, message):
    with pytest.raises(UserError) as info:
        parse(text, values={"widht": "8"})
    assert str(info.value) == f"my.txt: there is no named value {message}"


def test_mistakes_of_the_text_are_told_before_those_of_given_values():
    text = "conv 4 3x3\nwidth = 4\nflatten\noutput"
    assert wrong_lines(text, values={"width": "8"}) == [2]


NAME = "a name is at most 40 of a to z, 0 to 9 and _, a letter first"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("Width = 4", Place(1, 1, 5), f"'Width' cannot name a value; {NAME}"),
        (" 2x = 4", Place(1, 2, 2), f"'2x' cannot name a value; {NAME}"),
        ("läng = 4", Place(1, 1, 4), f"'läng' cannot name a value; {NAME}"),
        ("a-b = 4", Place(1, 1, 3), f"'a-b' cannot name a value; {NAME}"),
        (f"{'a' * 41} = 4", Place(1, 1, 41), f"'{'a' * 39}…' cannot name a value; {NAME}"),
        ("conv = 4", Place(1, 1, 4), "conv is a word of the format; give the value another name"),
        ("relu=4", Place(1, 1, 6), "relu is a word of the format; give the value another name"),
        ("end = 4", Place(1, 1, 3), "end is a word of the format; give the value another name"),
        (
            "valid = same",
            Place(1, 1, 5),
            "valid is a word of the format; give the value another name",
        ),
        ("w =", Place(1, 1, 1), "the value w is ''; expected one word such as 32"),
        ("w = 3 4", Place(1, 1, 1), "the value w is '3 4'; expected one word such as 32"),
        ("w == 3", Place(1, 1, 1), "the value w is '= 3'; expected one word such as 32"),
        ("w = # 3", Place(1, 1, 1), "the value w is ''; expected one word such as 32"),
        (
            "w = 3\n\n w = 3\nconv w 3x3",
            Place(3, 2, 1),
            "the value w is set on line 1 already; keep one of them",
        ),
        (
            "relu\nw = 3\nrelu",
            Place(2, 1, 1),
            "the value w follows a layer; put it before the first one",
        ),
        (
            "repeat 2\n  w = 3\n  relu\nend",
            Place(2, 3, 1),
            "the value w follows a layer; put it before the first one",
        ),
        (
            "x = 3\nw = 4\nconv x 3x3",
            Place(2, 1, 1),
            "the value w is never used; use it in a line, or remove it",
        ),
    ],
)
def test_a_mistake_in_a_named_value_is_told(text, place, message):
    mistake = mistakes_of(f"{text}\n{REST}")[0]
    assert (mistake.place, mistake.message) == (place, message)


@pytest.mark.parametrize("given", ["", " ", "3 4", " 3", "3#", "=3", "3\n4", "3\t"])
def test_a_given_value_is_one_word(given):
    mistake = mistakes_of(f"w = 32\nconv w 3x3\n{REST}", values={"w": given})[0]
    assert mistake.place == Place(1, 1, 1)
    assert mistake.message == f"the value w is {given!r}; expected one word such as 32"


@pytest.mark.parametrize(
    ("value", "line", "carets", "message"),
    [
        ("3o", "conv w 3x3", "     ^", f"conv's filters is 'w', which is '3o'; expected {COUNT}"),
        (
            "3x3",
            "conv 4 w padding=w",
            "         ^^^^^^^^^",
            "conv's padding is 'w', which is '3x3'; expected same or valid",
        ),
        (
            "60000000",
            "conv 2*w 3x3",
            "     ^^^",
            f"conv's filters is '2*w', which is '120000000'; expected {COUNT}",
        ),
        (
            "8",
            "conv 0*w 3x3",
            "     ^^^",
            f"conv's filters is '0*w', which is '0'; expected {COUNT}",
        ),
        (
            "3x3",
            "conv 4 2*w",
            "       ^^^",
            f"2*w multiplies w, which is '3x3'; expected {COUNT}",
        ),
        ("8", "conv w 3x3 w", "           ^", "conv has no place for 'w'; write conv FILTERS"),
        ("8", "w 3x3", "^", "unknown layer 'w'; a line begins with conv"),
        ("501", "repeat w\nrelu\nend", "       ^", "repeat's count is 'w', which is '501'; exp"),
    ],
)
def test_a_named_value_in_the_wrong_place_is_told(value, line, carets, message):
    told = error_of(f"w = {value}\n{line}\n{REST}").splitlines()
    assert len(told) == 3
    assert told[0].startswith(f"my.txt, line 2: {message}")
    assert told[1:] == [f"    {line.splitlines()[0]}", f"    {carets}"]


def test_a_slip_in_a_values_name_is_told_with_the_name():
    told = error_of(f"width = 8\nconv widht 3x3\nconv 2*width 3x3\n{REST}").splitlines()
    assert told == [
        f"my.txt, line 2: conv's filters is 'widht' (did you mean width?); expected {COUNT}",
        "    conv widht 3x3",
        "         ^^^^^",
    ]
    assert "'2*widht' (did you mean width?)" in error_of(
        f"width = 8\nconv width 3x3\nconv 2*widht 3x3\n{REST}"
    )


def test_a_value_in_a_wrong_line_counts_as_used():
    assert wrong_lines(f"w = 3\nconv 4 3x3 stride = w\n{REST}") == [2]
    assert wrong_lines(f"w = 3\nconv 4 3x3 strde=w\n{REST}") == [2]
    assert wrong_lines(f"w = 3\nkonv 2*w\n{REST}") == [2]


def test_a_block_may_end_by_a_named_value():
    assert len(parse(f"e = end\nrepeat 2\nrelu\ne\n{REST}").layers) == 4
    assert wrong_lines(f"e = end\nrepeat 2\ne\n{REST}") == [3]


def test_fifty_values_are_allowed():
    names = [f"v{number}" for number in range(51)]
    values = "".join(f"{name} = 1\n" for name in names)
    uses = "".join(f"conv {name} 1x1\n" for name in names)
    assert len(parse(f"{values[:-8]}{uses.partition('conv v50')[0]}{REST}").values) == 50
    mistake = mistakes_of(f"{values}{uses}{REST}")[0]
    assert mistake.place == Place(51, 1, 3)
    assert mistake.message == "v50 is one value too many; at most 50 are allowed"
