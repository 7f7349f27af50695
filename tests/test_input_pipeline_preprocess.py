import numpy as np
import pytest

from input_pipeline.preprocess import normalize


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_pixels_become_numbers_from_0_to_1(dtype):
    pixels = np.arange(256).reshape(2, 16, 8, 1).astype(dtype)
    normalized = normalize(pixels).numpy()
    assert normalized.dtype == np.float32
    assert normalized.shape == pixels.shape
    assert normalized.min() == 0.0
    assert normalized.max() == 1.0
    np.testing.assert_allclose(normalized, pixels / 255.0, rtol=1e-6)
