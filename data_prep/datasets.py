"""The datasets that the converter knows, and where each comes from.

`DATASETS` is the whole table: class names, mirrors, size and sha256 of every published file. The
digests of Fashion-MNIST, KMNIST and EMNIST are those that TensorFlow Datasets records for them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.command_line import UserError, log
from data_prep.download import RemoteFile, extract_members, fetch_files
from data_prep.source import Source

DIGITS = tuple("0123456789")
DEFAULT_FOLDER_SHAPE = (28, 28, 1)  # what images of an image_folder become unless a shape is asked


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is read.

    Attributes:
      name: what `--dataset` calls it.
      class_names: the name of each label, label 0 first; None where the data tell.
      image_preparation: how a foreign image becomes an input of a model trained on it: `mnist`
        fits the ink into the middle and centres it by mass, `resize` scales the whole image.
      mirrors: URLs of folders that hold all of `files`; empty where nothing is published.
      files: the published files.
      members: where `files` is one zip archive, the files in it to read.
      folder: the folder under `--download_dir` that the files go to.
      prefixes: how the names of each split's IDX files begin.
      transposed: whether the images lie on their side in the files.
    """

    name: str
    class_names: tuple[str, ...] | None = None
    image_preparation: str = "mnist"
    mirrors: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    members: tuple[str, ...] = ()
    folder: str = ""
    prefixes: Mapping[str, str] = field(default_factory=lambda: {"train": "train", "test": "t10k"})
    transposed: bool = False


def _four_files(*sizes_and_digests: tuple[int, str]) -> tuple[RemoteFile, ...]:
    """Describes the files of a dataset that comes as MNIST did."""
    names = (
        f"{split}-{ending}-ubyte.gz"
        for split in ("train", "t10k")
        for ending in ("images-idx3", "labels-idx1")
    )
    return tuple(
        RemoteFile(name, size, digest)
        for name, (size, digest) in zip(names, sizes_and_digests, strict=True)
    )


def _make_emnist(part: str, class_names: tuple[str, ...]) -> DatasetInfo:
    """Describes one part of EMNIST; all parts come in the same archive."""
    prefixes = {split: f"emnist-{part}-{split}" for split in ("train", "test")}
    return DatasetInfo(
        name=f"emnist_{part}",
        class_names=class_names,
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
        files=(
            RemoteFile(
                "gzip.zip",
                561_753_746,
                "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
            ),
        ),
        members=tuple(
            f"gzip/{prefix}-{ending}-ubyte.gz"
            for prefix in prefixes.values()
            for ending in ("images-idx3", "labels-idx1")
        ),
        folder="emnist",
        prefixes=prefixes,
        transposed=True,
    )


