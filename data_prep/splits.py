"""Decides which of a source's training images are set aside for validation and for testing.

Nothing may ever be chosen on the test split, so validation images come out of the training images.
Which ones depends only on the seed and on each image's index: every index gets a pseudo-random key
(SplitMix64; Steele, Lea and Flood 2014), and the images with the smallest keys are set aside. The
arithmetic is spelled out here, so no library's next version can change the choice.
"""

from __future__ import annotations

import numpy as np


def random_keys(num_examples: int, seed: int) -> np.ndarray:
    """Returns a pseudo-random uint64 [num_examples] for each index.

    Args:
      num_examples: how many.
      seed: any whole number, 0 to 2**32 - 1.
    """
    state = np.arange(1, num_examples + 1, dtype=np.uint64)
    state += np.uint64(seed) << np.uint64(32)
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state ^= state >> np.uint64(shift)
        state *= np.uint64(factor)
    return state ^ (state >> np.uint64(31))


def set_aside(num_examples: int, *, sizes: dict[str, int], seed: int) -> np.ndarray:
    """Chooses which training images go to other splits.

    Args:
      num_examples: how many training images the source has.
      sizes: how many images each other split takes; together fewer than `num_examples`.
      seed: decides which ones.

    Returns:
      uint8 [num_examples]: 0 for an image that stays in train, i + 1 for one that goes to the
      i-th split of `sizes`.
    """
    assignment = np.zeros(num_examples, np.uint8)
    total = sum(sizes.values())
    if total:
        keys = random_keys(num_examples, seed)
        smallest = np.argpartition(keys, total - 1)[:total]
        smallest = smallest[np.argsort(keys[smallest])]
        start = 0
        for index, size in enumerate(sizes.values()):
            assignment[smallest[start : start + size]] = index + 1
            start += size
    return assignment
