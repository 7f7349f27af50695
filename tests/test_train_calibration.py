import numpy as np
import pytest

from data_prep.non_digits import draw_non_digits
from data_prep.schema import load_manifest
from data_prep.synthetic import draw_digits
from input_pipeline.mixture import Part
from model_definition.checkpoints import choose_checkpoint
from model_definition.inference import open_model
from predict.classifier import load_classifier
from tests.train_fixtures import SIZES, indices_of, make_config, write_dataset, write_model
from train import calibration
from train.calibration import calibrate
from train.loop import train
from train.plan import make_plan

MODEL = "conv 8 5x5\nmaxpool 2x2\nconv 16 3x3\nmaxpool 2x2\nflatten\ndense 64\noutput\n"
DIGITS = tuple("0123456789")


def draw_split(n, first):
    labels = np.arange(n) % 10
    return draw_digits(labels, seed=0, first_index=first), labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that reads synthetic digits, its data folder, and what training said."""
    folder = tmp_path_factory.mktemp("calibration")
    examples = {"train": draw_split(1500, 0), "validation": draw_split(400, 5000)}
    write_dataset(folder / "data", examples=examples, class_names=DIGITS)
    path = folder / "data/manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"resize"', '"mnist"'), encoding="utf-8")
    config = make_config(write_model(folder, MODEL), batch_size=32, epochs=6.0, learning_rate=0.004)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "_PHOTOS", 1200)
        patch.setattr(calibration, "_ORIGINALS", 300)
        patch.setattr(calibration, "_HELD_BACK", 200)
        lines: list[str] = []
        patch.setattr(calibration, "log", lines.append)
        result = train(config, data_dir=folder / "data", logdir=folder / "run")
    return result.run, folder / "data", lines


def test_digits_are_kept_and_what_is_none_is_not(trained):
    run, _, _ = trained
    classifier = load_classifier(run)
    assert classifier.rejection is not None
    digits, labels = draw_split(400, 9000)
    judgement = classifier.judge(digits)
    assert judgement.is_digit.mean() > 0.95
    assert (judgement.probabilities.argmax(axis=1) == labels).mean() > 0.8
    others = draw_non_digits(
        200, images=digits, class_names=DIGITS, image_preparation="mnist", seed=99
    )
    assert classifier.judge(others).is_digit.mean() < 0.55


def test_probabilities_are_those_of_the_checkpoint_at_the_temperature(trained):
    run, _, [line] = trained
    images, _ = draw_split(50, 9000)
    with open_model(run, choose_checkpoint(run, "best")) as model:
        logits = model.compute(model.end_points["output"], images)
    temperature = float(line.partition("temperature ")[2].partition(";")[0])
    expected = np.exp(logits / temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    found = load_classifier(run).predict(images)
    np.testing.assert_allclose(found, expected, atol=0.01)  # The log gives two decimals.
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_log_says_what_was_reached(trained):
    _, _, [line] = trained
    assert line.startswith("calibrated on 400 validation images: temperature ")
    assert line.endswith("of 200 drawn images of no class")
    kept = float(line.partition("keeps ")[2].partition("%")[0])
    assert 99 <= kept <= 100


def plan_of(data_dir, **changes):
    return make_plan(make_config("lenet", **changes), data_dir, load_manifest(data_dir))


@pytest.mark.parametrize(
    ("sizes", "changes", "found"),
    [
        (SIZES, {}, 17),
        ({"train": 5, "validation": 3}, {}, 3),
        ({"train": 120}, {}, 0),
        ({"train": 20, "validation": 120}, {"train_splits": "train+validation"}, 0),
    ],
)
def test_without_enough_validation_images_there_is_none(
    trained, tmp_path, capsys, sizes, changes, found
):
    write_dataset(tmp_path / "data", sizes=sizes)
    plan = plan_of(tmp_path / "data", **changes)
    capsys.readouterr()
    assert calibrate(trained[0], tmp_path / "no checkpoint", plan, []) is None
    assert capsys.readouterr().err == (
        f"not calibrated: that takes 100 validation images, and there are {found}; prediction "
        "will take every image for one of the classes\n"
    )


def test_images_to_learn_from_are_those_of_the_run(tmp_path):
    write_dataset(tmp_path / "data")
    plan = plan_of(tmp_path / "data", train_limit=20, validate_on="1/4", seed=3)
    for chosen in (plan.training, plan.validation):
        part = Part(plan.data_dir, plan.manifest, chosen.splits, kept=chosen.kept)
        images, _ = calibration._sample([part], chosen.num_examples)
        assert sorted(indices_of(images)) == np.flatnonzero(chosen.kept).tolist()
