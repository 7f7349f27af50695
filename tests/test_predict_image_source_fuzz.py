"""Damaged and hostile pictures: pixels come out or `ImageError`, soon and in little memory."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from predict.image_source import FetchLimits, ImageError, decode_image
from tests.predict_fixtures import draw, to_rgb

LIMITS = FetchLimits(num_pixels=100_000)
MOST_GROWTH = 150_000  # KiB over all that a test decodes
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY = Image.fromarray(draw("5", size=30, margin=5))
WIDE = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257)


def encode(picture, format_name="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def with_orientation(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


PNGS = [
    encode(GREY),
    encode(GREY, transparency=255, interlace=1),
    encode(WIDE),
    encode(GREY.convert("P"), transparency=bytes(range(200))),
    encode(GREY.convert("RGBA"), exif=with_orientation(6), dpi=(72, 72), icc_profile=b"x" * 200),
    encode(GREY.convert("LA")),
    encode(GREY, save_all=True, append_images=[Image.fromarray(255 - np.asarray(GREY))]),
]
JPEGS = [
    encode(GREY, "JPEG"),
    encode(GREY.convert("RGB"), "JPEG", progressive=True, exif=with_orientation(3)),
    encode(GREY.convert("CMYK"), "JPEG", comment=b"hello"),
    encode(GREY.convert("RGB"), "JPEG", icc_profile=b"y" * 300, restart_marker_blocks=2),
    encode(GREY, "MPO", save_all=True, append_images=[GREY]),
]

# Numbers that decoders stumble over, as they stand in files: one, two and four bytes.
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]
WORDS = [
    struct.pack(f"{order}{size}", number)
    for size, most in (("B", 2**8), ("H", 2**16), ("I", 2**32))
    for order in "<>"
    for number in NUMBERS
    if number < most
]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),  # where
        st.sampled_from(["replace", "insert", "delete", "repeat"]),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(WORDS)),
        st.integers(1, 64),  # how many bytes are deleted or repeated
    ),
    min_size=1,
    max_size=6,
)


def edit(data, edits):
    for where, how, piece, count in edits:
        place = round(where * len(data))
        if how == "replace":
            data = data[:place] + piece + data[place + len(piece) :]
        elif how == "insert":
            data = data[:place] + piece + data[place:]
        elif how == "delete":
            data = data[:place] + data[place + count :]
        else:
            data = data[:place] + data[place : place + count] * 3 + data[place + count :]
    return data


def split_chunks(png):
    position = len(SIGNATURE)
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        yield png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        position += 12 + length


def join_chunks(chunks):
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def check(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        pixels = decode_image(data, LIMITS)
    except ImageError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
    else:
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
        assert 0 < pixels.size <= 3 * LIMITS.num_pixels
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (MOST_GROWTH if sys.platform == "linux" else MOST_GROWTH * 1024)


@settings(max_examples=1200, deadline=5000)
@given(st.sampled_from(PNGS + JPEGS), EDITS)
def test_any_bytes_changed(data, edits):
    check(edit(data, edits))


@settings(max_examples=1200, deadline=5000)
@given(st.sampled_from(PNGS), st.floats(0, 1), st.sampled_from(["edit", "drop", "swap"]), EDITS)
def test_png_chunks_changed_whose_checksums_are_right(data, where, how, edits):
    chunks = list(split_chunks(data))
    place = round(where * (len(chunks) - 1))
    kind, body = chunks[place]
    if how == "edit":
        chunks[place] = (kind, edit(body, edits))
    elif how == "drop":
        del chunks[place]
    else:
        chunks.insert(round(edits[0][0] * len(chunks)), chunks.pop(place))
    check(join_chunks(chunks))


@settings(max_examples=500, deadline=5000)
@given(st.sampled_from(PNGS), EDITS)
def test_png_pixels_changed_before_they_are_packed(data, edits):
    packed = b"".join(body for kind, body in split_chunks(data) if kind == b"IDAT")
    pixels = zlib.compress(edit(zlib.decompress(packed), edits))
    chunks = [(kind, body) for kind, body in split_chunks(data) if kind != b"IDAT"]
    chunks.insert(-1, (b"IDAT", pixels))
    check(join_chunks(chunks))


@settings(max_examples=500, deadline=5000)
@given(st.sampled_from([SIGNATURE, b"\xff\xd8\xff", b"\xff\xd8\xff\xe0"]), st.binary(max_size=400))
def test_anything_behind_the_first_bytes(start, rest):
    check(start + rest)


def test_small_jpeg_that_would_take_minutes_is_refused():
    data = encode(Image.new("L", (300, 300), 255), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    for number, is_refused in ((30, False), (1000, True)):
        hostile = data[:-2] + last_scan * number + b"\xff\xd9"
        if is_refused:
            with pytest.raises(ImageError, match=r"at most 50 scans, found 1,0\d\d; save it again"):
                decode_image(hostile, LIMITS)
        else:
            assert decode_image(hostile, LIMITS).shape == (300, 300, 3)


def test_what_only_looks_like_scans_does_no_harm():
    thumbnail = b"\xff\xda" * 80  # in a phone's metadata, or in a film behind the photo
    data = encode(GREY, "JPEG", comment=thumbnail) + thumbnail
    assert decode_image(data, LIMITS).shape == to_rgb(np.asarray(GREY)).shape


def test_png_of_too_many_chunks_is_refused():
    (kind, header), *rest = split_chunks(PNGS[0])
    many = [(b"teXt", b"")] * 100_001
    with pytest.raises(ImageError, match="PNG image of at most 100,000 chunks, found more; save"):
        decode_image(join_chunks([(kind, header), *many, *rest]), LIMITS)


MEASURE = """
import resource, sys
from predict.image_source import FetchLimits, decode_image
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(decode_image(data, FetchLimits()).shape[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16"])
def test_large_pictures_are_decoded_in_bounded_memory(mode):
    """Pillow's own form and the answer take 7 bytes a pixel; what is between must not add up."""
    width, height = 3000, 2000
    if mode == "I;16":
        picture = Image.fromarray(np.full((height, width), 9, np.uint16))
    else:
        picture = Image.new(mode, (width, height))
    transparency = {} if mode == "RGBA" else {"transparency": 0}
    result = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=encode(picture, compress_level=1, **transparency),
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        check=True,
    )
    decoded_width, grown = map(int, result.stdout.split())
    assert decoded_width == width
    assert grown * (1 if sys.platform == "darwin" else 1024) < 11 * width * height
