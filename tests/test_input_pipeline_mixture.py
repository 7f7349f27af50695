"""Batches from several datasets: every part its share, spread evenly, a function of the step."""

import numpy as np
import pytest
import tensorflow as tf

from input_pipeline.augmentation import Augmentation
from input_pipeline.datasets import make_train_dataset
from input_pipeline.mixture import Part, divide_batch, make_mixed_dataset
from tests.train_fixtures import indices_of, make_examples, write_dataset

v1 = tf.compat.v1
KEPT = np.arange(53) < 20  # of the old images


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    old = write_dataset(folder / "old")
    examples = {"train": make_examples(3, first=1000)}
    new = write_dataset(folder / "new", examples=examples)
    return (
        Part(folder / "old", old, ["train"], seed=4, weight=3.0, kept=KEPT),
        Part(folder / "new", new, ["train"], weight=1.0),
    )


def read(dataset, count):
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        batch = v1.data.make_one_shot_iterator(dataset()).get_next()
        return [session.run(batch) for _ in range(count)]


def test_every_batch_has_all_parts_spread_evenly(parts):
    batches = read(lambda: make_mixed_dataset(parts, batch_size=16), 10)
    old, new = [], []
    for images, labels in batches:
        indices = np.array(indices_of(images))
        assert images.shape == (16, 13, 9, 3)
        assert (labels == make_labels(indices)).all()
        is_new = indices >= 1000
        assert is_new.sum() == 4
        assert is_new.reshape(4, 4).sum(axis=1).tolist() == [1, 1, 1, 1]
        old += indices[~is_new].tolist()
        new += indices[is_new].tolist()
    assert len(set(old)) == 20  # the limit's
    assert [new.count(1000 + k) for k in range(3)] in ([14, 13, 13], [13, 14, 13], [13, 13, 14])


def make_labels(indices):
    truth = dict(zip(range(53), make_examples(53)[1], strict=True))
    truth |= dict(zip(range(1000, 1003), make_examples(3, first=1000)[1], strict=True))
    return [truth[index] for index in indices]


def test_one_part_is_the_plain_stream_and_a_step_can_be_gone_on_from(parts):
    old = parts[0]

    def plain():
        return make_train_dataset(
            old.data_dir, old.manifest, splits=["train"], batch_size=16, seed=4, kept=KEPT
        )

    expected = read(plain, 3)
    found = read(lambda: make_mixed_dataset([old], batch_size=16, start_step=2), 1)
    np.testing.assert_array_equal(found[0][0], expected[2][0])
    whole = read(lambda: make_mixed_dataset(parts, batch_size=16), 3)
    later = read(lambda: make_mixed_dataset(parts, batch_size=16, start_step=2), 1)
    np.testing.assert_array_equal(later[0][0], whole[2][0])


def test_only_the_part_that_says_so_is_distorted(parts):
    old, new = parts
    distorted = Part(new.data_dir, new.manifest, ["train"], augmentation=Augmentation(shift=0.3))
    plain = read(lambda: make_mixed_dataset([old, new], batch_size=8), 1)[0][0]
    found = read(lambda: make_mixed_dataset([old, distorted], batch_size=8), 1)[0][0]
    assert found.shape == plain.shape
    assert set(indices_of(plain)) & set(range(53)) <= set(indices_of(found))
    assert not set(range(1000, 1003)) <= set(indices_of(found))


@pytest.mark.parametrize(
    ("batch_size", "weights", "sizes"),
    [(128, [5, 2, 1], [80, 32, 16]), (10, [1, 1, 1], [4, 3, 3]), (3, [100, 1, 1], [1, 1, 1])],
)
def test_shares(batch_size, weights, sizes):
    assert divide_batch(batch_size, weights) == sizes
