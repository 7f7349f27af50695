from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from predict.annotate import draw_inputs, draw_reading, write_png
from predict.reader import ReadDigit, Reading

BLUE, ORANGE = (0, 90, 200), (190, 70, 0)


def read_digit(box, *, line=0, is_digit=True, shade=0, channels=1):
    return ReadDigit(
        box=box,
        line=line,
        digit=1,
        class_name="1",
        probabilities=(0.25, 0.75),
        score=None,
        is_digit=is_digit,
        image=np.full((3, 2, channels), shade, np.uint8),
    )


def draw(digits, shape=(600, 800), shade=255):
    pixels = np.full((*shape, 3), shade, np.uint8)
    return np.asarray(draw_reading(pixels, Reading("", tuple(digits))))


def is_colour(pixels, colour):
    return (pixels == colour).all(axis=2)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_box_is_drawn_around_the_digit_and_not_over_it(shade):
    drawn = draw([read_digit((300, 200, 90, 150))], shade=shade)
    assert drawn.shape == (600, 800, 3)
    assert (drawn[200:350, 300:390] == shade).all()
    blue = is_colour(drawn, BLUE)
    assert blue[270, 290:300].any() and blue[270, 390:400].any() and blue[350:360, 345].any()
    white = is_colour(drawn, (255, 255, 255))
    assert white[270, 280:300].any() and white[270, 390:410].any()  # legible on any background
    label = drawn[:200]  # above the box, with white writing on blue
    assert is_colour(label, BLUE).sum() > 1000
    assert is_colour(label, (255, 255, 255)).sum() > 100


def test_rejected_region_is_dashed_and_of_another_colour():
    drawn = draw([read_digit((300, 200, 90, 150), is_digit=False)])
    assert not is_colour(drawn, BLUE).any()
    orange = is_colour(drawn, ORANGE)
    side = orange[200:350, 290:300].any(axis=1)
    assert 0.3 < side.mean() < 0.7 and np.abs(np.diff(side.astype(int))).sum() >= 4
    assert orange[:200].sum() > 1000


@pytest.mark.parametrize(
    "box", [(0, 0, 800, 600), (0, 0, 30, 40), (770, 560, 30, 40), (799, 599, 1, 1), (0, 590, 5, 10)]
)
def test_label_stays_in_the_picture(box):
    drawn = draw([read_digit(box)])
    blue = is_colour(drawn, BLUE)
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert blue.sum() > 200
    labels = is_colour(drawn[rows[0] : rows[-1], columns[0] : columns[-1]], (255, 255, 255))
    assert labels.sum() > 20


def test_small_picture_is_enlarged_to_be_legible():
    pixels = np.arange(28 * 20 * 3).astype(np.uint8).reshape(28, 20, 3)
    drawn = np.asarray(draw_reading(pixels, Reading("", (read_digit((4, 9, 10, 11)),))))
    assert drawn.shape == (28 * 15, 20 * 15, 3)
    enlarged = pixels[9:20, 4:14].repeat(15, axis=0).repeat(15, axis=1)
    assert np.array_equal(drawn[9 * 15 : 20 * 15, 4 * 15 : 14 * 15], enlarged)


def test_one_pixel_and_many_regions():
    assert draw([read_digit((0, 0, 1, 1))], shape=(1, 1)).shape == (400, 400, 3)
    assert draw([read_digit((x, 10, 3, 3)) for x in range(0, 500, 5)]).shape == (600, 800, 3)


def test_input_of_one_digit_is_enlarged_and_nothing_else():
    (digit,) = [read_digit((0, 0, 1, 1), shade=7, channels=3)]
    assert np.array_equal(np.asarray(draw_inputs([digit])), np.full((30, 20, 3), 7))


def test_inputs_of_a_page_are_a_sheet_with_its_lines():
    digits = [
        read_digit((0, 0, 1, 1), line=line, shade=shade)
        for line, shade in ((0, 10), (0, 20), (0, 30), (2, 40))
    ]
    sheet = np.asarray(draw_inputs(digits))
    assert sheet.shape == (2 * 30 + 4, 3 * 20 + 2 * 4)
    assert [sheet[15, 10 + 24 * column] for column in range(3)] == [10, 20, 30]
    assert [sheet[49, 10 + 24 * column] for column in range(3)] == [40, 128, 128]
    assert sheet[32, 10] == 128 and sheet[15, 22] == 128


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_png(path, Image.new("L", (5, 4), 9))
    assert np.asarray(Image.open(path)).shape == (4, 5)

    def fail(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_png(path, Image.new("L", (1, 1)))
    assert np.asarray(Image.open(path)).shape == (4, 5)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
