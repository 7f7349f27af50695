"""Gets a picture by URL or from a file, within limits, and decodes it to pixels.

What a picture is, its first bytes decide: neither its name nor a server's headers are trusted.
"""

from __future__ import annotations

import re
import urllib.parse
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.command_line import UserError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# How other things begin, and what they are; read in this order.
_OTHER_FORMATS = (
    (rb"GIF8", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"....ftyp(avif|avis)", "an AVIF image"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC image"),
    (rb"....ftyp", "a video"),
    (rb"II\*\x00|MM\x00\*", "a TIFF image"),
    (rb"BM", "a BMP image"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (rb"8BPS", "a Photoshop image"),
    (rb"%PDF", "a PDF document"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)", "an HTML page"),
    (rb"(?i)(\xef\xbb\xbf)?\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)*(<!doctype svg.*?>\s*)?<svg",
     "an SVG drawing"),
    (rb"(\xef\xbb\xbf)?\s*<\?xml", "an XML file"),
    (rb"\s*[{\[]", "JSON or other text"),
    (rb"[\t\n\r -~]+\Z", "text"),
)  # fmt: skip
_EXIF_ORIENTATION = 0x0112
# How to turn a picture upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(UserError):
    """A picture that cannot be had or read; the text does not repeat its URL."""


@dataclass(frozen=True)
class FetchLimits:
    """How much is fetched and decoded.

    Attributes:
      num_bytes: of the file.
      num_pixels: of the picture.
      seconds: for a fetch from beginning to end, name look-up and redirects included.
      num_redirects: followed one after the other.
    """

    num_bytes: int = 10_000_000
    num_pixels: int = 25_000_000
    seconds: float = 10
    num_redirects: int = 5


def load_image(
    url: str, *, allow_private_urls: bool = False, limits: FetchLimits | None = None
) -> np.ndarray:
    """Fetches and decodes one picture.

    Args:
      url: `http://…`, `https://…`, `file://…`, or a path.
      allow_private_urls: also connects to addresses that are not on the public internet.
      limits: how much is fetched and decoded; the defaults of `FetchLimits` where not given.

    Returns:
      uint8 [height, width, 3], RGB, upright.

    Raises:
      ImageError: there is no such picture, it exceeds a limit, or it is no whole PNG or JPEG.
    """
    limits = limits or FetchLimits()
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", url)
    if scheme is None:
        return decode_image(_read_file(Path(url).expanduser(), limits), limits)
    if scheme[1].lower() == "file":
        return decode_image(_read_file(_path_of_file_url(url), limits), limits)
    if scheme[1].lower() in ("http", "https"):
        from predict import fetch  # Its imports take longer than a local file takes to answer.

        return decode_image(fetch.fetch(url, allow_private_urls, limits), limits)
    raise ImageError(f"expected http://, https://, file:// or a path, found {scheme[0]}")


def _path_of_file_url(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ImageError(
            f"expected file:///PATH on this machine, found the host {parts.netloc}; a path needs "
            "three slashes"
        )
    return Path(urllib.parse.unquote(parts.path))


def _read_file(path: Path, limits: FetchLimits) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limits.num_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageError("expected an image file, found a folder; name a file in it") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot be read: {reason.lower()}") from error
    check_num_bytes(len(data), limits)
    return data


def check_num_bytes(num_bytes: int, limits: FetchLimits) -> None:
    """Raises `ImageError` where a file has more bytes than the limits allow."""
    if num_bytes > limits.num_bytes:
        raise ImageError(
            f"expected a file of at most {limits.num_bytes:,} bytes, found a larger one; give a "
            "smaller picture"
        )


def decode_image(data: bytes, limits: FetchLimits) -> np.ndarray:
    """Decodes a PNG or JPEG picture of any mode.

    16-bit levels are scaled to 8, EXIF's orientation is applied. Where the border is mostly
    transparent, the picture is laid on black or white, whichever shows it; elsewhere, what is
    transparent takes the border's colour.

    Args:
      data: the file's bytes.
      limits: the most pixels that are decoded.

    Returns:
      uint8 [height, width, 3], RGB, upright.

    Raises:
      ImageError: the bytes are no whole, still picture of at most so many pixels.
    """
    if not data.startswith((_PNG, _JPEG)):
        raise ImageError(f"expected a PNG or JPEG image, found {_describe(data)}")
    format_name = "PNG" if data.startswith(_PNG) else "JPEG"
    if format_name == "PNG" and _is_cut_short(data):
        raise ImageError("the PNG image is cut short; fetch or save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's are about metadata; the pixels are whole.
            image = _open(data)
            _check_form(image, limits)
            image.load()
            return _to_rgb(_turn_upright(image))
    except ImageError:
        raise
    except Exception as error:  # Damaged bytes raise almost any type in a decoder.
        if "truncated" in str(error):
            raise ImageError(
                f"the {format_name} image is cut short; fetch or save it again"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"the {format_name} image is damaged ({reason}); fetch or save it again"
        ) from error


def _open(data: bytes) -> Image.Image:
    """Opens a PNG or JPEG by its own class: no other decoder is imported, let alone tried."""
    if data.startswith(_PNG):
        from PIL.PngImagePlugin import PngImageFile

        return PngImageFile(BytesIO(data))
    from PIL.JpegImagePlugin import JpegImageFile

    return JpegImageFile(BytesIO(data))


def _describe(data: bytes) -> str:
    for pattern, name in _OTHER_FORMATS:
        if re.match(pattern, data[:1024], re.DOTALL):
            return f"{name}; save it as PNG or JPEG" if "image" in name else name
    return f"bytes that begin with {data[:8].hex(' ')}" if data else "an empty file"


def _is_cut_short(data: bytes) -> bool:
    """Tells whether a PNG file ends before its last chunk: length, type, data, CRC, then IEND's."""
    position = len(_PNG)
    while position + 12 <= len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position - 8 : position - 4] == b"IEND":
            return False
    return True


def _check_form(image: Image.Image, limits: FetchLimits) -> None:
    if image.width * image.height > limits.num_pixels:
        raise ImageError(
            f"expected at most {limits.num_pixels:,} pixels, found {image.width:,} x "
            f"{image.height:,}; give a smaller picture"
        )
    # A JPEG with several pictures is a phone's, with a preview or a depth map behind the photo.
    if getattr(image, "is_animated", False):
        raise ImageError("expected a still image, found an animated one; save one frame of it")


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # Damaged metadata says nothing about the orientation.
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Returns uint8 [height, width, 3] of an image of any mode."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip.
        levels = np.asarray(image).astype(np.uint32)
        transparent = image.info.get("transparency")
        grey = ((levels + 128) // 257).astype(np.uint8)
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
        if transparent is None:
            return rgb
        return _lay_on_background(rgb, np.where(levels == transparent, 0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    return _lay_on_background(rgba[:, :, :3], rgba[:, :, 3])


def _lay_on_background(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replaces transparency.

    Args:
      rgb: uint8 [height, width, 3].
      alpha: uint8 [height, width], 255 where the picture is opaque.

    Returns:
      uint8 [height, width, 3].
    """
    border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]]) >= 128
    if border.mean() > 0.5:
        colours = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])[border]
        background = np.median(colours, axis=0)
    else:
        weight = alpha.sum(dtype=np.float64)
        brightness = (rgb.mean(axis=2) * alpha).sum() / weight if weight else 0
        background = np.full(3, 0 if brightness > 127.5 else 255)
    share = alpha[:, :, None].astype(np.float32) / 255
    return np.round(rgb * share + background * (1 - share)).astype(np.uint8)
