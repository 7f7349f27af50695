"""Mangled texts by the thousand: each is an architecture within the bounds, or its mistakes."""

import math
import random
import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from model_definition.architecture import (
    MAX_ACTIVATIONS,
    MAX_LAYERS,
    MAX_MULTIPLY_ADDS,
    MAX_PARAMETERS,
    ZOO,
    ArchitectureError,
)
from model_definition.layer_kinds import LAYER_KINDS
from model_definition.mistakes import split_lines
from tests.architecture_fixtures import parse

SAMPLE = """\
# Every kind and option that the zoo does without.
size = 3x2
rate=.5  # a value
separable_conv 4 size dilation=2x1 activation=leaky_relu initializer=he_uniform
residual
  conv 6 3x3 stride=2x1 padding=same bias=false l2=1e-4
  repeat 2
    avgpool 2x2 stride=1 padding=same
    leaky_relu slope=0.1
    batchnorm momentum=0.9 epsilon=1e-5
  end
end
dropout rate
flatten
residual
  dense 2*units
end
output bias=false
"""
TEXTS = [SAMPLE, *(path.read_text(encoding="utf-8") for path in sorted(ZOO.glob("*.txt")))]
WORDS = sorted(
    {word for text in TEXTS for word in text.split()}
    | {*LAYER_KINDS, "repeat", "residual", "end", "repeat 500", "2*width", "3*drop", "width ="}
    | {"=", "#", "x", "*", "stride=", "=2", "units = 4", "flatten", "global_avgpool", "\ufeff"}
)
NUMBERS = ["0", "-1", "1", "3.5", "1e9", "99999999", "9" * 400, "1025", "nan", "1e-999", "٣", "x"]
SLOWEST = 2.0  # seconds of processor time that one text may take


def check(text: str) -> bool:
    """Asserts what holds for any text; returns whether it is an architecture."""
    start = time.process_time()
    try:
        architecture = parse(text, image_shape=(28, 27, 1))
    except ArchitectureError as error:
        _check_error(error, text)
        return False
    finally:
        assert time.process_time() - start < SLOWEST, text
    layers = architecture.layers
    assert 1 <= len(layers) <= MAX_LAYERS
    assert architecture.num_parameters <= MAX_PARAMETERS
    assert architecture.multiply_adds <= MAX_MULTIPLY_ADDS
    assert sum(math.prod(layer.output_shape) for layer in layers) <= MAX_ACTIVATIONS
    assert [layer.kind == "output" for layer in layers] == [False] * (len(layers) - 1) + [True]
    assert len({layer.name for layer in layers}) == len(layers)
    shapes = {"images": (28, 27, 1)} | {layer.name: layer.output_shape for layer in layers}
    for before, layer in zip(shapes, layers, strict=False):
        assert layer.input_shape == shapes[before]
        assert min(layer.output_shape) >= 1
        assert layer.shortcut is None or layer.shortcut in shapes
    return True


def _check_error(error: ArchitectureError, text: str) -> None:
    lines = split_lines(text)
    assert error.mistakes
    for mistake in error.mistakes:
        place = mistake.place
        assert 1 <= place.line <= len(lines)
        assert place.column >= 1 and place.length >= 1
        assert place.column + place.length - 1 <= max(1, len(lines[place.line - 1]))
        assert mistake.message and mistake.message.isprintable()
    order = [(mistake.line, mistake.place.column) for mistake in error.mistakes]
    assert order == sorted(order)
    assert re.match(r"my\.txt, line [1-9]\d*: ", str(error))
    for line in str(error).split("\n"):
        assert line.isprintable()
        assert re.match(r"my\.txt, line \d+: |    |and \d+ more: line ", line)


def mangle(generator: random.Random) -> str:
    """Returns a text of which a few lines, words, numbers or letters were changed."""
    text = generator.choice(TEXTS)
    for _ in range(generator.randint(1, 5)):
        text = generator.choice(
            [_mangle_lines, _mangle_words, _mangle_words, _mangle_numbers, _mangle_letters]
        )(generator, text)
    return text


