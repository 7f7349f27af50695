"""Which images of a dataset to take: a few of them, and folds of those, each class in proportion.

Both are runs of a shuffled order in which the classes take turns. The few are its first images, so
of one seed the fewer are among the more.
"""

from __future__ import annotations

import numpy as np

from data_prep.command_line import UserError
from input_pipeline.folds import Fold

_FOLDS_SEED = 0  # A fold depends on no run's seed, so that runs of several seeds can share the work


def choose_stratified(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Chooses a subset in which each class has its share, to within one image.

    Args:
      labels: int64 [n].
      limit: how many to choose, 1 to n.
      seed: decides which.

    Returns:
      bool [n], true for `limit` examples.

    Raises:
      UserError: the limit is larger than n.
    """
    if limit > len(labels):
        raise UserError(
            f"--train_limit={limit}: there are {len(labels):,} training images; lower it, or leave "
            "it out to train on all"
        )
    return _mask(_order_stratified(labels, seed)[:limit], len(labels))


def choose_fold(labels: np.ndarray, kept: np.ndarray, fold: Fold) -> np.ndarray:
    """Chooses a fold of the images that are kept.

    The folds of one number have no image in common and are together all that is kept, whatever
    the seed of the run; in each, every class has its share, to within two images.

    Args:
      labels: int64 [n].
      kept: bool [n], the images to cut into folds.
      fold: which fold.

    Returns:
      bool [n].
    """
    indices = np.flatnonzero(kept)
    first, last = fold.cut(len(indices))
    order = _order_stratified(labels[indices], _FOLDS_SEED)
    return _mask(indices[order[first:last]], len(labels))


def _order_stratified(labels: np.ndarray, seed: int) -> np.ndarray:
    """Shuffles the indices, int64 [n], so that every run of them gives each class its share."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    # Within each class, its k-th image of m comes at (k + 1/2) / m of the way: cutting that
    # sequence anywhere leaves every class its share.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    way = (rank + 0.5) / np.repeat(counts, counts)
    return by_class[np.argsort(way, kind="stable")]


def _mask(indices: np.ndarray, n: int) -> np.ndarray:
    mask = np.zeros(n, bool)
    mask[indices] = True
    return mask
