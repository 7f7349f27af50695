import numpy as np
import pytest

from eval.figures import draw_confusion_matrix, draw_mistakes

DIGITS = [str(digit) for digit in range(10)]
WHITE = (255, 255, 255)


def is_blue(picture: np.ndarray) -> np.ndarray:
    """Returns where a picture is clearly blue, bool [height, width]."""
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return blue - red > 80


def is_red(picture: np.ndarray) -> np.ndarray:
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return red - blue > 40


def assert_is_picture(picture: np.ndarray) -> None:
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[-1] == 3
    border = np.concatenate([picture[:10].reshape(-1, 3), picture[:, :10].reshape(-1, 3)])
    assert np.all(border == 255)
    assert np.any(picture != 255)


def test_rows_are_labels_and_columns_are_predictions():
    counts = np.diag([50] * 4)
    counts[3, 0] = 9  # label 3, taken for 0: bottom left
    picture = draw_confusion_matrix(counts, ["a", "b", "c", "d"])
    assert_is_picture(picture)
    blue_rows, blue_columns = np.nonzero(is_blue(picture))
    red_rows, red_columns = np.nonzero(is_red(picture))
    cell = (np.ptp(blue_rows) + 1) / 4
    assert cell == pytest.approx(52, abs=1)
    assert red_rows.min() >= blue_rows.min() + 3 * cell - 1
    assert red_rows.max() <= blue_rows.max()
    assert red_columns.min() >= blue_columns.min() - 1
    assert red_columns.max() <= blue_columns.min() + cell + 1


def test_a_rare_mistake_shows_beside_a_common_class():
    counts = np.array([[9_999, 1], [0, 10_000]])
    picture = draw_confusion_matrix(counts, ["a", "b"])
    assert is_red(picture).sum() > 1_000
    assert not np.any(is_red(draw_confusion_matrix(np.diag([5, 6]), ["a", "b"])))


def test_the_counts_are_written():
    seven, eight = (draw_confusion_matrix(np.diag([7, n]), ["a", "b"]) for n in (7, 8))
    assert seven.shape == eight.shape
    assert np.any(seven[60:] != eight[60:])  # below the title, which counts as well


@pytest.mark.parametrize("num_classes", [1, 2, 10, 47, 200])
def test_confusion_matrix_of_any_number_of_classes(num_classes):
    generator = np.random.default_rng(0)
    counts = generator.poisson(0.2, (num_classes, num_classes)) + np.diag([1234] * num_classes)
    picture = draw_confusion_matrix(counts, [f"class {n}" for n in range(num_classes)])
    assert_is_picture(picture)
    assert max(picture.shape) < 1_700
    assert min(picture.shape[:2]) > 5 * num_classes


def test_confusion_matrix_of_no_images():
    picture = draw_confusion_matrix(np.zeros((3, 3), np.int64), ["a", "b", "c"])
    assert_is_picture(picture)
    assert not np.any(is_blue(picture) | is_red(picture))


def test_class_names_that_are_not_plain_words():
    counts = np.diag([1, 2, 3, 4])
    expected = draw_confusion_matrix(counts, ["0", "1", "$x", "3"])
    # Without a glyph, with a line break, empty: the number stands in; a $ begins no formula.
    picture = draw_confusion_matrix(counts, ["お", "a\nb", "$x", " "])
    np.testing.assert_array_equal(picture, expected)
    assert_is_picture(draw_confusion_matrix(counts, ["$x$", r"$\frac{$", "%", "\\"]))
    long, cut = (draw_confusion_matrix(counts, [n] * 4) for n in ("a" * 999, "a" * 15 + "…"))
    np.testing.assert_array_equal(long, cut)


def draw(images: np.ndarray, class_names: list[str] = DIGITS) -> np.ndarray:
    n = len(images)
    labels, predictions = np.arange(n) % 10, (np.arange(n) + 1) % 10
    return draw_mistakes(images, labels, predictions, np.linspace(1, 0.5, n), class_names)


def test_mistakes_are_drawn_in_order_from_left_to_right():
    images = np.zeros((9, 14, 28, 3), np.uint8)
    images[:8, ..., 0] = 255  # eight red ones fill the first row
    images[8, ..., 2] = 255  # a blue one is alone in the second
    picture = draw(images)
    assert_is_picture(picture)
    red_rows, red_columns = np.nonzero(is_red(picture))
    blue_rows, blue_columns = np.nonzero(is_blue(picture))
    assert (np.ptp(blue_rows) + 1, np.ptp(blue_columns) + 1) == (56, 112)  # 4 times as large
    assert blue_rows.min() > red_rows.max()
    assert abs(blue_columns.min() - red_columns.min()) <= 1
    assert len(red_rows) == 8 * len(blue_rows)


def test_grey_images_keep_their_pixels():
    image = np.array([[0, 255, 128], [40, 80, 120]], np.uint8)
    picture = draw(np.tile(image[None, ..., None], (1, 14, 7, 1)))
    grey = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert {(v, v, v) for v in image.ravel()} <= grey


def test_the_title_says_what_was_read_as_what():
    image = np.zeros((1, 28, 28, 1), np.uint8)
    rows = [(7, 1, 0.99), (7, 1, 0.98), (7, 2, 0.99), (4, 1, 0.99)]
    titles = [
        draw_mistakes(image, np.array([label]), np.array([prediction]), np.array([p]), DIGITS)
        for label, prediction, p in rows
    ]
    assert len({title.tobytes() for title in titles}) == 4


def test_long_names_do_not_run_into_each_other():
    names = ["a very long class name", *DIGITS[1:]]
    picture = draw_mistakes(
        np.zeros((2, 9, 9, 1), np.uint8), np.array([0, 0]), np.array([1, 0]), np.ones(2), names
    )
    assert_is_picture(picture)
    title = np.any(picture[16:30] != WHITE, axis=(0, 2))  # the titles' first line
    drawn = np.flatnonzero(title)
    assert np.diff(drawn).max() > 15


def test_no_mistakes_are_a_picture_too():
    picture = draw(np.zeros((0, 28, 28, 1), np.uint8))
    assert_is_picture(picture)


def test_large_images_are_made_smaller():
    assert draw(np.zeros((1, 300, 200, 3), np.uint8)).shape[0] < 200
