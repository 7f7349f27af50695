from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from predict.digits import find_digits
from predict.image_source import FetchLimits, ImageError, decode_image, load_image
from tests.predict_fixtures import draw, to_rgb

LIMITS = FetchLimits()
INK = draw("5", size=40, margin=9)  # wider than high
HEIGHT, WIDTH = INK.shape


def encode(picture, format_name="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def png(bits, colour_type, rows, *chunks):
    """A PNG written by hand, for the forms that Pillow does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def rgba(colour, alpha):
    pixels = np.empty((HEIGHT, WIDTH, 4), np.uint8)
    pixels[:, :, :3] = colour
    pixels[:, :, 3] = alpha
    return Image.fromarray(pixels)


def rounded_card():
    """A dark digit on a white card whose corners are transparent."""
    alpha = np.full(INK.shape, 255, np.uint8)
    alpha[:4, :4] = alpha[-4:, :4] = alpha[:4, -4:] = alpha[-4:, -4:] = 0
    return encode(rgba(np.where(alpha[..., None], to_rgb(INK), 0), alpha))


def transparent_palette():
    picture = Image.fromarray(np.where(INK < 128, 1, 0).astype(np.uint8), "P")
    picture.putpalette([200, 10, 10, 0, 0, 90])
    return encode(picture, transparency=0)


def exif(orientation, picture):
    data = Image.Exif()
    data[0x0112] = orientation
    return encode(picture, "JPEG", exif=data.tobytes(), quality=95)


GREY = Image.fromarray(INK)
WIDE = INK.astype(np.uint16)
MODES = {
    "grey": encode(GREY),
    "grey jpeg": encode(GREY, "JPEG", quality=95),
    "rgb": encode(GREY.convert("RGB")),
    "rgb jpeg": encode(GREY.convert("RGB"), "JPEG", quality=95),
    "cmyk jpeg": encode(GREY.convert("CMYK"), "JPEG", quality=95),
    "progressive jpeg": encode(GREY, "JPEG", quality=95, progressive=True),
    "1 bit": encode(GREY.convert("1", dither=Image.Dither.NONE)),
    "palette": encode(GREY.convert("P")),
    "palette, transparent paper": transparent_palette(),
    "light on dark": encode(Image.fromarray(255 - INK)),
    "grey and alpha, dark": encode(rgba(0, 255 - INK).convert("LA")),
    "rgba, dark ink on nothing": encode(rgba((20, 0, 60), 255 - INK)),
    "rgba, light ink on nothing": encode(rgba((255, 255, 200), 255 - INK)),
    "rgba, opaque": encode(rgba(to_rgb(INK), 255)),
    "rgba, rounded card": rounded_card(),
    "16-bit grey": png(16, 0, [row.astype(">u2").tobytes() for row in WIDE * 257]),
    "16-bit grey, all in the upper half": png(
        16, 0, [row.astype(">u2").tobytes() for row in 32768 + WIDE * 128]
    ),
    "16-bit grey, transparent paper": png(
        16, 0, [row.astype(">u2").tobytes() for row in WIDE * 257], (b"tRNS", b"\xff\xff")
    ),
    "16-bit rgb": png(16, 2, [r.astype(">u2").tobytes() for r in to_rgb(INK).astype("u2") * 257]),
    "16-bit grey and alpha": png(
        16, 4, [(np.stack([0 * r, 255 - r], 1) * 257).astype(">u2").tobytes() for r in WIDE]
    ),
    "grey, transparent paper": encode(GREY, transparency=255),
    "interlaced": encode(GREY, interlace=1),
    **{
        f"exif {orientation}": exif(orientation, GREY.transpose(back) if back is not None else GREY)
        for orientation, back in enumerate(
            [None, *(Image.Transpose[name] for name in (
                "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90",
                "TRANSVERSE", "ROTATE_270"))], start=1)
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_digit(mode):
    pixels = decode_image(MODES[mode], LIMITS)
    assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8
    (expected,) = find_digits(to_rgb(INK), (28, 28, 1), "mnist")
    (digit,) = find_digits(pixels, (28, 28, 1), "mnist")
    assert np.abs(digit.image.astype(int) - expected.image).mean() < 15
    assert np.abs(np.subtract(digit.box, expected.box)).max() <= 2


def test_sixteen_bits_are_scaled_and_not_clipped():
    rows = [row.astype(">u2").tobytes() for row in WIDE * 257]
    assert np.array_equal(decode_image(png(16, 0, rows), LIMITS), to_rgb(INK))


def test_wholly_transparent_picture_is_blank():
    assert np.ptp(decode_image(encode(rgba(to_rgb(INK), 0)), LIMITS)) == 0


def test_photo_with_a_second_picture_behind_it_is_no_animation():
    data = encode(GREY, "MPO", save_all=True, append_images=[GREY], quality=95)
    assert data.startswith(b"\xff\xd8")
    assert decode_image(data, LIMITS).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "an empty file"),
        (b"GIF89a...", "a GIF image; save it as PNG or JPEG"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a WebP image; save it as PNG or JPEG"),
        (b"BM\x00\x00", "a BMP image; save it as PNG or JPEG"),
        (b"II*\x00", "a TIFF image; save it as PNG or JPEG"),
        (b"\0\0\0\x18ftypheic", "a HEIC image; save it as PNG or JPEG"),
        (b"\0\0\0\x18ftypavif", "an AVIF image; save it as PNG or JPEG"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"  <!-- hi -->\n<!DOCTYPE html><html>", "an HTML page"),
        (b"\xef\xbb\xbf<HTML>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<svg>', "an SVG drawing"),
        (b'<?xml version="1.0"?><note>', "an XML file"),
        (b'{"error": 1}', "JSON or other text"),
        (b"not found\n", "text"),
        (b"\x01\x02\x03\x80\x05\x06\x07\x08\x09", "bytes that begin with 01 02 03 80 05 06 07 08"),
    ],
)
def test_what_is_no_png_or_jpeg_is_named(data, name):
    with pytest.raises(ImageError, match=f"^expected a PNG or JPEG image, found {name}$"):
        decode_image(data, LIMITS)


def test_animated_png_is_refused():
    data = encode(GREY, save_all=True, append_images=[Image.fromarray(255 - INK)])
    with pytest.raises(ImageError, match="expected a still image, found an animated one"):
        decode_image(data, LIMITS)


@pytest.mark.parametrize("mode", ["grey", "16-bit grey", "palette", "interlaced"])
def test_png_cut_anywhere_is_cut_short(mode):
    data = MODES[mode]
    for length in range(8, len(data)):
        with pytest.raises(ImageError, match="the PNG image is cut short; fetch or save it again"):
            decode_image(data[:length], LIMITS)


@pytest.mark.parametrize("mode", ["grey jpeg", "progressive jpeg", "exif 6"])
def test_jpeg_cut_anywhere_is_refused(mode):
    data = MODES[mode]
    for length in range(3, len(data) - 2):  # The last two bytes only say that it ends there.
        with pytest.raises(ImageError, match=r"the JPEG image is (cut short|damaged)"):
            decode_image(data[:length], LIMITS)
    with pytest.raises(ImageError, match="the JPEG image is cut short; fetch or save it again"):
        decode_image(data[:-20], LIMITS)


@pytest.mark.parametrize("mode", ["grey", "grey jpeg", "palette", "exif 6"])
def test_damaged_pictures_give_pixels_or_the_one_error(mode):
    generator = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(MODES[mode])
        for place in generator.integers(3, len(data), 3):
            data[place] = generator.integers(256)
        try:
            pixels = decode_image(bytes(data), LIMITS)
        except ImageError as error:
            assert "\n" not in str(error)
        else:
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_flipped_bit_in_a_png_is_found():
    data = bytearray(MODES["grey"])
    data[data.index(b"IDAT") + 30] ^= 1
    with pytest.raises(
        ImageError, match=r"the PNG image is damaged \(.+\); fetch or save it again"
    ):
        decode_image(bytes(data), LIMITS)


def test_too_many_pixels_are_refused_before_they_are_decoded():
    data = bytearray(MODES["grey"])
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    expected = "expected at most 40,000,000 pixels, found 30,000 x 30,000; give a smaller picture"
    with pytest.raises(ImageError, match=expected):
        decode_image(bytes(data), LIMITS)
    with pytest.raises(ImageError, match=f"at most 100 pixels, found {WIDTH} x {HEIGHT}"):
        decode_image(MODES["grey jpeg"], FetchLimits(num_pixels=100))


def test_metadata_that_unpacks_to_much_does_no_harm():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 100_000_000, zip=True)
    with pytest.raises(ImageError, match="the PNG image is damaged"):
        decode_image(encode(GREY, pnginfo=info), LIMITS)


def test_paths_and_file_urls(tmp_path, monkeypatch):
    path = tmp_path / "five of hearts %20.png"
    path.write_bytes(MODES["grey"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    in_url = str(path).replace("%", "%25").replace(" ", "%20")
    for url in (
        str(path),
        path.name,
        f"~/{path.name}",
        f"file://{in_url}",
        f"FILE://localhost{in_url}",
    ):
        assert np.array_equal(load_image(url), to_rgb(INK))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected a URL or a path, found an empty one; name a picture"),
        ("nothing.png", "there is no such file; check the path"),
        ("folder", "expected an image file, found a folder; name a file in it"),
        ("a\0b", "cannot be read: .*null"),
        ("x" * 5000, "cannot be read: file name too long"),
        ("file://elsewhere/a.png", r"expected file:///PATH on this machine, found .* elsewhere;"),
        ("ftp://example.org/a.png", "expected http://, https://, file:// or a path, found ftp://"),
        ("large.png", "expected a file of at most 20,000,000 bytes, found a larger one"),
    ],
)
def test_files_that_cannot_be_had(tmp_path, monkeypatch, url, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "large.png").write_bytes(MODES["grey"] + bytes(20_000_000))
    with pytest.raises(ImageError, match=f"^{message}"):
        load_image(url)