def _mangle_lines(generator: random.Random, text: str) -> str:
    lines = text.split("\n")
    first, second = generator.randrange(len(lines)), generator.randrange(len(lines))
    change = generator.randrange(5)
    if change == 0:
        del lines[first]
    elif change == 1:
        lines[first:first] = [lines[second]] * generator.choice([1, 2, 30])
    elif change == 2:
        lines[first], lines[second] = lines[second], lines[first]
    elif change == 3:
        lines[first:first] = [generator.choice(["repeat 9", "residual", "end", "flatten"])]
    else:
        lines[first:] = generator.choice(TEXTS).split("\n")[second:]
    return "\n".join(lines)


def _mangle_words(generator: random.Random, text: str) -> str:
    words = re.split("([ \n=])", text)
    first, second = generator.randrange(len(words)), generator.randrange(len(words))
    change = generator.randrange(4)
    if change == 0:
        words[first] = ""
    elif change == 1:
        words[first] = words[second]
    elif change == 2:
        words[first], words[second] = words[second], words[first]
    else:
        words[first] = generator.choice(WORDS)
    return "".join(words)


def _mangle_numbers(generator: random.Random, text: str) -> str:
    numbers = list(re.finditer(r"\d+(\.\d+)?", text))
    if not numbers:
        return text
    start, end = generator.choice(numbers).span()
    return text[:start] + generator.choice(NUMBERS) + text[end:]


def _mangle_letters(generator: random.Random, text: str) -> str:
    place = generator.randrange(len(text) + 1)
    change = generator.randrange(4)
    if change == 0:
        return text[:place]
    if change == 1:
        letters = bytes(generator.randrange(256) for _ in range(9)).decode("latin-1")
    elif change == 2:
        letters = generator.choice(["\r", "\x00", "\t", "é", "\u202e", "\u2028", "😀", "\ud800"])
    else:
        letters = ""
    return text[:place] + letters + text[place + generator.randint(0, 9) :]


def test_what_the_fuzz_begins_with_is_right():
    assert all(map(check, TEXTS[1:]))
    assert check(SAMPLE.replace("rate=", "units = 4\nrate="))


def test_thousands_of_mangled_files():
    generator = random.Random(0)
    outcomes = [check(mangle(generator)) for _ in range(4000)]
    assert 100 < sum(outcomes) < 3900


def test_mangled_files_with_given_values_can_be_read_again():
    generator = random.Random(1)
    read = 0
    for _ in range(1000):
        text = mangle(generator)
        try:
            names = parse(text, image_shape=(28, 27, 1)).values
            values = {name: generator.choice([*NUMBERS, "8", "3x3"]) for name in names}
            architecture = parse(text, image_shape=(28, 27, 1), values=values)
        except ArchitectureError as error:
            assert re.match(r"my\.txt, line [1-9]\d*: ", str(error))
            continue
        assert parse(architecture.text, image_shape=(28, 27, 1)) == architecture
        read += 1
    assert read > 50


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*WORDS, *NUMBERS, "\n", "\n"]) | st.text(max_size=9)))
def test_any_words_and_letters(words):
    check(" ".join(words))


def test_long_nasty_files_are_answered_in_time():
    generator = random.Random(2)

    def word() -> str:
        return "".join(generator.choice("abcdefgh") for _ in range(40))

    values = "".join(f"{word()} = 1\n" for _ in range(50))
    slips = "".join(
        f"conv {word()} {word()} stride={word()} padding={word()}\n" for _ in range(300)
    )
    for text in (
        "x\n" * 32_000,
        "conv 4 3x3 " + "stride=1 " * 7_000,
        "a = 1" + " " * 60_000 + "2",
        " " * 60_000 + "a",
        "a" * 64_000,
        "=" * 64_000,
        "a=1\nconv " + "9*" * 30_000 + "a",
        "".join(f"a{number}=1\n" for number in range(6_000)) + "dense x\n" * 1000,
        values + slips,
        "relu\n" * 13_000,
        "repeat 500\n" * 5_000,
        "residual\n" * 7_000,
        "end\n" * 16_000,
        "# " * 32_000,
        "\n" * 65_000,
    ):
        assert not check(text)
