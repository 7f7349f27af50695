from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from predict.digits import NoInkError
from tests.page_fixtures import assert_same_digits, count_by_line, find, print_page, write

LINES = ["0123", "45678", "92"]


def test_digits_come_in_reading_order_with_their_lines():
    digits = find(print_page(write(LINES)))
    assert [digit.line for digit in digits] == [0] * 4 + [1] * 5 + [2] * 2
    for line in range(3):
        left = [digit.box[0] for digit in digits if digit.line == line]
        assert left == sorted(left)


@pytest.mark.parametrize("degrees", [-4, 4])
def test_lines_of_a_turned_page(degrees):
    page = Image.fromarray(print_page(np.pad(write(LINES), 60)))
    fill = (230, 230, 230)
    turned = page.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)
    assert count_by_line(np.asarray(turned)) == [4, 5, 2]


@pytest.mark.parametrize("softness", [1, 60])
def test_shadow(softness):
    cover = write(LINES)
    down, across = np.mgrid[: cover.shape[0], : cover.shape[1]]
    light = 1 - 0.5 / (1 + np.exp(-np.clip((across - down - 60) / softness, -50, 50)))
    page = print_page(cover)
    assert_same_digits(np.rint(page * light[:, :, None]).astype(np.uint8), page)


@pytest.mark.parametrize("darkest", [0.45, 0.6])
def test_shadow_whose_edge_goes_through_digits(darkest):
    page = print_page(write(["08356"])).astype(float)
    middle = page.shape[0] // 2
    row = np.arange(page.shape[0])[:, None, None]
    shaded = np.rint(page * np.where(row < middle, 1, darkest)).astype(np.uint8)
    assert_same_digits(shaded, page.astype(np.uint8))


