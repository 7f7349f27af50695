"""The main path through the real scripts: convert, train, evaluate, predict by URL."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from data_prep import tfrecord
from data_prep.schema import decode_example, load_manifest
from tests.predict_fixtures import serve
from tests.train_fixtures import flip_bit

SMALL_LENET = """
conv 16 5x5 padding=valid
maxpool 2x2
conv 32 5x5 padding=valid
maxpool 2x2
flatten
dense 128
output
"""


def call(run_script, cwd, script, *arguments):
    """Runs a script that must succeed and returns the JSON documents on its stdout, one a line."""
    done = run_script(script, *arguments, "--json", cwd=cwd, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def trained(run_script, tmp_path_factory):
    """A folder in which a LeNet was trained on a few hundred synthetic digits."""
    folder = tmp_path_factory.mktemp("synthetic")
    [converted] = call(
        run_script,
        folder,
        "data_prep/convert.py",
        "--dataset=synthetic",
        "--synthetic_train=600",
        "--synthetic_test=101",
    )
    assert converted["splits"] == {"train": 550, "validation": 50, "test": 101}
    [result] = call(
        run_script,
        folder,
        "train/train_lenet.py",
        "--data_dir=data/synthetic",
        "--batch_size=32",
        "--epochs=4",
    )
    assert (result["step"], result["dataset"]) == (69, "synthetic")
    return folder


def read_test_images(folder):
    """Returns the test images and labels, read by the project's own format readers alone."""
    manifest = load_manifest(folder / "data/synthetic")
    examples = [
        decode_example(record.data)
        for shard in manifest.splits["test"].shards
        for record in tfrecord.scan_records(folder / "data/synthetic" / shard.name)
    ]
    images = np.stack([np.frombuffer(example.encoded, np.uint8) for example in examples])
    return images.reshape(-1, 28, 28), np.array([example.label for example in examples])


def test_evaluation_counts_every_test_image(run_script, trained):
    # 64 does not divide 101.
    [result] = call(run_script, trained, "eval/evaluate.py", "--batch_size=64")
    assert (result["split"], result["num_examples"]) == ("test", 101)
    assert result["dataset"] == "synthetic"
    labels = read_test_images(trained)[1]
    confusion = np.array(result["confusion_matrix"])
    assert confusion.sum(axis=1).tolist() == np.bincount(labels, minlength=10).tolist()
    assert result["accuracy"] == pytest.approx(confusion.trace() / 101)
    assert [row["class_name"] for row in result["per_class"]] == list("0123456789")
    assert result["checkpoint"].startswith("runs/lenet/best/model.ckpt-")
    assert result["accuracy"] > 0.7


def test_prediction_by_url_reads_what_was_learnt(run_script, trained):
    images, labels = read_test_images(trained)

    def answer(handler):
        # Dark on light and enlarged, as people have them.
        index = int(handler.path.strip("/").removesuffix(".png"))
        picture = Image.fromarray(255 - np.kron(images[index], np.ones((5, 5), np.uint8)))
        file = io.BytesIO()
        picture.save(file, "PNG")
        handler.send_response(200)
        handler.send_header("Content-Type", "image/png")
        handler.end_headers()
        handler.wfile.write(file.getvalue())

    with serve(answer) as address:
        urls = [f"{address}/{index}.png" for index in range(30)]
        answers = call(
            run_script,
            trained,
            "predict/predict.py",
            "--allow_private_urls",
            *(f"--url={url}" for url in urls),
        )
    assert [found["url"] for found in answers] == urls
    right = 0
    for found, label in zip(answers, labels, strict=False):
        [digit] = found["digits"]
        assert len(digit["probabilities"]) == 10
        assert math.isclose(sum(digit["probabilities"]), 1, abs_tol=1e-4)
        assert digit["digit"] == int(np.argmax(digit["probabilities"]))
        assert found["text"] == str(digit["digit"])
        right += digit["digit"] == label
    assert right >= 20


def test_damaged_test_record_stops_evaluation_in_one_line(run_script, trained):
    manifest = load_manifest(trained / "data/synthetic")
    shard = trained / "data/synthetic" / manifest.splits["test"].shards[2].name
    flip_bit(shard, 300)
    try:
        done = run_script("eval/evaluate.py", cwd=trained, timeout=300)
    finally:
        flip_bit(shard, 300)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"evaluate.py: {shard}: record 0 (at byte 0): the checksum of its data")
    assert "; python data_prep/verify.py --data_dir=" in line


def test_short_run_on_mnist(run_script, tmp_path, mnist_dir):
    [converted] = call(
        run_script, tmp_path, "data_prep/convert.py", f"--from_dir={mnist_dir.absolute()}"
    )
    assert converted["splits"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    # A smaller network of LeNet's kind, whose one epoch takes a few seconds.
    (tmp_path / "small.txt").write_text(SMALL_LENET, encoding="utf-8")
    flags = ["--model=small.txt", "--epochs=1", "--batch_size=64", "--learning_rate=0.003"]
    [result] = call(run_script, tmp_path, "train/train_lenet.py", *flags)
    assert result["step"] == 860
    [evaluated] = call(run_script, tmp_path, "eval/evaluate.py", "--batch_size=1024")
    assert (evaluated["dataset"], evaluated["num_examples"]) == ("mnist", 10_000)
    assert evaluated["accuracy"] >= 0.985
