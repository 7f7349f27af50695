"""An architecture is a text file, checked and measured before any graph is built from it.

One layer a line, as `layer_kinds.py` lists them; `#` begins a comment; blank lines are fine. A
layer is named after its kind and how many of the kind there are so far (`conv1`, `maxpool1`,
`conv2`, …). `output` has no number: it is there once, at the end, and as wide as the dataset has
classes. The names are the scopes of the variables.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.command_line import UserError
from model_definition.layer_kinds import LAYER_KINDS, LayerKind, MistakeFound, Options, Shape
from model_definition.run_dir import MODEL_NAME, Run

ZOO = Path(__file__).resolve().parent / "zoo"

# What a file can ask for at most, so that a slip of the pen does not fill the memory.
MAX_FILE_BYTES = 65_536
MAX_LAYERS = 500
MAX_PARAMETERS = 100_000_000
MAX_ACTIVATIONS = 50_000_000  # numbers that one image's layers put out, all layers together


@dataclass(frozen=True)
class Layer:
    """One line of an architecture.

    Attributes:
      name: the variable scope: `conv1`, `output`.
      kind: the line's first word, a key of `LAYER_KINDS`.
      text: the line as written, without its comment.
      line: where it stands in the file, counted from 1.
      options: its arguments and options, defaults filled in. `filters`, `units`, `rate` and `l2`
        are numbers, `kernel_size`, `pool_size` and `stride` are (height, width), `padding` and
        `activation` are words.
      input_shape: (height, width, channels) or (units,) of one image, before the layer.
      output_shape: the same, after the layer.
      num_parameters: how many numbers training can change.
      multiply_adds: multiplications followed by an addition, for one image forward. Kernels that
        reach over the edge count in full; biases, pooling and activations do not count.
    """

    name: str
    kind: str
    text: str
    line: int
    options: Options
    input_shape: Shape
    output_shape: Shape
    num_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Architecture:
    """A checked architecture for images of one shape and one number of classes.

    Attributes:
      filename: what the text was read from.
      text: the text itself, comments included.
      image_shape: (height, width, channels) of the images.
      num_classes: how many units `output` has.
      layers: the layers in order, `output` last.
    """

    filename: str
    text: str
    image_shape: tuple[int, int, int]
    num_classes: int
    layers: tuple[Layer, ...]

    @property
    def num_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers, for one image forward."""
        return sum(layer.multiply_adds for layer in self.layers)


@dataclass(frozen=True)
class Mistake:
    """The number of a line, and what is wrong and allowed there."""

    line: int
    message: str


class ArchitectureError(UserError):
    """Mistakes in an architecture; its text gives the first one and counts the others.

    Attributes:
      mistakes: all that were found, by line.
    """

    def __init__(self, filename: str, mistakes: Iterable[Mistake]) -> None:
        """Makes one line of text from a file's name and its mistakes, of which there is one."""
        self.mistakes = tuple(mistakes)
        first, *others = self.mistakes
        text = f"{filename}, line {first.line}: {first.message}"
        if others:
            lines = ", ".join(str(mistake.line) for mistake in others[:5])
            more = ", …" if len(others) > 5 else ""
            text += f" (and {len(others)} more: line {lines}{more})"
        super().__init__(text)


def load_architecture(
    model: str, *, image_shape: tuple[int, int, int], num_classes: int
) -> Architecture:
    """Reads an architecture from the zoo or from a file of the user's.

    Args:
      model: a name of the zoo, such as `lenet`, or the path of a text file.
      image_shape: (height, width, channels) of the images.
      num_classes: number of classes of the dataset.

    Returns:
      The checked architecture.

    Raises:
      UserError: there is neither such a name nor such a file.
      ArchitectureError: the file is not an architecture.
    """
    names = sorted(path.stem for path in ZOO.glob("*.txt"))
    path = ZOO / f"{model}.txt" if model in names else Path(model)
    if not path.is_file():
        raise UserError(
            f"model {_quote(model)}: found neither a network of the zoo nor a file of that name"
            f"{_did_you_mean(model, names)}; the zoo has {_or(names)}"
        )
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        message = f"the file goes on after {MAX_FILE_BYTES:,} bytes; an architecture is shorter"
        raise ArchitectureError(str(path), [Mistake(content.count(b"\n") + 1, message)])
    try:
        text = content.decode("utf-8-sig")  # Some editors begin a file with a byte order mark.
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"found a byte 0x{error.object[error.start]:02x}, expected text; save it as UTF-8"
        raise ArchitectureError(str(path), [Mistake(line, message)]) from None
    return parse_architecture(
        text, filename=str(path), image_shape=image_shape, num_classes=num_classes
    )


def parse_run_architecture(run: Run) -> Architecture:
    """Reads the architecture that a run was trained with.

    Args:
      run: the run.

    Returns:
      The checked architecture.

    Raises:
      ArchitectureError: its text was changed, and has mistakes.
    """
    return parse_architecture(
        run.architecture_text,
        filename=str(run.logdir / MODEL_NAME),
        image_shape=run.image_shape,
        num_classes=len(run.class_names),
    )


