import numpy as np
import pytest

from eval.metrics import NUM_BINS, NUM_THRESHOLDS, StreamingMetrics, wilson_interval


def make_examples(n: int, num_classes: int, seed: int = 0):
    """Returns float32 [n, 3, 2, 1] images that hold their index, labels, and probabilities."""
    generator = np.random.default_rng(seed)
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 3, 2, 1))
    labels = generator.integers(0, num_classes, n)
    logits = generator.normal(size=(n, num_classes)) * 2
    logits[np.arange(n), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return images, labels, probabilities.astype(np.float32)


def count(labels, probabilities, *, num_mistakes: int = 4) -> StreamingMetrics:
    """Adds examples in one piece, with blank images."""
    probabilities = np.array(probabilities, np.float32)
    metrics = StreamingMetrics(probabilities.shape[1], num_mistakes=num_mistakes)
    images = np.zeros((len(labels), 2, 3, 1), np.float32)
    metrics.update(images, np.array(labels), probabilities)
    return metrics


# Published: Newcombe 1998 (Statistics in Medicine 17), table I, method 3, to four decimals.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("n", [1, 7, 10_000])
def test_wilson_interval_stays_between_0_and_1(n):
    nothing, everything = wilson_interval(0, n), wilson_interval(n, n)
    assert nothing[0] == pytest.approx(0, abs=1e-12)
    assert everything[1] == pytest.approx(1, abs=1e-12)
    assert 0 <= nothing[0] < nothing[1] < 1
    assert 0 < everything[0] < everything[1] <= 1


def test_confusion_has_a_row_for_each_label():
    metrics = count([2, 2, 0], [[0.1, 0.7, 0.2], [0.0, 0.2, 0.8], [0.6, 0.4, 0.0]])
    assert metrics.num_examples == 3
    assert metrics.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_top_2_accuracy():
    probabilities = [[0.5, 0.3, 0.2]] * 3
    assert count([0], probabilities[:1]).top_2_accuracy == 1
    assert count([0, 1, 2], probabilities).top_2_accuracy == pytest.approx(2 / 3)


def test_top_2_of_equal_probabilities_are_the_lower_labels():
    # A network that knows nothing names two of four classes, not all of them.
    assert count([0, 1, 2, 3], [[0.25] * 4] * 4).top_2_accuracy == 0.5
    assert count([0, 1, 2], [[0.2, 0.6, 0.2]] * 3).top_2_accuracy == pytest.approx(2 / 3)
    assert count([2], [[1.0, 0.0, 0.0]]).top_2_accuracy == 0


def test_one_and_two_classes_are_always_in_the_top_2():
    assert count([0, 0], [[1.0], [1.0]]).top_2_accuracy == 1
    assert count([0, 1], [[0.1, 0.9], [0.6, 0.4]]).top_2_accuracy == 1


def test_one_class_is_never_misread():
    metrics = count([0, 0, 0], [[1.0]] * 3)
    assert metrics.per_class() == [{"precision": 1, "recall": 1, "f1": 1, "support": 3}]
    assert metrics.expected_calibration_error == 0
    assert metrics.mistakes == []
    assert metrics.precision_recall(0)["true_negative_counts"].tolist() == [0] * NUM_THRESHOLDS


def test_expected_calibration_error_by_hand():
    # Two bins: around 0.9 three examples, two of them right; around 0.6 one, which is right.
    probabilities = [[0.9, 0.1], [0.92, 0.08], [0.1, 0.9], [0.62, 0.38]]
    metrics = count([0, 0, 0, 0], probabilities)
    gaps = [abs(2 / 3 - (0.9 + 0.92 + 0.9) / 3), abs(1 - 0.62)]
    expected = 3 / 4 * gaps[0] + 1 / 4 * gaps[1]
    assert metrics.expected_calibration_error == pytest.approx(expected, abs=1e-6)


def test_expected_calibration_error_against_its_definition():
    _, labels, probabilities = make_examples(1_009, 5)
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for number in range(NUM_BINS):
        is_in = (confidences >= number / NUM_BINS) & (confidences < (number + 1) / NUM_BINS)
        if is_in.any():
            expected += is_in.mean() * abs(correct[is_in].mean() - confidences[is_in].mean())
    metrics = count(labels, probabilities)
    assert expected > 0.01
    assert metrics.expected_calibration_error == pytest.approx(expected, abs=1e-6)


def test_certainty_falls_into_the_last_bin():
    assert count([0, 0], [[1.0, 0.0]] * 2).expected_calibration_error == 0
    assert count([1, 1], [[1.0, 0.0]] * 2).expected_calibration_error == 1


def test_per_class_by_hand():
    # Class 0 is read right once of twice and named three times; class 1 is never named; class 2
    # never occurs but is named once; class 3 neither occurs nor is named.
    read_as = [0, 2, 0, 0]
    metrics = count([0, 0, 1, 1], np.eye(4)[read_as])
    assert metrics.per_class() == [
        {"precision": pytest.approx(1 / 3), "recall": 0.5, "f1": pytest.approx(0.4), "support": 2},
        {"precision": None, "recall": 0, "f1": 0, "support": 2},
        {"precision": 0, "recall": None, "f1": 0, "support": 0},
        {"precision": None, "recall": None, "f1": None, "support": 0},
    ]


def test_precision_recall_against_brute_force():
    n, num_classes = 333, 3
    _, labels, probabilities = make_examples(n, num_classes)
    metrics = count(labels, probabilities)
    thresholds = np.arange(NUM_THRESHOLDS) / (NUM_THRESHOLDS - 1)
    for label in range(num_classes):
        reached = probabilities[:, label][None] >= thresholds[:, None]
        is_class = labels == label
        hits = (reached & is_class).sum(axis=1)
        false_alarms = (reached & ~is_class).sum(axis=1)
        curve = metrics.precision_recall(label)
        np.testing.assert_array_equal(curve["true_positive_counts"], hits)
        np.testing.assert_array_equal(curve["false_positive_counts"], false_alarms)
        np.testing.assert_array_equal(curve["false_negative_counts"], is_class.sum() - hits)
        np.testing.assert_array_equal(
            curve["true_negative_counts"], (~is_class).sum() - false_alarms
        )
        np.testing.assert_allclose(curve["recall"], hits / is_class.sum())
        named = reached.any(axis=1)
        np.testing.assert_allclose(
            curve["precision"][named], hits[named] / (hits + false_alarms)[named]
        )
        assert np.all(curve["precision"][~named] == 0)


def test_precision_recall_of_a_class_that_never_occurs():
    curve = count([0, 0], [[0.9, 0.1]] * 2).precision_recall(1)
    assert curve["recall"].tolist() == [0] * NUM_THRESHOLDS
    assert curve["false_positive_counts"][[0, -1]].tolist() == [2, 0]


def test_the_worst_mistakes_are_the_most_confident():
    labels = [1, 0, 1, 1, 1]
    probabilities = [[0.7, 0.3], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]]
    metrics = count(labels, probabilities, num_mistakes=3)
    # Example 1 is read right; of two equally wrong ones the earlier comes first.
    assert [mistake.index for mistake in metrics.mistakes] == [2, 0, 3]
    assert [mistake.confidence for mistake in metrics.mistakes] == pytest.approx([0.8, 0.7, 0.7])
    assert {(mistake.label, mistake.prediction) for mistake in metrics.mistakes} == {(1, 0)}