_ALL = (
    DatasetInfo(
        name="mnist",
        class_names=DIGITS,
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        files=_four_files(
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        folder="mnist",
    ),
    DatasetInfo(
        name="fashion_mnist",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        image_preparation="resize",
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files=_four_files(
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        folder="fashion_mnist",
    ),
    DatasetInfo(
        name="kmnist",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        files=_four_files(
            (18_165_135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29_497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3_041_136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5_120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
        folder="kmnist",
    ),
    _make_emnist("digits", DIGITS),
    _make_emnist("balanced", tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")),
    DatasetInfo(name="synthetic", class_names=DIGITS),
    DatasetInfo(name="idx"),
    DatasetInfo(name="csv"),
    DatasetInfo(name="image_folder", image_preparation="resize"),
    DatasetInfo(name="feedback"),
)
DATASETS: Mapping[str, DatasetInfo] = {info.name: info for info in _ALL}


def open_source(
    name: str,
    *,
    from_dir: Path | None,
    download_dir: Path,
    image_shape: tuple[int, int, int] | None,
    seed: int,
    synthetic_train: int,
    synthetic_test: int,
    mirrors: Sequence[str] = (),
) -> Source:
    """Opens a dataset by name, fetching it first where that is needed.

    Args:
      name: a key of `DATASETS`.
      from_dir: where the user's files are; None to fetch a published dataset.
      download_dir: where fetched files are kept, in a folder for each dataset.
      image_shape: the height, width and channels asked for, or None. Images of an `image_folder`
        are brought to it; a CSV file's row of pixels is read by it; elsewhere it must be what the
        images have.
      seed: decides the order of an `image_folder` and what `synthetic` draws.
      synthetic_train: how many training images `synthetic` draws.
      synthetic_test: how many test images it draws.
      mirrors: URLs to try before the dataset's own mirrors.

    Returns:
      The source.

    Raises:
      DownloadError: no mirror gave a file.
      UserError: the name is unknown, an argument does not fit the dataset, or its files are
        missing or damaged.
    """
    info = _find(name)
    _check_arguments(info, from_dir, mirrors)
    if name == "synthetic":
        from data_prep import synthetic

        source = synthetic.make_source(
            num_train=synthetic_train, num_test=synthetic_test, seed=seed
        )
    elif name == "csv":
        from data_prep import csv_images

        source = csv_images.read_csv_dataset(_given(from_dir), image_shape)
    elif name == "image_folder":
        from data_prep import image_folder

        shape = image_shape or DEFAULT_FOLDER_SHAPE
        source = image_folder.read_image_folder(_given(from_dir), shape, seed)
    elif name == "feedback":
        from data_prep import feedback

        source = feedback.read_feedback(_given(from_dir))
    else:
        source = _open_idx(info, from_dir, download_dir, mirrors)
    if image_shape and source.image_shape != image_shape:
        raise UserError(
            f"--image_shape: expected the shape that the images of {name} have, "
            f"{','.join(map(str, source.image_shape))}, found {','.join(map(str, image_shape))}; "
            "leave the flag out"
        )
    return source


def _find(name: str) -> DatasetInfo:
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {near[0]}?" if near else "choose one of them"
        raise UserError(f"--dataset: expected one of {', '.join(DATASETS)}, found {name!r}; {hint}")
    return DATASETS[name]


def _check_arguments(info: DatasetInfo, from_dir: Path | None, mirrors: Sequence[str]) -> None:
    """Refuses arguments that the dataset has no use for, and the lack of one that it needs."""
    if info.name == "synthetic" and from_dir is not None:
        raise UserError(
            f"--from_dir: expected nothing, for synthetic images are drawn, found {from_dir}; "
            "leave the flag out"
        )
    if info.name != "synthetic" and not info.mirrors and from_dir is None:
        raise UserError(f"--dataset={info.name} reads your own files: pass --from_dir=PATH")
    if mirrors and (from_dir is not None or not info.mirrors):
        raise UserError(
            f"--mirror: expected nothing, for {from_dir or info.name} is not downloaded, found "
            f"{', '.join(mirrors)}; leave the flag out"
        )


def _given(from_dir: Path | None) -> Path:
    assert from_dir is not None  # `_check_arguments` has seen to it.
    return from_dir


def _open_idx(
    info: DatasetInfo, from_dir: Path | None, download_dir: Path, mirrors: Sequence[str]
) -> Source:
    from data_prep import idx

    folder = download_dir / info.folder
    if from_dir is None:
        fetch_files(info.files, (*mirrors, *info.mirrors), folder)
        if info.members:
            extract_members(folder / info.files[0].name, info.members, folder)
    elif info.members and (archive := from_dir / info.files[0].name).is_file():
        _say_if_not_published(info, [archive])
        extract_members(archive, info.members, folder)
    else:
        folder = from_dir
    required = ("train", "test") if info.mirrors else ("train",)
    pairs = idx.find_files(folder, info.prefixes, required=required)
    if folder == from_dir and not info.members:
        _say_if_not_published(info, [path for pair in pairs.values() for path in pair])
    return idx.read_idx_dataset(pairs, class_names=info.class_names, transposed=info.transposed)


def _say_if_not_published(info: DatasetInfo, paths: Sequence[Path]) -> None:
    """Compares a user's copies with the published digests; others may be right as well."""
    from data_prep.source import describe_file

    published = {file.sha256 for file in info.files}
    others = [path.name for path in paths if describe_file(path).sha256 not in published]
    if published and others:
        log(
            f"{paths[0].parent}: not the files that {info.name} was published as (their sha256 "
            f"differs): {', '.join(others)}; their content is checked all the same"
        )
