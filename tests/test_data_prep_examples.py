"""New images for an update, whatever they come as: what is learnt, held out, or refused."""

import gzip

import numpy as np
import pytest
from PIL import Image

from data_prep.command_line import UserError
from data_prep.examples import ImageForm, write_examples
from data_prep.schema import decode_example, load_manifest
from data_prep.tfrecord import scan_records
from predict.server.feedback import FeedbackFile
from tests.predict_fixtures import write_test_run
from tests.train_fixtures import flip_bit, write_dataset

SHAPE = (13, 9, 1)
NAMES = ("ant", "bee", "cow")
FORM = ImageForm(SHAPE, "resize", NAMES)


def make_images(n, *, seed=0):
    return np.random.default_rng(seed).integers(0, 128, (n, *SHAPE), dtype=np.uint8)


def write_folder(folder, images, labels, names=NAMES):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    return folder


def write_csv(path, images, labels):
    pairs = zip(images, labels, strict=True)
    lines = [",".join(map(str, [label, *image.ravel()])) for image, label in pairs]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_split(folder, split):
    """Returns {pixels: label} of a split."""
    manifest = load_manifest(folder)
    if split not in manifest.splits:
        return {}
    [shard] = manifest.splits[split].shards
    examples = [decode_example(record.data) for record in scan_records(folder / shard.name)]
    return {example.encoded: example.label for example in examples}


@pytest.fixture
def write(tmp_path):
    """Writes examples as version n; the earlier ones are those of version n - 1."""

    def write(path, number=2, form=FORM, misread=255):
        version, before = tmp_path / str(number), tmp_path / str(number - 1)
        version.mkdir(exist_ok=True)
        earlier = [before / name for name in ("earlier", "examples") if (before / name).is_dir()]
        write_examples(
            path,
            form,
            find_misread=lambda images, labels: images[:, 0, 0, 0] < misread,
            earlier=earlier,
            examples_dir=version / "examples",
            earlier_dir=version / "earlier",
        )
        return version

    return write


def to_dict(images, labels):
    return {image.tobytes(): label for image, label in zip(images, labels, strict=True)}


def as_feedback(folder, images, labels):
    run = write_test_run(folder / "run", class_names=NAMES, image_shape=SHAPE)
    file = FeedbackFile(folder / "feedback/run", run, 1_000_000)
    for image, label in zip(images, labels, strict=True):
        file.append(image, label, np.full(3, 1 / 3, np.float32))
    return folder / "feedback/run"


