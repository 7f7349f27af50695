import numpy as np
import pytest

from data_prep.command_line import UserError
from input_pipeline.folds import Fold, parse_fold
from input_pipeline.subsets import choose_fold, choose_stratified


@pytest.mark.parametrize("counts", [(100, 1, 0, 33), (7,), (5, 5, 5)])
def test_every_limit_leaves_every_class_its_share(counts):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    for limit in range(1, len(labels) + 1):
        kept = choose_stratified(labels, limit, seed=5)
        assert kept.sum() == limit
        found = np.bincount(labels[kept], minlength=len(counts))
        assert np.all(np.abs(found - np.array(counts) * limit / len(labels)) <= 1)


def test_seed_decides_which_images_are_kept():
    labels = np.arange(200) % 4
    first, same, other = (choose_stratified(labels, 40, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_fewer_are_among_the_more():
    labels = np.random.default_rng(3).integers(0, 4, 90)
    few, more = (choose_stratified(labels, limit, seed=7) for limit in (11, 30))
    assert not (few & ~more).any()


def test_more_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"^--train_limit=54: there are 53 training images; lower"):
        choose_stratified(np.zeros(53, int), 54, seed=0)


@pytest.mark.parametrize("num_folds", [2, 3, 7, 10])
@pytest.mark.parametrize("counts", [(100, 1, 0, 33), (12,), (5, 5, 5)])
def test_folds_cover_every_image_once_and_leave_every_class_its_share(counts, num_folds):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    for limit in (10, len(labels)):
        for seed in (0, 5):
            kept = choose_stratified(labels, limit, seed)
            folds = [
                choose_fold(labels, kept, Fold(number, num_folds))
                for number in range(1, num_folds + 1)
            ]
            assert np.array_equal(np.sum(folds, axis=0), kept)
            sizes = [int(fold.sum()) for fold in folds]
            assert max(sizes) - min(sizes) <= 1
            shares = np.bincount(labels[kept], minlength=len(counts)) / num_folds
            for fold in folds:
                found = np.bincount(labels[fold], minlength=len(counts))
                assert np.all(np.abs(found - shares) <= 2)


def test_folds_are_shuffled():
    labels = np.arange(100) % 5
    fold = choose_fold(labels, np.ones(100, bool), Fold(1, 2))
    assert 15 < np.flatnonzero(fold)[:25].max() < 75  # neither the first half nor the last one


def test_fold_is_read():
    assert parse_fold("1/2") == Fold(1, 2)
    assert parse_fold("10/10") == Fold(10, 10)
    for text in (
        "0/2",
        "3/2",
        "1/1",
        "1/0",
        "-1/2",
        "1",
        "1/",
        "/2",
        "1/2/3",
        "1 / 2",
        "a/b",
    ):
        assert parse_fold(text) is None, text
