from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eval.evaluation import Evaluation
from eval.figures import draw_confusion_matrix, draw_mistakes
from eval.metrics import NUM_THRESHOLDS, StreamingMetrics
from eval.report import format_text, write_summaries
from model_definition.ensemble import Member
from model_definition.run_dir import Run


def make_member(name: str, step: int) -> Member:
    run = Run(
        logdir=Path("runs", name),
        model="lenet",
        architecture_text="flatten\noutput\n",
        data_dir="data/farm",
        dataset_name="farm",
        dataset_digest="0" * 64,
        image_shape=(11, 5, 1),
        image_preparation="resize",
        class_names=("ant", "beetle", "cow"),
        config={},
        versions={},
    )
    return Member(run, run.logdir / f"best/model.ckpt-{step}")


def make_evaluation(
    *,
    class_names: tuple[str, ...] = ("ant", "beetle", "cow"),
    labels: tuple[int, ...] = (0, 0, 0, 1, 1),
    read_as: tuple[int, ...] = (0, 0, 1, 1, 1),
    step: int = 1_200,
    runs: tuple[str, ...] = ("farm",),
    test_time_shifts: int = 0,
) -> Evaluation:
    """Examples of 11x5 images, each read with a confidence of nearly 1."""
    n, num_classes = len(labels), len(class_names)
    metrics = StreamingMetrics(num_classes, num_mistakes=4)
    images = np.linspace(0, 1, n * 11 * 5, dtype=np.float32).reshape(n, 11, 5, 1)
    rest = 0.1 / num_classes
    probabilities = np.full((n, num_classes), rest, np.float32)
    probabilities[np.arange(n), list(read_as)] += 0.9
    metrics.update(images, np.array(labels), probabilities)
    return Evaluation(
        dataset="farm",
        split="test",
        members=tuple(make_member(run, step) for run in runs),
        member_accuracies=tuple(0.75 + 0.05 * number for number in range(len(runs))),
        test_time_shifts=test_time_shifts,
        class_names=class_names,
        accuracy=float((np.array(labels) == np.array(read_as)).mean()),
        loss=0.123456,
        mean_squared_error=0.0123456,
        metrics=metrics,
    )


def test_text_has_the_numbers():
    lines = format_text(make_evaluation()).splitlines()
    assert lines[0] == "farm, test split, 5 images, checkpoint runs/farm/best/model.ckpt-1200"
    # Wilson's interval of 4 in 5, by hand.
    assert lines[1] == "  accuracy            80.00%  (95 % interval 37.55% to 96.38%)"
    assert lines[2] == "  top-2 accuracy      100.00%"
    assert lines[3] == "  cross-entropy       0.1235"
    assert lines[4] == "  mean squared error  0.012346"
    assert lines[5] == "  calibration error   0.1333"


def test_text_names_what_was_averaged():
    lines = format_text(make_evaluation(runs=("a", "b"), test_time_shifts=1)).splitlines()
    assert lines[0] == "farm, test split, 5 images, average of 2 runs, 9 shifts each"
    assert lines[7:11] == [
        "  each alone  checkpoint",
        "      75.00%  runs/a/best/model.ckpt-1200",
        "      80.00%  runs/b/best/model.ckpt-1200",
        "",
    ]
    (line, *_) = format_text(make_evaluation(test_time_shifts=2)).splitlines()
    assert line.endswith("checkpoint runs/farm/best/model.ckpt-1200, 25 shifts each")


def test_text_has_a_row_for_each_class():
    lines = format_text(make_evaluation()).splitlines()
    header = next(number for number, line in enumerate(lines) if "precision" in line)
    rows = [line.split() for line in lines[header : header + 4]]
    assert rows == [
        ["class", "precision", "recall", "F1", "images"],
        ["ant", "1.0000", "0.6667", "0.8000", "3"],
        ["beetle", "0.6667", "1.0000", "0.8000", "2"],
        ["cow", "-", "-", "-", "0"],
    ]
    assert len({len(line) for line in lines[header : header + 4]}) == 1