def as_csv(folder, images, labels):
    path = write_csv(folder / "new.csv", images, labels)
    (folder / "new.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder / "new.csv.gz"


def as_image_folder(folder, images, labels):
    return write_folder(folder / "images", images, labels)


@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_dataset_folder(tmp_path, write, image_format):
    images, labels = make_images(9), np.arange(9) % 2
    examples = {"train": (images[:5], labels[:5]), "validation": (images[5:7], labels[5:7])}
    examples["test"] = (images[7:], labels[7:])
    write_dataset(
        tmp_path / "data", examples=examples, class_names=NAMES[1:], image_format=image_format
    )
    folder = write(tmp_path / "data") / "examples"
    # Labels are matched by the classes' names; the owner's own validation split is held out.
    assert read_split(folder, "train") == to_dict(images[:5], labels[:5] + 1)
    assert read_split(folder, "validation") == to_dict(images[5:7], labels[5:7] + 1)
    assert read_split(folder, "test") == {}


@pytest.mark.parametrize("source", [as_feedback, as_csv, as_image_folder])
def test_a_third_is_held_out(tmp_path, write, source):
    images, labels = make_images(11), np.arange(11) % 3
    folder = write(source(tmp_path, images, labels)) / "examples"
    learnt, held_out = read_split(folder, "train"), read_split(folder, "validation")
    assert (len(learnt), len(held_out)) == (7, 4)
    assert {**learnt, **held_out} == to_dict(images, labels)
    assert load_manifest(folder).class_names == NAMES


@pytest.mark.parametrize(("n", "held_out"), [(1, 0), (3, 0), (4, 1)])
def test_few_images_are_all_learnt(tmp_path, write, n, held_out):
    path = write_csv(tmp_path / "new.csv", make_images(n), [1] * n)
    folder = write(path) / "examples"
    assert len(read_split(folder, "validation")) == held_out
    assert len(read_split(folder, "train")) == n - held_out


def test_a_third_of_what_is_misread_is_held_out_and_of_the_rest(tmp_path, write):
    images = make_images(30)
    images[:, 0, 0] = np.arange(30)[:, None]
    path = write_csv(tmp_path / "new.csv", images, [0] * 30)
    for number, misread, held_out in ((2, 5, [2, 8]), (4, 2, [1, 9]), (6, 1, []), (8, 0, [])):
        folder = write(path, number, misread=misread) / "examples"
        first = [encoded[0] for encoded in read_split(folder, "validation")]
        found = [sum(pixel < misread for pixel in first), sum(pixel >= misread for pixel in first)]
        assert found == (held_out or [0, 0])


def test_image_that_was_held_out_is_never_learnt_later(tmp_path, write):
    images, labels = make_images(40), np.arange(40) % 3
    first = write(write_csv(tmp_path / "new.csv", images[:8], labels[:8]))
    held_out = read_split(first / "examples", "validation")
    second = write(write_csv(tmp_path / "new.csv", images[:20], labels[:20]), 3)
    third = write(write_csv(tmp_path / "new.csv", images, labels), 4)
    assert read_split(second / "earlier", "validation") == held_out
    assert read_split(second / "earlier", "train") == read_split(first / "examples", "train")
    new = read_split(second / "examples", "train"), read_split(second / "examples", "validation")
    assert {**new[0], **new[1]} == to_dict(images[8:20], labels[8:20])
    assert read_split(third / "earlier", "validation") == {**held_out, **new[1]}
    assert len(read_split(third / "earlier", "train")) == 20 - len(held_out) - len(new[1])


def test_other_label_takes_the_place_of_the_earlier_one(tmp_path, write, capsys):
    images = make_images(6)
    write(write_csv(tmp_path / "new.csv", images[:3], [0, 0, 0]))
    path = write_csv(tmp_path / "new.csv", images[[0, 1, 1, 3]], [0, 2, 1, 1])
    second = write(path, 3)
    assert read_split(second / "examples", "train") == to_dict(images[[1, 3]], [1, 1])
    assert read_split(second / "earlier", "train") == to_dict(images[[0, 2]], [0, 0])
    said = capsys.readouterr().err
    assert "1 image(s) come again; the last label counts" in said
    assert "1 image(s) were learnt or held out before" in said
    assert "1 image(s) have another label than before" in said


@pytest.mark.parametrize("name", ["3.png", "3.jpg"])
def test_a_picture_alone_has_no_class(tmp_path, write, name):
    Image.new("L", (28, 28)).save(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: a picture's class is its folder's name; put it"):
        write(tmp_path / name)


def test_nothing_new(tmp_path, write):
    path = write_csv(tmp_path / "new.csv", make_images(3), [0, 1, 2])
    write(path)
    with pytest.raises(UserError, match=r"new.csv: holds no new image to learn; give some"):
        write(path, 3)


def test_light_background_is_refused_where_ink_is_bright(tmp_path, write):
    images = make_images(4)
    images[2] = 255 - images[2] // 4
    path = write_csv(tmp_path / "new.csv", images, [0, 0, 2, 0])
    with pytest.raises(UserError, match=r"found 1 image\(s\) with a light .* of class cow; serve"):
        write(path, form=ImageForm(SHAPE, "mnist", NAMES))
    assert len(read_split(write(path) / "examples", "train")) == 3


def test_wrong_images_are_refused_in_words(tmp_path, write):
    images = make_images(4)
    for path, message in (
        (tmp_path / "none", "none: expected a folder of images, found no folder of that name"),
        (write_csv(tmp_path / "a.csv", images, [0, 1, 2, 3]), "labels of 0 to 2, found 3; correct"),
        (
            write_csv(tmp_path / "b.csv", images[:, :12], [0, 1, 2, 0]),
            "found 108 pixels; give images as the run reads them",
        ),
        (
            write_folder(tmp_path / "c", images, [0, 1, 2, 0], names=("ant", "owl", "cow")),
            "expected the run's classes, ant bee cow, found 'owl'; an update adds no class",
        ),
        (as_feedback(tmp_path, images, [0] * 4).parent, "holds the corrections of .*feedback/run"),
    ):
        with pytest.raises(UserError, match=message):
            write(path)
    write_dataset(tmp_path / "d")
    with pytest.raises(UserError, match=r"expected images of 13x9x1.*, found 13x9x3; give images"):
        write(tmp_path / "d")


def test_damaged_dataset_folder_is_refused(tmp_path, write):
    write_dataset(
        tmp_path / "data", examples={"train": (make_images(4), np.zeros(4, int))}, class_names=NAMES
    )
    flip_bit(tmp_path / "data/tiny-train.tfrecord-00001-of-00003", 40)
    with pytest.raises(UserError, match=r"record 0 \(at byte 0\).*verify.py --data_dir="):
        write(tmp_path / "data")
