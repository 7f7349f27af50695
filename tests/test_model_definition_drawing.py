import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from model_definition.architecture import Architecture, load_architecture, parse_architecture
from model_definition.drawing import draw_network, encode
from model_definition.drawing_groups import SMALL, text_width
from model_definition.drawing_layout import BRANCH, MARGIN, Layout, arrange

RESIDUAL = "residual\nconv 6 3x3 activation=none\nbatchnorm\nend\nrelu\n"
NESTED = """
batchnorm
residual
residual
batchnorm
leaky_relu slope=0.1
separable_conv 7 1x2 stride=2 activation=none
end
conv 9 3x3 dilation=2 activation=sigmoid
end
avgpool 2x2 stride=1
dropout 0.25
flatten
residual
dense 31 activation=tanh
dense 17
end
output
"""
NETWORKS = {
    "linear": "flatten\noutput",
    "wide": "separable_conv 12345 3x3 padding=valid\nglobal_avgpool\ndense 1234\ndense 7\noutput",
    "nested": NESTED,
    "long": f"conv 6 3x3\nrepeat 30\n{RESIDUAL}end\nglobal_avgpool\noutput",  # 123 layers
    "long body": f"residual\nrepeat 30\n{RESIDUAL}end\nend\nglobal_avgpool\noutput",
    "slices": "conv 6 3x3\nrepeat 40\nbatchnorm\nend\nflatten\noutput",
    "small images": "maxpool 5x5\nmaxpool 2x1\nbatchnorm\nleaky_relu\nflatten\noutput",
}


def parse(text: str, filename: str = "some/net.txt") -> Architecture:
    return parse_architecture(text, filename=filename, image_shape=(13, 9, 3), num_classes=5)


def lay_out(text: str) -> Layout:
    return arrange(parse(text), min_width=0)


def svg_texts(architecture: Architecture) -> list[str]:
    root = ElementTree.fromstring(encode(draw_network(architecture), "svg"))
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_lenet_is_drawn_with_its_names_shapes_and_sizes():
    lenet = load_architecture("lenet", image_shape=(28, 28, 1), num_classes=10)
    assert svg_texts(lenet) == [
        "lenet: 3,274,634 parameters, 13.9 M multiply-adds",
        *("convolution", "pooling", "activation", "dropout", "dense", "output"),
        *("images",),
        *("28x28x1", "conv1", "5x5, 32 filters", "relu", "832 parameters"),
        *("28x28x32", "maxpool1", "2x2"),
        *("14x14x32", "conv2", "5x5, 64 filters", "relu", "51,264 parameters"),
        *("14x14x64", "maxpool2", "2x2"),
        *("7x7x64", "flatten"),
        *("3136", "dropout 0.5", "dense1", "1,024 units", "relu", "3,212,288 parameters"),
        *("1024", "output", "10,250 parameters"),
    ]