@pytest.mark.parametrize("table", [40, 110])
def test_sheet_on_a_darker_table(table):
    """The table has more area than the sheet, and is a paper that light ink could be on."""
    sheet = print_page(write(["0123456789", "3456789012", "5678901234", "7890"]))
    height, width = sheet.shape[:2]
    page = np.full((2 * height, 2 * width, 3), table, np.uint8)
    page[height // 3 : height // 3 + height, width // 2 : width // 2 + width] = sheet
    assert count_by_line(page) == [10, 10, 10, 4]


def test_frame_far_higher_than_the_writing():
    page = print_page(write(["0123456789", "98765432"]))
    grid = np.pad(page, ((60, 400), (60, 0), (0, 0)), constant_values=230)
    slope = np.arange(grid.shape[1]) // 12  # Too steep for a rule.
    for top in (20, 600):
        for thickness in range(2):
            grid[top + thickness + slope, np.arange(grid.shape[1])] = 40
    for left in (6, grid.shape[1] - 16):
        grid[20 : 620 + int(slope[left]), left : left + 2] = 40
    grid = np.pad(grid, ((40, 40), (40, 40), (0, 0)), constant_values=230)
    assert count_by_line(grid) == [10, 8]


def rule(cover, *, distance, thickness, squared=False):
    paper = np.full(cover.shape, 230.0)
    for start in range(distance // 2, cover.shape[0], distance):
        paper[start : start + thickness] = 130
    if squared:
        for start in range(distance // 3, cover.shape[1], distance):
            paper[:, start : start + thickness] = 130
    return paper


@pytest.mark.parametrize("squared", [False, True])
def test_ruled_and_squared_paper(squared):
    cover = write(LINES)
    paper = rule(cover, distance=41, thickness=2, squared=squared)
    assert_same_digits(print_page(cover, paper), print_page(cover))


def test_rules_alone_are_no_digits():
    cover = np.zeros((300, 400))
    with pytest.raises(NoInkError):
        find(print_page(cover, rule(cover, distance=41, thickness=2, squared=True)))


def test_light_on_dark_beside_dark_on_light():
    cover = write(["47"], size=80)
    both = np.concatenate([print_page(cover), print_page(cover, 40.0, 230)])
    assert count_by_line(both) == [2, 2]
    upper, lower = find(both)[:2], find(both)[2:]
    for one, other in zip(upper, lower, strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 3


def test_colours_of_ink_on_one_page():
    cover = write(LINES)
    page = print_page(cover).astype(float)
    half = page.shape[1] // 2
    share = cover[:, :half, None]
    page[:, :half] = 230 * (1 - share) + np.array([190, 40, 40]) * share
    assert count_by_line(page.astype(np.uint8)) == [4, 5, 2]


def test_specks_are_dropped():
    cover = write(LINES)
    generator = np.random.default_rng(1)
    for row, column in zip(
        generator.integers(0, cover.shape[0] - 3, 60),
        generator.integers(0, cover.shape[1] - 3, 60),
        strict=True,
    ):
        cover[row : row + 3, column : column + 3] = 1
    assert count_by_line(print_page(cover)) == [4, 5, 2]


def test_pieces_of_a_broken_five_are_joined():
    cover = write(["1551"])
    broken = cover.copy()
    left = find(print_page(cover))[1].box[0]
    top, height = find(print_page(cover))[1].box[1], find(print_page(cover))[1].box[3]
    # The flag comes off: a gap below the upper bar, from the stem to its end.
    gap = top + height // 6
    broken[gap : gap + 4, left : left + 40] = 0
    assert [digit.box[0] for digit in find(print_page(broken))] == [
        digit.box[0] for digit in find(print_page(cover))
    ]


def test_touching_digits_are_split_where_it_is_clear():
    cover = write(["000", "000"])
    first, second, _ = find(print_page(cover))[:3]
    middle = first.box[1] + first.box[3] // 2
    cover[middle : middle + 4, first.box[0] + first.box[2] - 2 : second.box[0] + 2] = 1
    digits = find(print_page(cover))
    assert [digit.line for digit in digits] == [0, 0, 0, 1, 1, 1]
    assert digits[0].box[0] + digits[0].box[2] <= digits[1].box[0] + 1


def test_wide_digit_is_not_split():
    cover = write(["000", "000"])
    wide = np.asarray(Image.fromarray(cover.astype(np.float32)).resize((420, cover.shape[0])))
    assert count_by_line(print_page(wide)) == [3, 3]


def test_digit_cut_by_the_border_is_kept():
    cover = write(["38", "05"])
    right = find(print_page(cover))[1].box
    cut = cover[:, : right[0] + right[2] * 2 // 3]
    digits = find(print_page(cut))
    assert [digit.line for digit in digits] == [0, 0, 1, 1]
    assert digits[1].box[0] + digits[1].box[2] == cut.shape[1]


def test_dark_margin_is_no_digit():
    page = print_page(write(LINES))
    page[:, :9] = 20
    page[-7:] = 30
    assert count_by_line(page) == [4, 5, 2]


def test_pencil_on_noisy_paper():
    cover = write(LINES)
    noise = np.random.default_rng(2).normal(0, 5, cover.shape)
    assert count_by_line(print_page(cover, 215 + noise, 150)) == [4, 5, 2]


@pytest.mark.parametrize("level", [60, 200])
def test_blank_noisy_paper_holds_nothing(level):
    noise = np.random.default_rng(4).normal(level, 9, (420, 560))
    with pytest.raises(NoInkError, match="no ink found"):
        find(print_page(np.zeros(noise.shape), noise))


def test_picture_of_20_pixels():
    cover = np.zeros((20, 13))
    cover[4:16, 6:8] = 1
    (digit,) = find(print_page(cover))
    assert digit.box == (6, 4, 2, 12)


def test_picture_of_6000_pixels_in_bounded_time():
    cover = np.zeros((700, 6000))
    small = write(["4071"], size=140, gap=60)
    cover[100 : 100 + small.shape[0], 5000 : 5000 + small.shape[1]] = small[:, :1000]
    pixels = print_page(cover)
    started = time.process_time()
    digits = find(pixels)
    assert time.process_time() - started < 5
    assert len(digits) == 4
    assert all(digit.box[0] > 5000 and digit.box[3] > 80 for digit in digits)


def test_scribbled_page_takes_bounded_time():
    generator = np.random.default_rng(6)
    dots = generator.random((900, 900)) < 0.04
    started = time.process_time()
    try:
        find(print_page(dots.astype(float)))
    except NoInkError:
        pass
    assert time.process_time() - started < 20
