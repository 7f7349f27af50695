"""Reads an architecture's text: words, named values and blocks become a list of statements.

    # A comment.
    width = 32                 a named value: before the first layer, one word
    conv width 3x3             a line, in which `width`, or `2*width`, stands for that word
    repeat 2                   a block: its lines, so many times
      conv 2*width 3x3
    end
    residual                   a block: what its lines make of their input, added to that input
      conv 2*width 3x3
    end

What a line may say is in `layer_kinds.py`; whether the layers fit each other is decided later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_definition.layer_kinds import (
    COUNT,
    LAYER_KINDS,
    LayerKind,
    Options,
    Value,
    parse_count,
)
from model_definition.mistakes import (
    Mistake,
    MistakeFound,
    Place,
    did_you_mean,
    or_list,
    quote,
    split_lines,
)

_BLOCKS = ("residual", "repeat", "end")
_MAX_BLOCKS = 16  # open at a time, the text itself included
_MAX_VALUES = 50
_MAX_MISTAKES = 50  # where reading stops: nobody reads more, and hints take their time
_REPEATS = Value("a whole number from 1 to 500", lambda text: parse_count(text, 500))
_VALUE_LINE = re.compile(r"\s*([^\s=]+)\s*=(.*)")
_VALUE_NAME = re.compile("[a-z][a-z0-9_]{0,39}")
_PRODUCT = re.compile(r"([0-9]{1,6})\*(.+)")
_RESERVED = {
    *LAYER_KINDS,
    *_BLOCKS,
    *(word for kind in LAYER_KINDS.values() for v in kind.values().values() for word in v.words),
}
_NOWHERE = Place(0, 0, 0)


@dataclass(frozen=True)
class Statement:
    """A line whose words are right, before it is known whether it fits its input.

    Attributes:
      kind: the line's first word, a key of `LAYER_KINDS`; `residual` and `end` where such a block
        begins and ends.
      text: the line with its named values filled in, without its comment.
      options: its arguments and options, defaults filled in.
      places: where each argument and option that is written stands; the first word under "".
    """

    kind: str
    text: str
    options: Options
    places: Mapping[str, Place]

    @property
    def line(self) -> int:
        """The number of the line, counted from 1."""
        return self.places[""].line

    def mistake(self, error: MistakeFound) -> Mistake:
        """Returns a mistake that was found in this line, at the word that it is about."""
        return Mistake(self.places.get(error.word, self.places[""]), str(error))


@dataclass
class _Block:
    """The lines between `repeat` or `residual` and `end`; the text itself is the outermost one."""

    kind: str
    place: Place
    count: int = 1
    body: list[Statement | _Block | None] = field(default_factory=list)  # None: a wrong line


@dataclass(frozen=True)
class Program:
    """A text that was read.

    Attributes:
      text: the text, its named values as they were set.
      values: the named values.
      mistakes: those that were found, in the order of the text.
    """

    text: str
    values: Mapping[str, str]
    mistakes: tuple[Mistake, ...]
    _text_block: _Block

    def statements(self) -> Iterator[Statement | None]:
        """Yields the lines, blocks repeated, None for a wrong one; a short text may yield many."""
        return _expand(self._text_block)


def read_program(text: str, values: Mapping[str, str]) -> Program:
    """Reads a text.

    Args:
      text: the architecture, one layer a line.
      values: what to put in place of the named values' texts; other names count for nothing.

    Returns:
      What it says, and its mistakes.
    """
    reader = _Reader(values)
    lines = [reader.read(number, line) for number, line in enumerate(split_lines(text), start=1)]
    mistakes = sorted(reader.finish(), key=lambda mistake: (mistake.line, mistake.place.column))
    filled_in = "".join(f"{line}\n" for line in lines) if values else text
    return Program(filled_in, reader.values, tuple(mistakes), reader.blocks[0])


def _expand(block: _Block) -> Iterator[Statement | None]:
    ends = {"": block.place}
    if block.kind == "residual":
        yield Statement("residual", "residual", {}, ends)
    for _ in range(block.count):
        for node in block.body:
            if isinstance(node, _Block):
                yield from _expand(node)
            else:
                yield node
    if block.kind == "residual":
        yield Statement("end", "residual", {}, ends)


@dataclass(frozen=True)
class _Word:
    """A word of a line: an argument, or `option=value`; or a default, which has no length."""

    place: Place
    option: str  # empty for an argument
    written: str
    meaning: str  # what is written, or what the named value stands for

    @property
    def text(self) -> str:
        """The word as if it had been written without named values."""
        return f"{self.option}={self.meaning}" if self.option else self.meaning


class _MistakeAt(Exception):
    """A mistake in a line that is being read; without a place, in its first word."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        super().__init__(message)
        self.place = place