def test_text_has_the_confusion_matrix():
    lines = format_text(make_evaluation()).splitlines()
    assert lines[-5] == "  confusion matrix (rows: label, columns: prediction)"
    assert [line.split() for line in lines[-4:]] == [
        ["ant", "beetle", "cow"],
        ["ant", "2", "1", "."],
        ["beetle", ".", "2", "."],
        ["cow", ".", ".", "."],
    ]
    assert len({len(line) for line in lines[-4:]}) == 1


def test_text_of_one_class():
    text = format_text(make_evaluation(class_names=("x",), labels=(0, 0), read_as=(0, 0)))
    assert "accuracy            100.00%" in text
    assert text.splitlines()[-1].split() == ["x", "2"]


@pytest.mark.parametrize(("num_classes", "is_there"), [(20, True), (21, False)])
def test_text_leaves_out_a_matrix_that_is_too_wide(num_classes, is_there):
    names = tuple(f"kind {number}" for number in range(num_classes))
    text = format_text(make_evaluation(class_names=names))
    assert ("confusion matrix" in text) == is_there
    assert f"kind {num_classes - 1} " in text


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    return events.Reload()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Evaluation, EventAccumulator]:
    folder = tmp_path_factory.mktemp("run") / "test"
    evaluation = make_evaluation()
    write_summaries(folder, evaluation)
    return evaluation, read_events(folder)


def test_scalars_are_written(written):
    evaluation, events = written
    found = {tag: events.Scalars(tag)[0] for tag in events.Tags()["scalars"]}
    assert {tag: scalar.value for tag, scalar in found.items()} == pytest.approx(
        {
            "accuracy": 0.8,
            "loss": 0.123456,
            "mean_squared_error": 0.0123456,
            "top_2_accuracy": 1.0,
            "expected_calibration_error": evaluation.metrics.expected_calibration_error,
        }
    )
    assert {scalar.step for scalar in found.values()} == {1_200}


def test_pictures_are_written(written):
    evaluation, events = written
    (worst,) = evaluation.metrics.mistakes
    expected = {
        "confusion_matrix": draw_confusion_matrix(
            evaluation.metrics.confusion, evaluation.class_names
        ),
        "worst_mistakes": draw_mistakes(
            np.rint(worst.image[None] * 255).astype(np.uint8),
            np.array([0]),
            np.array([1]),
            np.array([worst.confidence]),
            evaluation.class_names,
        ),
    }
    assert set(events.Tags()["images"]) == set(expected)
    for tag, picture in expected.items():
        (image,) = events.Images(tag)
        assert image.step == 1_200
        assert (image.height, image.width) == picture.shape[:2]
        np.testing.assert_array_equal(tf.io.decode_png(image.encoded_image_string), picture)


def test_precision_recall_curves_are_written(written):
    evaluation, events = written
    # TensorBoard's plugin adds the last part.
    tags = [f"pr_curve/{name}/pr_curves" for name in evaluation.class_names]
    assert sorted(events.Tags()["tensors"]) == sorted(tags)
    for label, tag in enumerate(tags):
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == "pr_curves"
        (event,) = events.Tensors(tag)
        assert event.step == 1_200
        curve = evaluation.metrics.precision_recall(label)
        names = (
            "true_positive_counts",
            "false_positive_counts",
            "true_negative_counts",
            "false_negative_counts",
            "precision",
            "recall",
        )  # the rows, in the order of TensorBoard's plugin
        expected = np.stack([curve[name] for name in names])
        assert expected.shape == (6, NUM_THRESHOLDS)
        np.testing.assert_allclose(tf.make_ndarray(event.tensor_proto), expected, rtol=1e-6)


def test_a_split_without_mistakes_is_written(tmp_path):
    evaluation = make_evaluation(labels=(0, 1), read_as=(0, 1))
    write_summaries(tmp_path, evaluation)
    (image,) = read_events(tmp_path).Images("worst_mistakes")
    assert min(image.height, image.width) > 10


def test_later_checkpoints_are_later_points(tmp_path):
    for step in (9, 10):
        write_summaries(tmp_path, make_evaluation(step=step))
    # Both files, though they are usually of one second, and in the order in which they are read.
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".000000009", ".000000010"]
    assert [scalar.step for scalar in read_events(tmp_path).Scalars("accuracy")] == [9, 10]
