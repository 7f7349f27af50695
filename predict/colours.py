"""Turns an image of any mode (grey, palette, 16 bits, transparent, …) into plain RGB pixels.

A strip of rows at a time: a photo takes 100 MB and more, so that copies of the whole add up.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_STRIP = 1 << 18  # pixels


def to_rgb(image: Image.Image) -> np.ndarray:
    """Turns an image into red, green and blue.

    16-bit levels are scaled to 8. Where the border is mostly transparent, the image is laid on
    black or white, whichever shows it; elsewhere, what is transparent takes the border's colour.

    Args:
      image: of any mode that a PNG or JPEG file can have.

    Returns:
      uint8 [height, width, 3].
    """
    if image.has_transparency_data:
        background = _choose_background(image)
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    num_rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, num_rows):
        strip = image.crop((0, top, image.width, min(top + num_rows, image.height)))
        if image.has_transparency_data:
            colours, alpha = _split_alpha(strip)
            share = alpha[:, :, None].astype(np.uint16)
            # At most 255 * 255 + 127, which 16 bits hold.
            rgb[top : top + num_rows] = (colours * share + background * (255 - share) + 127) // 255
        else:
            rgb[top : top + num_rows] = _reduce_bits(strip, "RGB")
    return rgb


def _reduce_bits(image: Image.Image, mode: str) -> np.ndarray:
    """Returns uint8 [height, width, channels] of an image in another mode."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip.
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype("u1"))
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _split_alpha(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [height, width, 3] colours, and [height, width], 255 where opaque."""
    if image.mode.startswith("I"):
        is_opaque = np.asarray(image) != image.info["transparency"]
        return _reduce_bits(image, "RGB"), np.where(is_opaque, 255, 0).astype(np.uint8)
    rgba = _reduce_bits(image, "RGBA")
    return rgba[:, :, :3], rgba[:, :, 3]


def _choose_background(image: Image.Image) -> np.ndarray:
    """Returns the colour, uint16 [3], that a partly transparent image is laid on."""
    width, height = image.size
    edges = [
        _split_alpha(image.crop(box))
        for box in (
            (0, 0, width, 1),
            (0, height - 1, width, height),
            (0, 0, 1, height),
            (width - 1, 0, width, height),
        )
    ]
    is_opaque = np.concatenate([alpha.ravel() for _, alpha in edges]) >= 128
    if is_opaque.mean() > 0.5:
        colours = np.concatenate([colours.reshape(-1, 3) for colours, _ in edges])
        # The middle of each channel; np.median imports far more when it is called.
        return np.sort(colours[is_opaque], axis=0)[is_opaque.sum() // 2].astype(np.uint16)
    # Enough of a large picture's pixels to tell whether what shows is bright.
    sample = image.resize((min(width, 500), min(height, 500)), Image.Resampling.NEAREST)
    colours, alpha = _split_alpha(sample)
    weight = alpha.sum(dtype=np.float64)
    brightness = (colours.mean(axis=2) * alpha).sum() / weight if weight else 0
    return np.full(3, 0 if brightness > 127.5 else 255, np.uint16)