def test_mistakes_keep_their_images():
    images, labels, probabilities = make_examples(50, 4)
    metrics = StreamingMetrics(4, num_mistakes=5)
    metrics.update(images, labels, probabilities)
    assert len(metrics.mistakes) == 5
    for mistake in metrics.mistakes:
        assert mistake.image.shape == (3, 2, 1)
        assert mistake.image.max() == mistake.index
        assert mistake.label == labels[mistake.index]
        assert mistake.prediction == probabilities[mistake.index].argmax() != mistake.label


@pytest.mark.parametrize("batch_size", [1, 7, 100, 101])
def test_pieces_count_as_the_whole(batch_size):
    n, num_classes = 101, 6
    images, labels, probabilities = make_examples(n, num_classes)
    whole, pieces = (StreamingMetrics(num_classes, num_mistakes=9) for _ in range(2))
    whole.update(images, labels, probabilities)
    for start in range(0, n, batch_size):
        batch = slice(start, start + batch_size)
        pieces.update(images[batch], labels[batch], probabilities[batch])
    assert pieces.num_examples == whole.num_examples == n
    assert pieces.confusion.tolist() == whole.confusion.tolist()
    assert pieces.confusion.sum() == n
    assert pieces.per_class() == whole.per_class()
    assert pieces.top_2_accuracy == whole.top_2_accuracy
    assert pieces.expected_calibration_error == pytest.approx(whole.expected_calibration_error)
    assert [m.index for m in pieces.mistakes] == [m.index for m in whole.mistakes]
    for label in range(num_classes):
        curves = pieces.precision_recall(label), whole.precision_recall(label)
        for name in curves[0]:
            np.testing.assert_array_equal(curves[0][name], curves[1][name])
