"""An architecture is a text file, checked and measured before any graph is built from it.

One layer a line, as `layer_kinds.py` lists them; `#` begins a comment; blank lines are fine; named
values, `repeat` and `residual` are in `statements.py`. A layer is named after its kind and how many
of the kind there are so far (`conv1`, `maxpool1`, `conv2`, …). `output` has no number: it is there
once, at the end, and as wide as the dataset has classes. The names are the scopes of the variables.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from data_prep.command_line import UserError
from model_definition.layer_kinds import LAYER_KINDS, Options, Shape, Size, measure_residual
from model_definition.mistakes import (
    ArchitectureError,
    Mistake,
    MistakeFound,
    Place,
    did_you_mean,
    or_list,
    quote,
    split_lines,
)
from model_definition.run_dir import MODEL_NAME, Run
from model_definition.statements import Statement, read_program

ZOO = Path(__file__).resolve().parent / "zoo"
IMAGES = "images"  # stands for the network's input where a layer's input is named

# What a file can ask for at most, so that a slip of the pen does not fill the memory.
MAX_FILE_BYTES = 65_536
MAX_LAYERS = 500
MAX_PARAMETERS = 100_000_000
MAX_ACTIVATIONS = 50_000_000  # numbers that one image's layers put out, all layers together
MAX_MULTIPLY_ADDS = 10_000_000_000  # for one image


@dataclass(frozen=True)
class Layer:
    """One layer of an architecture: a line, or the sum at the end of a residual block.

    Attributes:
      name: the variable scope: `conv1`, `output`.
      kind: the line's first word, a key of `LAYER_KINDS`; or `residual`.
      text: the line as written, without its comment, named values filled in.
      line: where it stands in the file, counted from 1.
      options: its arguments and options, defaults filled in. `filters`, `units`, `rate`, `l2`,
        `momentum`, `epsilon` and `slope` are numbers, `kernel_size`, `pool_size`, `stride`,
        `dilation` and a residual's `projection_stride` are (height, width), `bias` is a bool,
        `padding`, `activation` and `initializer` are words.
      input_shape: (height, width, channels) or (units,) of one image, before the layer.
      output_shape: the same, after the layer.
      num_parameters: how many numbers training can change.
      multiply_adds: multiplications followed by an addition, for one image forward. Kernels that
        reach over the edge count in full; biases, pooling, normalisation and activations do not
        count.
      receptive_field: height and width of the part of the image that one of its numbers can depend
        on; the whole image once the layers are flat.
      shortcut: of a residual, the layer whose output is added, or `images`; else None.
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
    receptive_field: tuple[int, int]
    shortcut: str | None = None