def parse_architecture(
    text: str, *, filename: str, image_shape: tuple[int, int, int], num_classes: int
) -> Architecture:
    """Checks an architecture's text and computes the shapes and the size of every layer.

    Args:
      text: the architecture, one layer a line.
      filename: what to call the text in errors.
      image_shape: (height, width, channels) of the images.
      num_classes: how many units `output` gets.

    Returns:
      The checked architecture.

    Raises:
      ArchitectureError: the text has mistakes. The words of all lines are checked first, then how
        the layers fit together; the first misfit ends that, for no later shape is known.
    """
    statements: list[_Statement] = []
    mistakes: list[Mistake] = []
    lines = re.split(r"\r\n?|\n", text.rstrip())
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        try:
            if words:
                statements.append(_parse_line(number, words))
        except MistakeFound as error:
            mistakes.append(Mistake(number, str(error)))
    if mistakes:
        raise ArchitectureError(filename, mistakes)

    layers: list[Layer] = []
    for statement in statements:
        try:
            layers.append(_connect(statement, layers, image_shape, num_classes))
        except MistakeFound as error:
            raise ArchitectureError(filename, [Mistake(statement.line, str(error))]) from None
    if not layers or layers[-1].kind != "output":
        message = "the architecture ends without an output; add a last line output"
        raise ArchitectureError(filename, [Mistake(len(lines), message)])
    return Architecture(filename, text, image_shape, num_classes, tuple(layers))


@dataclass(frozen=True)
class _Statement:
    """A line whose words are right, before it is known whether it fits its input."""

    line: int
    text: str
    kind: str
    options: Options


def _parse_line(number: int, words: list[str]) -> _Statement:
    name, *rest = words
    if name not in LAYER_KINDS:
        raise MistakeFound(
            f"unknown layer {_quote(name)}{_did_you_mean(name, LAYER_KINDS)}; "
            f"a line begins with {_or(LAYER_KINDS)}"
        )
    kind = LAYER_KINDS[name]
    texts = _match_words(name, kind, rest)
    options = {}
    for option, value in kind.values().items():
        try:
            options[option] = value.parse(texts[option])
        except ValueError:
            raise MistakeFound(
                f"{name}'s {option} is {_quote(texts[option])}"
                f"{_did_you_mean(texts[option], value.words)}; expected {value.expected}"
            ) from None
    return _Statement(number, " ".join(words), name, options)


def _match_words(name: str, kind: LayerKind, words: list[str]) -> dict[str, str]:
    """Returns the text of every argument and option of a line, defaults filled in."""
    usage = f"; write {_usage(name, kind)}"
    arguments = [word for word in words if "=" not in word]
    texts = dict(zip(kind.arguments, arguments, strict=False))
    if len(texts) < len(kind.arguments):
        missing = list(kind.arguments)[len(texts)]
        expected = kind.arguments[missing].expected
        raise MistakeFound(f"{name} lacks its {missing}, {expected}{usage}")
    if len(texts) < len(arguments):
        extra = arguments[len(texts)]
        hint = _did_you_mean(extra, [f"{option}=" for option in kind.options])
        raise MistakeFound(f"{name} has no place for {_quote(extra)}{hint}{usage}")
    for option, _, text in (word.partition("=") for word in words if "=" in word):
        if option not in kind.options:
            hint = _did_you_mean(option, kind.options)
            raise MistakeFound(f"{name} has no option {_quote(option)}{hint}{usage}")
        if option in texts:
            raise MistakeFound(f"{name} has its option {option} twice; keep one of them")
        texts[option] = text
    for option, known in kind.options.items():
        texts.setdefault(option, texts.get(known.default.lower(), known.default))
    return texts


def _connect(
    statement: _Statement,
    layers: list[Layer],
    image_shape: tuple[int, int, int],
    num_classes: int,
) -> Layer:
    """Returns a line as a layer that follows `layers`."""
    kind = statement.kind
    if layers and layers[-1].kind == "output":
        raise MistakeFound(
            f"{kind} follows the output of line {layers[-1].line}, which must be the last layer"
        )
    count = 1 + sum(layer.kind == kind for layer in layers)
    input_shape = layers[-1].output_shape if layers else image_shape
    size = LAYER_KINDS[kind].measure(statement.options, input_shape, num_classes)
    layer = Layer(
        name=kind if kind == "output" else f"{kind}{count}",
        kind=kind,
        text=statement.text,
        line=statement.line,
        options=statement.options,
        input_shape=input_shape,
        output_shape=size.output_shape,
        num_parameters=size.num_parameters,
        multiply_adds=size.multiply_adds,
    )
    _check_bounds([*layers, layer])
    return layer


def _check_bounds(layers: list[Layer]) -> None:
    for what, number, limit in (
        ("layers", len(layers), MAX_LAYERS),
        ("parameters", sum(layer.num_parameters for layer in layers), MAX_PARAMETERS),
        (
            "activations an image",
            sum(math.prod(layer.output_shape) for layer in layers),
            MAX_ACTIVATIONS,
        ),
    ):
        if number > limit:
            raise MistakeFound(
                f"with {layers[-1].name} there are {number:,} {what}; at most {limit:,} are allowed"
            )


def _usage(name: str, kind: LayerKind) -> str:
    arguments = [argument.upper() for argument in kind.arguments]
    options = [f"[{option}={value.default}]" for option, value in kind.options.items()]
    return " ".join([name, *arguments, *options])


def _quote(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:39] + "…")


def _or(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word[:40].lower(), list(known), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""
