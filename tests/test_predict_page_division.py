import numpy as np
import pytest

from predict.page.division import divide, find_chains
from predict.page.touching import find_cuts


def ring(height=60, width=44, pen=7):
    """An ellipse's outline, bool [height, width]."""
    rows, columns = np.mgrid[:height, :width]
    down, across = (rows - height / 2 + 0.5) / height * 2, (columns - width / 2 + 0.5) / width * 2
    inner = (down / (1 - 2 * pen / height)) ** 2 + (across / (1 - 2 * pen / width)) ** 2
    return (down**2 + across**2 <= 1) & (inner > 1)


def chain_of_rings(count):
    """Rings side by side; a thin stroke connects each with the next."""
    ink = np.zeros((60, 47 * count - 3), bool)
    for index in range(count):
        ink[:, 47 * index : 47 * index + 44] |= ring()
        ink[30:35, 47 * index + 42 : 47 * index + 49] |= index + 1 < count
    return ink


def divide_mask(mask):
    return divide(255 * mask.astype(np.uint8), mask.astype(int))


@pytest.mark.parametrize("count", [2, 3])
def test_rings_that_touch_are_cut_where_they_touch(count):
    mask = chain_of_rings(count)
    division = divide_mask(mask)
    assert len(division.usual) == count
    for index, (start, end) in enumerate(division.usual):
        columns = np.flatnonzero(((division.parts > start) & (division.parts <= end)).any(axis=0))
        assert abs(columns[0] - 47 * index) <= 4 and abs(columns[-1] - 47 * index - 43) <= 4


def test_parts_are_all_the_ink_from_left_to_right_and_runs_are_of_digits_size():
    division = divide_mask(chain_of_rings(3))
    np.testing.assert_array_equal(division.parts > 0, chain_of_rings(3))
    numbers = range(1, division.parts.max() + 1)
    middles = [np.nonzero(division.parts == number)[1].mean() for number in numbers]
    assert middles == sorted(middles)
    assert set(division.usual) <= set(division.spans)
    for start, end in division.spans:
        rows, columns = np.nonzero((division.parts > start) & (division.parts <= end))
        assert np.ptp(rows) + 1 >= 36 and np.ptp(columns) + 1 <= 1.6 * (np.ptp(rows) + 1)


def test_cut_is_clear_through_one_stroke_and_not_through_two():
    touching = find_cuts(chain_of_rings(2))
    (clear,) = [cut for cut in touching if cut.is_clear]
    assert np.abs(clear.columns - 45).max() <= 8
    assert not any(cut.is_clear for cut in find_cuts(ring()))


def test_cuts_have_ink_between_them_and_go_from_left_to_right():
    mask = chain_of_rings(3)
    cuts = find_cuts(mask)
    middles = [cut.columns[30] for cut in cuts]
    assert middles == sorted(middles)
    left_of = [(mask & (np.arange(mask.shape[1]) < cut.columns[:, None])).sum() for cut in cuts]
    assert np.diff([0, *left_of, mask.sum()]).min() > 0.3 * 60 * 7  # of a stroke 7 pixels wide
    for cut in cuts:
        assert np.abs(np.diff(cut.columns)).max() <= 1


def test_long_row_of_digits_is_cut_as_often_as_a_short_one():
    mask = chain_of_rings(12)
    middles = np.array([cut.columns[30] for cut in find_cuts(mask)])
    for joint in range(1, 12):
        assert np.abs(middles - (47 * joint - 2)).min() <= 4


def test_cuts_are_few_where_there_is_no_end_of_them():
    assert 0 < len(find_cuts(chain_of_rings(40))) <= 24


@pytest.mark.parametrize("shape", [(1, 1), (4, 30), (30, 4), (60, 2), (7, 300)])
def test_bars_of_any_size_are_divided_into_something(shape):
    division = divide_mask(np.ones(shape, bool))
    assert division.usual[0][0] == 0 and division.usual[-1][1] == division.parts.max()


def test_pieces_stay_parts_of_their_own():
    pieces = np.zeros((60, 50), int)
    pieces[:, :6], pieces[:, 10:16] = 1, 2
    division = divide(np.where(pieces > 0, 255, 0).astype(np.uint8), pieces)
    assert division.usual == ((0, 1), (1, 2)) and (0, 2) in division.spans


def test_close_neighbours_make_a_chain():
    boxes = np.array([[0, 20, 60, 40], [0, 0, 60, 18], [5, 43, 58, 60], [0, 90, 60, 110]])
    assert find_chains(boxes, 60.0) == [[1, 0, 2], [3]]


def test_boxes_above_each_other_make_none():
    boxes = np.array([[0, 0, 60, 18], [55, 20, 115, 40]])
    assert find_chains(boxes, 60.0) == [[0], [1]]
