from __future__ import annotations

import numpy as np
import pytest

from predict.page.median import median


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_median_is_numpy_s(shape, dtype):
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    np.testing.assert_array_equal(median(values), np.median(values, axis=-1))