@dataclass(frozen=True)
class Architecture:
    """A checked architecture for images of one shape and one number of classes.

    Attributes:
      filename: what the text was read from.
      text: the text itself, comments included, its named values as they were set.
      image_shape: (height, width, channels) of the images.
      num_classes: how many units `output` has.
      values: the named values.
      layers: the layers in order, `output` last. Each takes the output of the one before it, the
        first one the images.
    """

    filename: str
    text: str
    image_shape: tuple[int, int, int]
    num_classes: int
    values: Mapping[str, str]
    layers: tuple[Layer, ...]

    @property
    def num_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers, for one image forward."""
        return sum(layer.multiply_adds for layer in self.layers)


def load_architecture(
    model: str,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    values: Mapping[str, str] = MappingProxyType({}),
) -> Architecture:
    """Reads an architecture from the zoo or from a file of the user's.

    Args:
      model: a name of the zoo, such as `lenet`, or the path of a text file.
      image_shape: (height, width, channels) of the images.
      num_classes: number of classes of the dataset.
      values: what to set named values of the file to, instead of what it says.

    Returns:
      The checked architecture.

    Raises:
      UserError: there is neither such a name nor such a file, or no such named value.
      ArchitectureError: the file is not an architecture.
    """
    names = sorted(path.stem for path in ZOO.glob("*.txt"))
    path = ZOO / f"{model}.txt" if model in names else Path(model)
    if path.is_dir():
        inside = path / MODEL_NAME if (path / MODEL_NAME).is_file() else "a text file"
        raise UserError(f"model {model!r}: expected a file, found a folder; name {inside}")
    if not path.is_file():
        raise UserError(
            f"model {model!r}: found neither a network of the zoo nor a file of that name"
            f"{did_you_mean(model, names)}; the zoo has {or_list(names)}"
        )
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        message = f"the file goes on after {MAX_FILE_BYTES:,} bytes; an architecture is shorter"
        raise ArchitectureError(str(path), "", [Mistake(Place(content.count(b"\n") + 1), message)])
    try:
        text = content.decode("utf-8-sig")  # Some editors begin a file with a byte order mark.
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        *lines, line = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        message = f"found a byte 0x{error.object[error.start]:02x}, expected text; save it as UTF-8"
        mistake = Mistake(Place(len(lines) + 1, len(line) + 1), message)
        text = error.object.decode(errors="replace")
        raise ArchitectureError(str(path), text, [mistake]) from None
    return parse_architecture(
        text,
        filename=str(path),
        image_shape=image_shape,
        num_classes=num_classes,
        values=values,
    )


def parse_model_set(texts: Iterable[str]) -> dict[str, str]:
    """Reads the named values that a command line sets.

    Args:
      texts: such as `width=64`.

    Returns:
      The values by name.

    Raises:
      UserError: a text is something else, or a name is there twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        found = re.fullmatch(r"([^\s=]+)=(\S+)", text)
        if not found:
            raise UserError(
                f"--model_set={text}: expected NAME=VALUE without spaces, such as width=64"
            )
        if found[1] in values:
            raise UserError(f"--model_set: {found[1]} is set more than once; keep one of them")
        values[found[1]] = found[2]
    return values


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
    text: str,
    *,
    filename: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    values: Mapping[str, str] = MappingProxyType({}),
) -> Architecture:
    """Checks an architecture's text and computes the shapes and the size of every layer.

    Args:
      text: the architecture, one layer a line.
      filename: what to call the text in errors.
      image_shape: (height, width, channels) of the images.
      num_classes: how many units `output` gets.
      values: what to set named values of the text to, instead of what it says.

    Returns:
      The checked architecture.

    Raises:
      UserError: there is no named value of a name in `values`.
      ArchitectureError: the text has mistakes. How the layers fit together is checked as far as the
        first line whose words are wrong.
    """
    program = read_program(text, values)
    for name in values:
        if name not in program.values and not program.mistakes:
            known = f"it names {or_list(program.values)}" if program.values else "it names none"
            raise UserError(
                f"{filename}: there is no named value {quote(name)} to set"
                f"{did_you_mean(name, program.values)}; {known}"
            )
    mistakes = list(program.mistakes)
    chain = _Chain(image_shape, num_classes)
    for statement in program.statements():
        if statement is None:
            break
        try:
            chain.add(statement)
        except MistakeFound as error:
            mistake = statement.mistake(error)
            # A line that is repeated may be wrong each time.
            if mistake.line not in {other.line for other in mistakes}:
                mistakes.append(mistake)
            if chain.closed:
                break
    else:
        if not chain.layers or chain.layers[-1].kind != "output":
            last = Place(len(split_lines(text)))
            message = "the architecture ends without an output; add a last line output"
            mistakes.append(Mistake(last, message))
    if mistakes:
        raise ArchitectureError(filename, program.text, sorted(mistakes, key=_position))
    return Architecture(
        filename, program.text, image_shape, num_classes, program.values, tuple(chain.layers)
    )


def _position(mistake: Mistake) -> tuple[int, int]:
    return mistake.place.line, mistake.place.column


