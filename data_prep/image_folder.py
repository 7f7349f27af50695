"""Reads a folder of PNG and JPEG images, sorted by class into folders.

    FOLDER/cat/1.png, FOLDER/dog/2.jpg, …              all are training images
    FOLDER/{train,validation,test}/cat/1.png, …        as the folders say; train must be there

The folders' names are the classes' names. Images may have any size, mode and EXIF orientation.
Each is brought to the asked shape as a whole: scaled to fit, keeping its aspect ratio, and filled
up with the middle colour of its own border, so that no edge appears where the picture has none.
Transparent pixels become white, as on a page, or black where what is visible is light: ink stays
visible.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_prep.command_line import UserError
from data_prep.source import Batch, Source, SourceFile, SourceSplit, describe_file

SPLITS = ("train", "validation", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 25_000_000
BATCH_BYTES = 1 << 21  # of pixels in memory at a time


@dataclass(frozen=True)
class ImageFile:
    """An image that has been found, not yet opened.

    Attributes:
      path: where it is.
      label: its class, an index of the class names.
      key: its path under the split's folder, with forward slashes: the same on every machine.
    """

    path: Path
    label: int
    key: str


def read_image_folder(folder: Path, image_shape: tuple[int, int, int], seed: int) -> Source:
    """Opens a folder of images.

    Args:
      folder: has a folder for each class, or folders train, validation and test that have.
      image_shape: the height, width and channels (1 or 3) that every image is brought to.
      seed: decides the order of the images, which are sorted by class on the disk.

    Returns:
      The source; its images are uint8 [n, height, width, channels]. Classes are in alphabetical
      order, numbers before words and in numeric order.

    Raises:
      UserError: the folders are not as above, a class has no images or is unknown in train, or a
        file is not an image. A damaged image is raised while it is read.
    """
    roots = _find_splits(folder)
    class_names = _find_classes(roots["train"])
    images = {split: _find_images(root, class_names) for split, root in roots.items()}
    return Source(
        image_shape=image_shape,
        class_names=tuple(class_names),
        files=tuple(_describe(split, found) for split, found in images.items()),
        splits={split: _make_split(found, image_shape, seed) for split, found in images.items()},
    )


def _visible(folder: Path) -> list[Path]:
    """Returns what is in a folder, hidden files left out, sorted by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _find_splits(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of images, found no folder of that name")
    names = [path.name for path in _visible(folder) if path.is_dir()]
    if not set(names) & set(SPLITS):
        return {"train": folder}
    if "train" not in names or set(names) - set(SPLITS):
        raise UserError(
            f"{folder}: expected a folder train, and beside it no others than validation and test, "
            f"found {', '.join(names)}; rename or move the others"
        )
    return {split: folder / split for split in SPLITS if split in names}


def _find_classes(root: Path) -> list[str]:
    names = []
    for path in _visible(root):
        if path.is_dir():
            names.append(path.name)
        elif path.suffix.lower() in SUFFIXES:
            raise UserError(
                f"{path}: expected images in a folder for each class, found one outside; "
                "move it into the folder of its class"
            )
    if not names:
        raise UserError(
            f"{root}: expected a folder of images for each class, found no folders in it"
        )
    return sorted(names, key=lambda name: (not name.isdecimal(), _number(name), name))


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0


def _find_images(root: Path, class_names: Sequence[str]) -> list[ImageFile]:
    """Returns the images of a split, sorted by key; opens none of them."""
    images = []
    for name in _find_classes(root):
        if name not in class_names:
            raise UserError(
                f"{root / name}: expected one of the classes that train has, "
                f"{', '.join(class_names)}, found {name}; add it to train, or remove it here"
            )
        paths = _visible(root / name)
        if not paths:
            raise UserError(
                f"{root / name}: expected images of this class, found none; add some, or remove "
                "the folder"
            )
        for path in paths:
            if not (path.is_file() and path.suffix.lower() in SUFFIXES):
                raise UserError(
                    f"{path}: expected only images ({', '.join(SUFFIXES)}) in the folder of a "
                    "class, found this; move it elsewhere"
                )
            images.append(ImageFile(path, class_names.index(name), f"{name}/{path.name}"))
    return sorted(images, key=lambda image: image.key)


def _describe(split: str, images: Sequence[ImageFile]) -> SourceFile:
    """Sums a split's images up as one entry: a digest over their names and their digests."""
    digest, num_bytes = hashlib.sha256(), 0
    for image in images:
        file = describe_file(image.path)
        digest.update(f"{file.sha256}  {image.key}\n".encode())
        num_bytes += file.num_bytes
    return SourceFile(name=f"{split}/", num_bytes=num_bytes, sha256=digest.hexdigest())


def _make_split(
    images: Sequence[ImageFile], image_shape: tuple[int, int, int], seed: int
) -> SourceSplit:
    height, width, channels = image_shape
    batch_size = max(1, BATCH_BYTES // (height * width * channels))
    # A hash instead of a random generator: an image's place does not depend on the others.
    shuffled = sorted(
        images, key=lambda image: hashlib.sha256(f"{seed}:{image.key}".encode()).digest()
    )

    def read() -> Iterator[Batch]:
        for start in range(0, len(shuffled), batch_size):
            batch = shuffled[start : start + batch_size]
            pixels = np.stack([load_image(image.path, image_shape) for image in batch])
            yield pixels, np.array([image.label for image in batch], np.int64)

    return SourceSplit(num_examples=len(shuffled), read=read)


def load_image(path: Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Reads an image and brings it to a shape.

    Args:
      path: a PNG or JPEG file.
      image_shape: the height, width and channels (1 or 3) to be.

    Returns:
      uint8 [height, width, channels], 0 to 255.

    Raises:
      UserError: the file is not such an image, is damaged, animated, or too large.
    """
    height, width, channels = image_shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Flaws of the metadata leave the pixels whole.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _check(path, image)
                upright = ImageOps.exif_transpose(image)
                flat = _flatten(upright).convert("L" if channels == 1 else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(path, "more") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk's trouble, not the image's.
        reason = "no such image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(
            f"{path}: expected a whole PNG or JPEG image, found {reason}; replace or remove the "
            "file"
        ) from error
    return _fit(flat, height, width).reshape(image_shape)


def _check(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width:,} x {image.height:,}")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise UserError(f"{path}: expected a still image, found an animated one; remove the file")


def _too_large(path: Path, found: str) -> UserError:
    return UserError(
        f"{path}: expected an image of at most {MAX_PIXELS:,} pixels, found {found}; "
        "make it smaller"
    )


def _flatten(image: Image.Image) -> Image.Image:
    """Returns an opaque 8-bit image, grey or RGB."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip.
        return Image.fromarray(
            ((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)
        )
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    grey, alpha = (
        np.asarray(part, np.float64) for part in (image.convert("L"), image.getchannel("A"))
    )
    light = (grey * alpha).sum() > 127.5 * alpha.sum()
    page = Image.new("RGBA", image.size, "black" if light else "white")
    return Image.alpha_composite(page, image).convert("RGB")


def _fit(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Scales an image to fit, and fills up with the median of its border."""
    scale = min(height / image.height, width / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    pixels = pixels.reshape(size[1], size[0], -1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    framed = np.empty((height, width, pixels.shape[2]), np.uint8)
    framed[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    framed[top : top + size[1], left : left + size[0]] = pixels
    return framed