def test_options_that_change_the_picture_are_written():
    texts = svg_texts(parse(NESTED))
    written = {"stride 2", "stride 1", "dilation 2", "leaky_relu 0.1", "sigmoid", "tanh"}
    assert written <= set(texts)
    assert texts.count("1x1 conv") == 2  # the projections
    assert texts.count("dense") == 2  # in the legend, and a projection
    assert "padding valid" in svg_texts(parse("conv 2 3x3 padding=valid\nflatten\noutput"))
    assert "padding same" in svg_texts(parse("maxpool 2x2 padding=same\nflatten\noutput"))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parameters_written_are_all_there_are(name):
    architecture = parse(NETWORKS[name])
    _, *texts = svg_texts(architecture)
    written = [text for text in texts if text.endswith(" parameters")]
    counts = [int(n.replace(",", "")) for text in written for n in re.findall("[0-9,]+", text)]
    assert sum(counts) == architecture.num_parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_no_text_lies_on_another_or_outside(name):
    figure = draw_network(parse(NETWORKS[name]))
    canvas = FigureCanvasAgg(figure)
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    with matplotlib.rc_context({"text.hinting": "none"}):
        boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    width, height = figure.bbox.size
    assert [text for text, box in boxes if box.x0 < 0 or box.x1 > width] == []
    assert [text for text, box in boxes if box.y0 < 0 or box.y1 > height] == []
    assert [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.overlaps(other)] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_stand_side_by_side_and_rows_below_each_other(name):
    layout = lay_out(NETWORKS[name])
    architecture = parse(NETWORKS[name])
    layers = [layer for row in layout.rows for p in row.places for layer in p.group.layers]
    assert [layer.name for layer in layers[1:]] == [layer.name for layer in architecture.layers]
    for row in layout.rows:
        assert row.top <= row.ceiling < row.middle < row.floor <= row.bottom
        for before, place in pairwise(row.places):
            assert place.left > before.right
            room = place.left - place.clear - place.group.num_branches * BRANCH
            assert text_width(place.shape, SMALL) < room
        assert row.places[0].left >= MARGIN
        assert max(place.right for place in row.places) <= layout.width - MARGIN
    for above, below in pairwise(layout.rows):
        assert above.bottom < below.top
    assert layout.rows[-1].bottom < layout.height


def blocks(text: str) -> dict:
    layout = lay_out(text)
    places = [place for row in layout.rows for place in row.places]
    return {p.group.layers[0].name: p.group.solids[0] for p in places if p.group.solids}


def test_size_of_a_block_hints_at_the_shape():
    drawn = blocks("conv 4 3x3\nmaxpool 2x1\nconv 40 3x3\nmaxpool 1x2\nflatten\ndense 9\noutput")
    assert drawn["conv1"].height > drawn["maxpool1"].height  # half as high
    assert drawn["conv1"].depth == drawn["maxpool1"].depth  # as wide
    assert drawn["conv2"].depth[0] > drawn["maxpool2"].depth[0]  # half as wide
    assert drawn["conv2"].width > drawn["maxpool1"].width == drawn["conv1"].width  # channels
    assert drawn["dense1"].height > drawn["output"].height
    assert drawn["dense1"].depth == (0, 0)


def test_slices_stick_to_the_block_before_them():
    layout = lay_out("conv 4 3x3\nbatchnorm\nrelu\nmaxpool 2x2\ndropout 0.1\nflatten\noutput")
    names = [[layer.name for layer in place.group.layers] for place in layout.rows[0].places]
    assert names == [
        ["images"],
        ["conv1", "batchnorm1", "relu1"],
        ["maxpool1", "dropout1"],
        ["flatten1"],
        ["output"],
    ]
    conv, band, batchnorm, relu = layout.rows[0].places[1].group.solids
    assert [conv.family, band.family] == ["convolution", "activation"]  # its activation=relu
    assert batchnorm.left == band.left + band.width
    assert (relu.text, relu.height, relu.side) == ("relu", conv.height, "convolution")


def test_shortcuts_lead_from_the_body_to_the_sum_and_the_outer_one_runs_higher():
    layout = lay_out(NESTED)
    places = {p.group.layers[0].name: p for row in layout.rows for p in row.places}
    inner, outer, flat = layout.arcs
    assert [arc.projection for arc in layout.arcs] == ["convolution", "convolution", "dense"]
    assert inner.end == places["residual1"].centre
    assert outer.end == places["residual2"].centre
    assert flat.end == places["residual3"].centre
    body = places["batchnorm2"]
    assert outer.start is not None and inner.start is not None
    assert body.clear < outer.start < inner.start < body.left
    assert outer.y < inner.y < inner.row.ceiling
    assert outer.y >= outer.row.top
    assert lay_out("residual\nbatchnorm\nend\nflatten\noutput").arcs[0].projection == ""


def test_a_residual_shares_a_row_where_it_can():
    layout = lay_out(NETWORKS["long"])
    assert len(layout.rows) > 3
    assert len(layout.arcs) == 30
    assert all(arc.start is not None and arc.end is not None for arc in layout.arcs)