class _Reader:
    """Reads line after line; what it cannot understand becomes a mistake."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.values: dict[str, str] = {}
        self.blocks = [_Block("text", Place(1))]
        self._given = given
        self._mistakes: list[Mistake] = []
        self._places: dict[str, Place] = {}  # of the named values
        self._used: set[str] = set()

    def read(self, number: int, line: str) -> str:
        """Reads one line and returns it, filled in where it names a value that was given."""
        if len(self._mistakes) >= _MAX_MISTAKES:
            return line
        code = line.partition("#")[0]
        words = [
            (found.group(), Place(number, found.start() + 1, len(found.group())))
            for found in re.finditer(r"\S+", code)
        ]
        value_line = _VALUE_LINE.fullmatch(code)
        try:
            if value_line:
                name, text = value_line.groups()
                self._read_value(name, text.strip(), words[0][1])
                if name in self._given:
                    setting = f"{code[: value_line.start(1)]}{name} = {self._given[name]}"
                    return f"{setting}  {line[len(code) :]}".rstrip()
            elif words:
                self._used.update(re.findall(r"[^\s=*]+", code))
                self._read_line([self._resolve(*word) for word in words])
        except _MistakeAt as error:
            if not value_line:
                self.blocks[-1].body.append(None)
            self._note(error, words[0][1])
        return line

    def finish(self) -> list[Mistake]:
        """Returns all mistakes, those that only the end of the text shows included."""
        if len(self._mistakes) >= _MAX_MISTAKES:
            self.blocks[0].body.append(None)
            return self._mistakes
        for block in self.blocks[1:]:
            self.blocks[0].body.append(None)
            message = f"{block.kind} has no end; add a line end after its last layer"
            self._mistakes.append(Mistake(block.place, message))
        for name, place in self._places.items():
            if name not in self._used:
                message = f"the value {name} is never used; use it in a line, or remove it"
                self._mistakes.append(Mistake(place, message))
        return self._mistakes

    def _note(self, error: _MistakeAt, place: Place) -> None:
        self._mistakes.append(Mistake(error.place or place, str(error)))

    def _read_value(self, name: str, text: str, place: Place) -> None:
        if not _VALUE_NAME.fullmatch(name):
            raise _MistakeAt(
                f"{quote(name)} cannot name a value; a name is at most 40 of a to z, 0 to 9 and _, "
                "a letter first"
            )
        if name in _RESERVED:
            raise _MistakeAt(f"{name} is a word of the format; give the value another name")
        if self.blocks[0].body or len(self.blocks) > 1:
            raise _MistakeAt(f"the value {name} follows a layer; put it before the first one")
        if name in self.values:
            line = self._places[name].line
            raise _MistakeAt(f"the value {name} is set on line {line} already; keep one of them")
        if len(self.values) >= _MAX_VALUES:
            raise _MistakeAt(f"{name} is one value too many; at most {_MAX_VALUES} are allowed")
        self.values[name] = text = self._given.get(name, text)
        self._places[name] = place
        if not re.fullmatch(r"[^\s#=]+", text):
            raise _MistakeAt(f"the value {name} is {quote(text)}; expected one word such as 32")

    def _resolve(self, text: str, place: Place) -> _Word:
        """Fills in a named value where there is one, or a whole multiple of it."""
        if text.startswith("=") or text.endswith("="):
            raise _MistakeAt("put no spaces around the = of an option: write stride=2", place)
        option, _, written = text.rpartition("=") if "=" in text else ("", "", text)
        product = _PRODUCT.fullmatch(written)
        name = product[2] if product else written
        if name not in self.values:
            return _Word(place, option, written, written)
        meaning = self.values[name]
        if product:
            try:
                meaning = str(int(product[1]) * COUNT.parse(meaning))
            except ValueError:
                raise _MistakeAt(
                    f"{written} multiplies {name}, which is {quote(meaning)}; expected "
                    f"{COUNT.expected}",
                    place,
                ) from None
        return _Word(place, option, written, meaning)

    def _read_line(self, words: list[_Word]) -> None:
        first, *rest = words
        kind = first.text
        if kind == "end":
            self._end_block(rest)
        elif kind in _BLOCKS:
            self._begin_block(first, rest)
        elif kind in LAYER_KINDS:
            if kind == "output" and len(self.blocks) > 1:
                raise _MistakeAt(f"output stands within a {self.blocks[-1].kind}; put it after end")
            self._read_layer(first, rest)
        else:
            known = [*LAYER_KINDS, *_BLOCKS]
            raise _MistakeAt(
                f"unknown layer {quote(first.written)}{did_you_mean(first.written, known)}; a line "
                f"begins with {or_list(known)}"
            )

    def _read_layer(self, first: _Word, rest: list[_Word]) -> None:
        kind = first.text
        assigned = _assign_words(kind, LAYER_KINDS[kind], rest)
        options = {}
        for option, value in LAYER_KINDS[kind].values().items():
            try:
                options[option] = self._parse(f"{kind}'s {option}", value, assigned[option])
            except _MistakeAt as error:
                if assigned[option].place.length:  # A wrong default is a wrong argument, told once.
                    self._note(error, first.place)
        if len(options) < len(assigned):
            self.blocks[-1].body.append(None)
            return
        text = " ".join(word.text for word in (first, *rest))
        places = {option: word.place for option, word in assigned.items() if word.place.length}
        statement = Statement(kind, text, options, {"": first.place, **places})
        self.blocks[-1].body.append(statement)

    def _parse(self, what: str, value: Value, word: _Word) -> Any:
        try:
            return value.parse(word.meaning)
        except ValueError:
            found = quote(word.written)
            hint = did_you_mean(word.written, [*value.words, *self.values])
            if word.meaning != word.written:
                found, hint = f"{found}, which is {quote(word.meaning)}", ""
            message = f"{what} is {found}{hint}; expected {value.expected}"
            raise _MistakeAt(message, word.place) from None

    def _begin_block(self, first: _Word, rest: list[_Word]) -> None:
        kind = first.text
        # Also where its line is wrong, so that its `end` is not another mistake.
        self.blocks.append(_Block(kind, first.place))
        if len(self.blocks) > _MAX_BLOCKS:
            raise _MistakeAt(f"{kind} is a block within {_MAX_BLOCKS - 1} others; use fewer")
        if kind == "repeat":
            if not rest or rest[0].option:
                raise _MistakeAt(f"repeat lacks its count, {_REPEATS.expected}; write repeat COUNT")
            self.blocks[-1].count = self._parse("repeat's count", _REPEATS, rest.pop(0))
        if rest:
            usage = "repeat COUNT" if kind == "repeat" else kind
            message = f"{kind} has no place for {quote(rest[0].text)}; write {usage}"
            raise _MistakeAt(message, rest[0].place)

    def _end_block(self, rest: list[_Word]) -> None:
        if len(self.blocks) == 1:
            raise _MistakeAt("end has no repeat or residual before it; remove this line")
        block = self.blocks.pop()
        if not block.body:
            raise _MistakeAt(f"the {block.kind} of line {block.place.line} holds no layer")
        self.blocks[-1].body.append(block)
        if rest:
            message = f"end has no place for {quote(rest[0].text)}; write end"
            raise _MistakeAt(message, rest[0].place)


def _assign_words(name: str, kind: LayerKind, words: list[_Word]) -> dict[str, _Word]:
    """Returns the word of every argument and option of a line, defaults filled in."""
    usage = f"; write {_usage(name, kind)}"
    arguments = [word for word in words if not word.option]
    assigned = dict(zip(kind.arguments, arguments, strict=False))
    if len(assigned) < len(kind.arguments):
        missing = list(kind.arguments)[len(assigned)]
        expected = kind.arguments[missing].expected
        raise _MistakeAt(f"{name} lacks its {missing}, {expected}{usage}")
    if len(assigned) < len(arguments):
        extra = arguments[len(assigned)]
        hint = did_you_mean(extra.written, [f"{option}=" for option in kind.options])
        raise _MistakeAt(
            f"{name} has no place for {quote(extra.written)}{hint}{usage}", extra.place
        )
    for word in words:
        if word.option and word.option not in kind.options:
            hint = did_you_mean(word.option, kind.options)
            message = f"{name} has no option {quote(word.option)}{hint}{usage}"
            raise _MistakeAt(message, word.place)
        if word.option in assigned:
            message = f"{name} has its option {word.option} twice; keep one of them"
            raise _MistakeAt(message, word.place)
        if word.option:
            assigned[word.option] = word
    for option, known in kind.options.items():
        argument = assigned.get(known.default.lower())
        text = argument.meaning if argument else known.default
        assigned.setdefault(option, _Word(_NOWHERE, option, text, text))
    return assigned


def _usage(name: str, kind: LayerKind) -> str:
    arguments = [argument.upper() for argument in kind.arguments]
    options = [f"[{option}={value.default}]" for option, value in kind.options.items()]
    return " ".join([name, *arguments, *options])
