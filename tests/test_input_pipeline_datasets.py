import dataclasses

import numpy as np
import pytest

from data_prep.command_line import UserError
from input_pipeline.augment import Augmentation
from input_pipeline.datasets import (
    load_labels,
    make_eval_dataset,
    make_train_dataset,
)
from tests.train_fixtures import IMAGE_SHAPE, SIZES, indices_of, make_examples, write_dataset

N = SIZES["train"]
RESIDENT = {"cache_mb": 1024}
STREAMED = {"cache_mb": 0.01}  # 28 of the 53 images
MEMORIES = pytest.mark.parametrize("memory", [RESIDENT, STREAMED], ids=["resident", "streamed"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("datasets") / "tiny"
    return data_dir, write_dataset(data_dir)


def take(data, steps, **options):
    data_dir, manifest = data
    options = {"splits": ["train"], "batch_size": 8, "seed": 3, **options}
    dataset = make_train_dataset(data_dir, manifest, **options)
    return list(dataset.take(steps).as_numpy_iterator())


def take_indices(data, steps, **options):
    return [index for images, _ in take(data, steps, **options) for index in indices_of(images)]


def take_evaluation(data, *splits, batch_size):
    data_dir, manifest = data
    dataset = make_eval_dataset(data_dir, manifest, splits=splits, batch_size=batch_size)
    return list(dataset.as_numpy_iterator())


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for found_batch, expected_batch in zip(found, expected, strict=True):
        for found_part, expected_part in zip(found_batch, expected_batch, strict=True):
            np.testing.assert_array_equal(found_part, expected_part)


@MEMORIES
@pytest.mark.parametrize("batch_size", [8, 60])
def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(data, memory, batch_size):
    # Neither 8 nor 60 divides 53: batches go on from one epoch into the next.
    steps = -(-3 * N // batch_size)
    indices = take_indices(data, steps, batch_size=batch_size, **memory)
    epochs = [tuple(indices[start : start + N]) for start in (0, N, 2 * N)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(N))
    assert len({*epochs, tuple(range(N))}) == 4


@MEMORIES
def test_training_images_are_shuffled_over_more_than_a_shard(data, memory):
    # A whole shard is 17 or 18 images; unshuffled ones would stand near their places.
    places = np.argsort(take_indices(data, 7, **memory)[:N])
    assert np.abs(places - np.arange(N)).mean() > 10


@MEMORIES
def test_images_and_labels_stay_together_and_are_normalised(data, memory):
    images, labels = make_examples(N)
    for found_images, found_labels in take(data, 7, **memory):
        rows = indices_of(found_images)
        assert found_images.dtype == np.float32
        np.testing.assert_allclose(found_images, images[rows] / 255.0, atol=1e-6)
        assert found_labels.tolist() == labels[rows].tolist()


@MEMORIES
def test_seed_decides_the_order(data, memory):
    first = take_indices(data, 7, **memory)
    assert take_indices(data, 7, **memory) == first
    assert take_indices(data, 7, seed=4, **memory) != first


@MEMORIES
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augmentation": Augmentation(shift=0.1, rotation=20, elastic=5)},
        {"kept": np.arange(N) < 20},
        {"photos": True},
        {"batch_size": 4, "num_workers": 2, "worker_index": 1},
    ],
    ids=["plain", "augmented", "limited", "photos", "second worker"],
)
def test_starting_at_a_step_equals_skipping_the_steps_before_it(data, memory, options):
    options = {**memory, **options}
    whole = take(data, 15, **options)
    for start_step in (6, 13):
        assert_same_batches(
            take(data, 2, start_step=start_step, **options), whole[start_step : start_step + 2]
        )


@MEMORIES
def test_workers_divide_every_step(data, memory):
    whole = take(data, 6, batch_size=12, **memory)
    parts = [
        take(data, 6, batch_size=4, num_workers=3, worker_index=index, **memory)
        for index in range(3)
    ]
    for step, (images, labels) in enumerate(whole):
        joined = [np.concatenate([part[step][field] for part in parts]) for field in (0, 1)]
        np.testing.assert_array_equal(joined[0], images)
        np.testing.assert_array_equal(joined[1], labels)


def test_workers_distort_their_images_differently(tmp_path):
    image = np.full((2, *IMAGE_SHAPE), 99, np.uint8)
    manifest = write_dataset(tmp_path / "same", examples={"train": (image, np.zeros(2, int))})
    options = {"augmentation": Augmentation(rotation=90), "batch_size": 1, "num_workers": 2}
    (first, _), (second, _) = (
        take((tmp_path / "same", manifest), 1, worker_index=index, **options)[0]
        for index in range(2)
    )
    assert not np.array_equal(first, second)


def test_photos_are_of_what_is_augmented(data):
    (plain, labels), *_ = take(data, 1)
    (photos, same), *_ = take(data, 1, photos=True)
    (both, _), *_ = take(data, 1, photos=True, augmentation=Augmentation(rotation=90))
    np.testing.assert_array_equal(labels, same)
    for one, other in ((plain, photos), (photos, both)):
        assert one.shape == other.shape and (one != other).any(axis=(1, 2, 3)).all()
    assert photos.min() >= 0 and photos.max() <= 1


@MEMORIES
def test_splits_can_be_summed(data, memory):
    together = N + SIZES["validation"]
    indices = take_indices(data, 9, splits=["train", "validation"], **memory)
    assert sorted(indices[:together]) == list(range(together))


@MEMORIES
def test_only_what_is_kept_is_trained_on_in_every_epoch(data, memory):
    kept = np.arange(N) % 3 == 1
    indices = take_indices(data, 5, kept=kept, **memory)
    wanted = np.flatnonzero(kept).tolist()
    assert len(wanted) == 18
    assert sorted(indices[:18]) == sorted(indices[18:36]) == wanted
    # 0.004 MB are 11 of the 18 images: a window that is smaller than what is kept.
    assert sorted(take_indices(data, 3, kept=kept, cache_mb=0.004)[:18]) == wanted


def test_streaming_is_logged(data, capsys):
    take(data, 1, **RESIDENT)
    assert capsys.readouterr().err == ""
    take(data, 1, **STREAMED)
    assert capsys.readouterr().err == (
        "train: 0.0 MB of images is more than --cache_mb=0.01: they are read from the disk in "
        "every epoch, and shuffled through a window of 28 images\n"
    )


@pytest.mark.parametrize("batch_size", [1, 7, 17, 18])
def test_evaluation_sees_every_image_once_whatever_the_batch_size(data, batch_size):
    batches = take_evaluation(data, "validation", batch_size=batch_size)
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    expected_images, expected_labels = make_examples(17, first=N)
    assert indices_of(images) == list(range(N, N + 17))
    np.testing.assert_allclose(images, expected_images / 255.0, atol=1e-6)
    assert labels.tolist() == expected_labels.tolist()
    sizes = [len(labels) for _, labels in batches]
    assert sizes == [batch_size] * (17 // batch_size) + [17 % batch_size] * (17 % batch_size > 0)


@pytest.mark.parametrize("batch_size", [1, 4, 500])
def test_evaluation_sees_what_is_kept_alone(data, batch_size):
    data_dir, manifest = data
    kept = np.arange(N + 17) % 4 == 3
    batches = make_eval_dataset(
        data_dir, manifest, splits=["train", "validation"], batch_size=batch_size, kept=kept
    ).as_numpy_iterator()
    found = [(indices_of(images), labels.tolist()) for images, labels in batches]
    wanted = np.flatnonzero(kept).tolist()
    assert [index for indices, _ in found for index in indices] == wanted
    known = [*make_examples(N)[1], *make_examples(17, first=N)[1]]
    assert [label for _, labels in found for label in labels] == [known[i] for i in wanted]
    assert {len(labels) for _, labels in found[:-1]} <= {batch_size}


def test_evaluation_of_a_sum_goes_through_both_splits_in_order(data):
    batches = take_evaluation(data, "train", "validation", batch_size=16)
    indices = [index for images, _ in batches for index in indices_of(images)]
    assert indices == list(range(N + 17))


def test_one_image_of_one_class(tmp_path):
    examples = (np.full((1, 5, 4, 1), 51, np.uint8), np.zeros(1, np.int64))
    manifest = write_dataset(
        tmp_path / "one", examples={"train": examples}, class_names=["only"], num_shards=1
    )
    data = tmp_path / "one", manifest
    for memory in (RESIDENT, {"cache_mb": 1e-9}):
        for images, labels in take(data, 2, batch_size=3, **memory):
            np.testing.assert_allclose(images, np.full((3, 5, 4, 1), 0.2), atol=1e-6)
            assert labels.tolist() == [0, 0, 0]
    [(images, labels)] = take_evaluation(data, "train", batch_size=500)
    assert images.shape == (1, 5, 4, 1)
    assert labels.tolist() == [0]


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_what_raw_gives(tmp_path, channels):
    images, labels = make_examples(11)
    examples = {"train": (images[..., :channels], labels)}
    data = {}
    for image_format in ("raw", "png"):
        folder = tmp_path / image_format
        manifest = write_dataset(folder, examples=examples, image_format=image_format)
        data[image_format] = folder, manifest
    for read in (
        lambda data: take(data, 3),
        lambda data: take_evaluation(data, "train", batch_size=4),
    ):
        assert_same_batches(read(data["png"]), read(data["raw"]))


def test_labels_are_those_of_the_records(data):
    expected = [*make_examples(N)[1], *make_examples(17, first=N)[1]]
    data_dir, manifest = data
    assert load_labels(data_dir, manifest, ["train", "validation"]).tolist() == expected


def test_csv_folder_is_refused(data):
    data_dir, manifest = data
    csv = data_dir, dataclasses.replace(manifest, image_format="csv")
    for read in (lambda: take(csv, 1), lambda: take_evaluation(csv, "train", batch_size=1)):
        with pytest.raises(
            UserError,
            match="holds csv files; convert the dataset with --output_format=tfrecord to train on",
        ):
            read()
