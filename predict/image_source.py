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
from predict.colours import to_rgb

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
# More than any encoder writes. Each costs a pass over all pixels, or a turn of Pillow's own loop,
# though it takes but a few bytes: without a limit, a small file could keep the decoder for hours.
_MOST_SCANS, _MOST_CHUNKS = 50, 100_000
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

    num_bytes: int = 20_000_000
    num_pixels: int = 40_000_000
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
    return decode_image(load_bytes(url, allow_private_urls, limits), limits)


def load_bytes(url: str, allow_private_urls: bool, limits: FetchLimits) -> bytes:
    """Fetches or reads one file.

    Args:
      url: `http://…`, `https://…`, `file://…`, or a path.
      allow_private_urls: also connects to addresses that are not on the public internet.
      limits: how much is fetched.

    Returns:
      The file's bytes, whatever they are.

    Raises:
      ImageError: there is no such file, or it exceeds a limit.
    """
    if not url:
        raise ImageError("expected a URL or a path, found an empty one; name a picture")
    path = find_local_path(url)
    if path is not None:
        return _read_file(path, limits)
    if is_remote(url):
        from predict import fetch  # Its imports take longer than a local file takes to answer.

        return fetch.fetch(url, allow_private_urls, limits)
    raise ImageError(f"expected http://, https://, file:// or a path, found {_find_scheme(url)}://")


def find_local_path(url: str) -> Path | None:
    """Returns the file of this machine that a URL or path names; None where it is elsewhere.

    Args:
      url: `http://…`, `https://…`, `file://…`, or a path, which may begin with `~`.

    Raises:
      ImageError: a `file://` URL names another machine.
    """
    scheme = _find_scheme(url)
    if scheme is None:
        return Path(url).expanduser()
    return _path_of_file_url(url) if scheme == "file" else None


def is_remote(url: str) -> bool:
    """Tells whether getting it may mean waiting for a network."""
    return _find_scheme(url) in ("http", "https")


def is_path(url: str) -> bool:
    """Tells whether it has no scheme, so that it is a path."""
    return _find_scheme(url) is None


def _find_scheme(url: str) -> str | None:
    match = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", url)
    return match[1].lower() if match else None


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
    if format_name == "PNG":
        _check_chunks(data)
    else:
        _check_scans(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's are about metadata; the pixels are whole.
            image = _open(data)
            _check_form(image, limits)
            image.load()
            image = _turn_upright(image)  # Lets go of the one before.
            return to_rgb(image)
    except ImageError:
        raise
    except Exception as error:  # Damaged bytes raise almost any type in a decoder.
        if "truncated" in str(error):
            raise ImageError(
                f"the {format_name} image is cut short; fetch or save it again"
            ) from error
        reason = " ".join(str(error).split())
        raise ImageError(
            f"the {format_name} image is damaged{reason and f' ({reason})'}; fetch or save it again"
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


def _check_chunks(data: bytes) -> None:
    """Raises `ImageError` where a PNG file ends before its last chunk, or has too many.

    A chunk is: length (4 bytes), type (4), data, CRC (4). The last is of type IEND.
    """
    position = len(_PNG)
    for _ in range(_MOST_CHUNKS):
        if position + 12 > len(data):
            raise ImageError("the PNG image is cut short; fetch or save it again")
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position - 8 : position - 4] == b"IEND":
            return
    raise ImageError(
        f"expected a PNG image of at most {_MOST_CHUNKS:,} chunks, found more; save it again"
    )


def _check_scans(data: bytes) -> None:
    """Raises `ImageError` where a JPEG file has too many scans.

    Between its markers (0xff, then the kind) it holds segments, which begin with their length
    (2 bytes, themselves included), and coded pixels, where 0 or a number of a restart follows 0xff.
    """
    if data.count(b"\xff\xda") <= _MOST_SCANS:  # Those in metadata, or behind the end, included
        return
    marker = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
    num_scans, position = 0, 2
    while (found := marker.search(data, position)) and found[1] != b"\xd9":  # end of image
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
        num_scans += found[1] == b"\xda"
    if num_scans > _MOST_SCANS:
        raise ImageError(
            f"expected a JPEG image of at most {_MOST_SCANS} scans, found {num_scans:,}; save it "
            "again"
        )


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