@dataclass
class _Chain:
    """The layers so far, each connected to the one before it.

    Attributes:
      closed: whether a bound was crossed or a line follows the output, so that no more matters.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    layers: list[Layer] = field(default_factory=list)
    closed: bool = False
    # How far two neighbouring numbers of each layer lie apart in the image, from `images` on.
    _steps: list[tuple[int, int]] = field(default_factory=lambda: [(1, 1)])
    _residuals: list[int] = field(default_factory=list)  # how many layers stand before each
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, statement: Statement) -> None:
        """Connects a layer; where it does not fit, `MistakeFound` says so, and one stands in."""
        if self.layers and self.layers[-1].kind == "output":
            self.closed = True
            raise MistakeFound(
                f"{statement.kind} follows the output of line {self.layers[-1].line}, which must "
                "be the last layer"
            )
        if statement.kind == "residual":
            self._residuals.append(len(self.layers))
        elif statement.kind == "end":
            self._end_residual(statement)
        else:
            self._add_line(statement)

    def _add_line(self, statement: Statement) -> None:
        shape = self._shape_after(len(self.layers))
        kind, options = statement.kind, statement.options
        try:
            size = LAYER_KINDS[kind].measure(options, shape, self.num_classes)
        except MistakeFound:
            # So that the lines below are still checked.
            units = {"dense": options.get("units"), "output": self.num_classes}.get(kind)
            self._append(statement, Size((units,) if units else shape), options)
            raise
        self._append(statement, size, options)

    def _end_residual(self, statement: Statement) -> None:
        start = self._residuals.pop()
        before, after = self._steps[start], self._steps[-1]
        stride = (after[0] // before[0], after[1] // before[1])
        shape = self._shape_after(len(self.layers))
        size, options = measure_residual(self._shape_after(start), shape, stride)
        shortcut = self.layers[start - 1].name if start else IMAGES
        self._append(statement, size, options, shortcut)

    def _append(
        self, statement: Statement, size: Size, options: Options, shortcut: str | None = None
    ) -> None:
        kind = "residual" if statement.kind == "end" else statement.kind
        self._counts[kind] += 1
        step = self._steps[-1]
        seen = self.layers[-1].receptive_field if self.layers else (1, 1)
        receptive_field = self.image_shape[:2]
        if len(size.output_shape) == 3:
            height, width = (seen[i] + (size.window[i] - 1) * step[i] for i in (0, 1))
            receptive_field = (min(height, receptive_field[0]), min(width, receptive_field[1]))
        self._steps.append((step[0] * size.stride[0], step[1] * size.stride[1]))
        self.layers.append(
            Layer(
                name=kind if kind == "output" else f"{kind}{self._counts[kind]}",
                kind=kind,
                text=statement.text,
                line=statement.line,
                options=options,
                input_shape=self._shape_after(len(self.layers)),
                output_shape=size.output_shape,
                num_parameters=size.num_parameters,
                multiply_adds=size.multiply_adds,
                receptive_field=receptive_field,
                shortcut=shortcut,
            )
        )
        self._check_bounds()

    def _shape_after(self, num_layers: int) -> Shape:
        return self.layers[num_layers - 1].output_shape if num_layers else self.image_shape

    def _check_bounds(self) -> None:
        layers = self.layers
        for what, number, limit in (
            ("layers", len(layers), MAX_LAYERS),
            ("parameters", sum(layer.num_parameters for layer in layers), MAX_PARAMETERS),
            (
                "activations an image",
                sum(math.prod(layer.output_shape) for layer in layers),
                MAX_ACTIVATIONS,
            ),
            (
                "multiply-adds an image",
                sum(layer.multiply_adds for layer in layers),
                MAX_MULTIPLY_ADDS,
            ),
        ):
            if number > limit:
                self.closed = True
                raise MistakeFound(
                    f"with {layers[-1].name} there are {number:,} {what}; at most {limit:,} are "
                    "allowed"
                )
