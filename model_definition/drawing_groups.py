"""What is drawn for the layers of an architecture, before anything has a place on the picture.

Layers are gathered into groups: a block and the slices on it. Lengths are points.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from model_definition.architecture import IMAGES, Architecture, Layer
from model_definition.layer_kinds import Shape, format_shape

FONT = "DejaVu Sans"  # It comes with matplotlib. Who shows an SVG without it takes another.
LABEL, SMALL = 10.0, 8.5  # sizes of letters
SUM_RADIUS = 8.0

_AFTER_SUM = 14.0  # from a ⊕ to a slice
_SLICE, _BAND = 15.0, 5.0  # widths of a layer on a block, and of an activation= of a block
_MOST_SLICES = 8  # in one group

_FAMILIES = {
    IMAGES: "images",
    "conv": "convolution",
    "separable_conv": "convolution",
    "maxpool": "pooling",
    "avgpool": "pooling",
    "global_avgpool": "pooling",
    "batchnorm": "normalisation",
    "dropout": "dropout",
    "flatten": "flatten",
    "dense": "dense",
    "residual": "sum",
    "output": "output",
}  # all others are activations
_SLICES = {"normalisation", "activation", "dropout"}


@dataclass(frozen=True)
class Solid:
    """A block, a slice or a band: a box seen from its left front, or a bar if it has no depth.

    Attributes:
      family: of its layer; decides its colour.
      side: family of the block that it is on; decides the colour of its right side.
      left: x of its front's left side, from the group's left.
      width: of its front.
      height: of its front and its depth together.
      depth: how far its back lies to the right of its front, and above it.
      text: to write upwards on its front; may be empty.
    """

    family: str
    side: str
    left: float
    width: float
    height: float
    depth: tuple[float, float]
    text: str


@dataclass(frozen=True)
class Group:
    """A block or a ⊕ with the slices on it.

    Attributes:
      layers: in order.
      shape: of what comes to the group; empty for the images.
      is_new_shape: whether the groups before it do not show this shape.
      num_branches: how many shortcuts leave the arrow that leads to it.
      solids: what is drawn for the layers; nothing for a ⊕.
      block_width: of the block alone, or of the ⊕.
      end: x of the middle of its right side, where an arrow can begin, from the group's left.
      width: of everything.
      label: the lines to write below, the block's name first.
      parameters: the last of these lines; may be empty.
      label_width: of the longest line.
    """

    layers: tuple[Layer, ...]
    shape: Shape
    is_new_shape: bool
    num_branches: int
    solids: tuple[Solid, ...]
    block_width: float
    end: float
    width: float
    label: tuple[str, ...]
    parameters: str
    label_width: float

    @property
    def is_sum(self) -> bool:
        """Whether its first layer is the ⊕ of a residual."""
        return self.layers[0].kind == "residual"


@dataclass(frozen=True)
class Shortcut:
    """The shortcut of a residual.

    Attributes:
      layer: the residual layer, where it ends.
      body: the name of the layer that the residual's body begins with.
      level: 1, or for a residual around others, one more than theirs.
    """

    layer: Layer
    body: str
    level: int


def find_shortcuts(architecture: Architecture) -> list[Shortcut]:
    """Returns the shortcuts in the order of their ends."""
    names = [IMAGES, *(layer.name for layer in architecture.layers)]
    places = {name: place for place, name in enumerate(names)}
    found: list[Shortcut] = []
    for layer in architecture.layers:
        if layer.shortcut is not None:
            body = places[layer.shortcut] + 1
            inner = (other.level for other in found if places[other.body] >= body)
            found.append(Shortcut(layer, names[body], 1 + max(inner, default=0)))
    return found


def make_groups(architecture: Architecture, shortcuts: Sequence[Shortcut]) -> list[Group]:
    """Gathers an architecture's layers into groups.

    Args:
      architecture: the architecture.
      shortcuts: its shortcuts. The body of each begins with a group.

    Returns:
      The groups in order; the first one begins with the images, as a layer of their own.
    """
    num_branches = Counter(shortcut.body for shortcut in shortcuts)
    images = replace(
        architecture.layers[0],
        name=IMAGES,
        kind=IMAGES,
        options={},
        output_shape=architecture.image_shape,
        num_parameters=0,
    )
    gathered: list[list[Layer]] = [[images]]
    for layer in architecture.layers:
        is_slice = family(layer.kind) in _SLICES and len(gathered[-1]) <= _MOST_SLICES
        if is_slice and not num_branches[layer.name]:
            gathered[-1].append(layer)
        else:
            gathered.append([layer])

    groups: list[Group] = []
    shown: Shape = ()
    for layers in gathered:
        shape = groups[-1].layers[-1].output_shape if groups else ()
        is_new = shape != shown and layers[0].kind != "residual"
        shown = shape if is_new else shown
        groups.append(_make_group(layers, shape, is_new, num_branches[layers[0].name]))
    return groups


def family(kind: str) -> str:
    """Returns the family that layers of a kind belong to, a word for the legend."""
    return _FAMILIES.get(kind, "activation")


@functools.cache
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Returns how wide a text is."""
    font = FontProperties(family=FONT, size=size, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def _make_group(
    layers: Sequence[Layer], shape: Shape, is_new_shape: bool, num_branches: int
) -> Group:
    solids: list[Solid] = []
    end = block_width = 0.0
    if layers[0].kind == "residual":
        block_width = 2 * SUM_RADIUS
        end = block_width + (_AFTER_SUM if len(layers) > 1 else 0)
    for layer in layers:
        if layer.kind != "residual":
            solids += _make_solids(layer, end)
            end = solids[-1].left + solids[-1].width
            block_width = block_width or end
    depth = solids[-1].depth[0] if solids else 0.0
    label, parameters = _make_label(layers)
    widths = [text_width(line, SMALL) for line in (*label[1:], parameters)]
    widths += [text_width(line, LABEL, bold=True) for line in label[:1]]
    return Group(
        layers=tuple(layers),
        shape=shape,
        is_new_shape=is_new_shape,
        num_branches=num_branches,
        solids=tuple(replace(solid, side=solids[0].family) for solid in solids),
        block_width=block_width,
        end=end + depth / 2,
        width=end + depth,
        label=label,
        parameters=parameters,
        label_width=max(widths),
    )


def _make_solids(layer: Layer, left: float) -> list[Solid]:
    """Returns what is drawn for a layer: its block or slice, and its activation= as a band."""
    *sides, channels = layer.output_shape
    if sides:
        height, depth = _scale(sides[0]), (0.26 * _scale(sides[1]), 0.18 * _scale(sides[1]))
        width = 6 + 5 * math.log2(1 + channels)
    else:
        height, depth, width = min(0.8 * _scale(channels), 170.0), (0.0, 0.0), 22.0
    own, text = family(layer.kind), ""
    if own in _SLICES or own == "flatten":
        width = _SLICE
        values = [f"{layer.options[name]:g}" for name in ("rate", "slope") if name in layer.options]
        text = " ".join([layer.kind, *values])
    solid = Solid(own, own, left, width, height + depth[1], depth, text)
    if layer.options.get("activation", "none") == "none":
        return [solid]
    return [solid, replace(solid, family="activation", left=left + width, width=_BAND)]


def _scale(count: int) -> float:
    """Returns how long a side of so many pixels is drawn."""
    return 42 + 14 * math.log2(1 + count)


def _make_label(layers: Sequence[Layer]) -> tuple[tuple[str, ...], str]:
    """Returns the lines under a group, its block's name first, and the line of its parameters."""
    head, options = layers[0], layers[0].options
    lines = [] if family(head.kind) in {*_SLICES, "flatten"} else [head.name]
    if "filters" in options:
        lines.append(f"{format_shape(options['kernel_size'])}, {options['filters']:,} filters")
    if "pool_size" in options:
        lines.append(format_shape(options["pool_size"]))
    if "units" in options:
        lines.append(f"{options['units']:,} units")
    usual_step = options.get("pool_size", (1, 1))
    for name in ("stride", "dilation", "projection_stride"):
        step = options.get(name, usual_step)
        if step != usual_step:
            size = step[0] if step[0] == step[1] else format_shape(step)
            lines.append(f"{name.removeprefix('projection_')} {size}")
    usual_padding = "valid" if "pool_size" in options else "same"
    if options.get("padding", usual_padding) != usual_padding:
        lines.append(f"padding {options['padding']}")
    if options.get("activation", "none") != "none":
        lines.append(options["activation"])
    counts = [f"{layer.num_parameters:,}" for layer in layers if layer.num_parameters]
    return tuple(lines), f"{' + '.join(counts)} parameters" if counts else ""
