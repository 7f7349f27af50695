import numpy as np
import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from tests.train_fixtures import make_config, make_examples, write_dataset
from train.plan import make_plan


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "tiny"
    write_dataset(folder)
    return folder


def plan_of(data_dir, **changes):
    return make_plan(make_config("lenet", **changes), data_dir, load_manifest(data_dir))


def test_whole_splits_are_trained_and_validated_on(data_dir):
    plan = plan_of(data_dir)
    assert vars(plan.training) == {"splits": ("train",), "kept": None, "num_examples": 53}
    assert plan.validation is not None
    assert vars(plan.validation) == {"splits": ("validation",), "kept": None, "num_examples": 17}
    assert (plan.total_steps, plan.steps_an_epoch, plan.validation_steps) == (20, 53 / 8, 7)


def test_the_few_are_chosen_by_seed_and_validated_on_the_split(data_dir):
    plans = [plan_of(data_dir, train_limit=20, seed=seed) for seed in (0, 0, 1)]
    first, same, other = (plan.training.kept for plan in plans)
    assert first is not None
    assert first.sum() == plans[0].training.num_examples == 20
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert plans[0].validation is not None
    assert plans[0].validation.splits == ("validation",)


@pytest.mark.parametrize("limit", [None, 23])
def test_folds_of_any_seed_share_the_images_out(data_dir, limit):
    splits = {"train_splits": "train+validation", "train_limit": limit}
    for seeds in ((5, 5, 5), (1, 2, 3)):
        plans = [
            plan_of(data_dir, validate_on=f"{number}/3", seed=seed, **splits)
            for number, seed in enumerate(seeds, start=1)
        ]
        validated = [plan.validation.kept for plan in plans]
        for plan, fold in zip(plans, validated, strict=True):
            assert plan.validation.splits == plan.training.splits == ("train", "validation")
            assert not (fold & plan.training.kept).any()
            assert fold.sum() == plan.validation.num_examples
            assert plan.training.num_examples == plan.training.kept.sum()
            assert fold.sum() + plan.training.kept.sum() == (limit or 70)
            assert plan.steps_an_epoch == plan.training.num_examples / 8
        if limit is None or len(set(seeds)) == 1:
            together = np.sum(validated, axis=0)
            assert together.max() == 1
            assert together.sum() == (limit or 70)


def test_every_class_has_its_share_of_a_fold(data_dir):
    labels = make_examples(53)[1]
    plan = plan_of(data_dir, validate_on="1/4")
    shares = np.bincount(labels, minlength=5) / 4
    found = np.bincount(labels[plan.validation.kept], minlength=5)
    assert np.all(np.abs(found - shares) <= 2)


def test_fold_needs_no_validation_split(tmp_path):
    write_dataset(tmp_path / "data", sizes={"train": 20})
    plan = plan_of(tmp_path / "data", validate_on="1/4", patience=2)
    assert plan.validation.num_examples == 5


def test_none_validates_on_nothing(data_dir, capsys):
    plan = plan_of(data_dir, validate_on="none")
    assert plan.validation is None
    assert plan.training.num_examples == 53
    assert "no validation: --validate_on=none; the last checkpoint" in capsys.readouterr().err


def test_too_few_images_are_refused(data_dir):
    with pytest.raises(UserError, match=r"^--train_limit=71: there are 70 training images; lower"):
        plan_of(data_dir, train_splits="train+validation", train_limit=71)
    with pytest.raises(
        UserError,
        match=r"^--validate_on=2/9: there are 8 training images, which do not fill so many folds$",
    ):
        plan_of(data_dir, train_limit=8, validate_on="2/9")