def test_a_residual_longer_than_a_row_goes_on_in_the_next():
    layout = lay_out(NETWORKS["long body"])
    parts = [arc for arc in layout.arcs if arc.start is None or arc.end is None]
    assert len(layout.arcs) - len(parts) == 30  # Those within it stay whole.
    assert len(parts) == len(layout.rows) > 3
    assert [part.row for part in parts] == list(layout.rows)
    assert [part.start is None for part in parts] == [False] + [True] * (len(parts) - 1)
    assert [part.end is None for part in parts] == [True] * (len(parts) - 1) + [False]


@pytest.mark.parametrize("num_layers", [30, 200, 490])
def test_long_networks_make_a_page(num_layers):
    layout = lay_out(f"repeat {num_layers}\nconv 4 3x3\nend\nglobal_avgpool\noutput")
    assert len(layout.rows) > 2
    assert 0.4 < layout.height / layout.width < 1.5
    lengths = [row.places[-1].right for row in layout.rows]
    assert max(lengths[:-1]) - min(lengths[:-1]) < 0.15 * max(lengths)


def test_rows_are_about_equally_long():
    layout = lay_out("repeat 10\nconv 4 3x3\nend\nglobal_avgpool\noutput")
    first, second = (row.places[-1].right for row in layout.rows)
    assert second > 0.8 * first


def test_a_shape_is_written_where_it_is_new():
    texts = svg_texts(parse("flatten\nresidual\ndense 9\nend\ndense 4\ndense 4\noutput"))
    # Not into the sum, but out of it; not twice in a row.
    assert [text for text in texts if re.fullmatch("[0-9x]+", text)] == ["13x9x3", "351", "9", "4"]


def test_legend_names_what_is_there():
    texts = svg_texts(parse("conv 2 3x3 activation=none\nflatten\noutput"))
    assert texts[1:3] == ["convolution", "output"]
    assert texts[3] == "images"
    texts = svg_texts(parse("batchnorm\nconv 2 3x3 activation=none\nelu\nflatten\noutput"))
    assert texts[1:5] == ["convolution", "normalisation", "activation", "output"]


@pytest.mark.parametrize("file_format", ["svg", "png"])
def test_bytes_depend_on_the_network_alone(file_format):
    picture = encode(draw_network(parse(NESTED)), file_format)
    with matplotlib.rc_context({"font.size": 30, "savefig.bbox": "tight", "savefig.dpi": 20}):
        again = encode(draw_network(parse(NESTED)), file_format)
        assert matplotlib.rcParams["font.size"] == 30
    assert again == picture
    assert encode(draw_network(parse(RESIDUAL + "flatten\noutput")), file_format) != picture
    assert b"matplotlib" not in picture.lower()  # its version would change with it


def test_svg_is_small_and_keeps_its_text_and_fonts_generic():
    svg = encode(draw_network(parse(NESTED)), "svg").decode()
    assert len(svg) < 60_000
    assert "'DejaVu Sans', sans-serif" in svg
    assert "<image" not in svg
    assert "clip-path" not in svg


def test_png_has_two_pixels_a_point():
    figure = draw_network(parse(NETWORKS["linear"]))
    png = encode(figure, "png")
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    points = figure.get_size_inches() * 72
    assert [width, height] == [int(2 * side) for side in points]


@pytest.mark.parametrize(
    ("stem", "title"),
    [
        ("$x$ & <b>", "$x$ & <b>"),  # letters, neither a formula nor markup
        ("ネット", "ネット"),  # which the font lacks
        ("a\nb\x01", "a?b?"),
        ("long" * 50, ("long" * 50)[:59] + "…"),
    ],
)
def test_title_of_any_name(stem, title):
    texts = svg_texts(parse("flatten\noutput", filename=f"{stem}.txt"))
    assert texts[0] == f"{title}: 1,760 parameters, 1,755 multiply-adds"
