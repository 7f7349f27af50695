"""The median, without `numpy.ma`, which `np.median` imports on its first call: 20 ms."""

from __future__ import annotations

import numpy as np


def median(values: np.ndarray | list[float]) -> np.ndarray:
    """Returns the medians along the last axis: [...] of [..., n], n at least 1."""
    ordered = np.sort(values, axis=-1)
    n = ordered.shape[-1]
    lower, upper = ordered[..., (n - 1) // 2], ordered[..., n // 2]
    return lower + (upper - lower) / 2  # Their sum may be beyond the range of uint8.
