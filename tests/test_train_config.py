import pytest

from data_prep.command_line import UserError
from input_pipeline.augment import Augmentation
from train.config import TrainConfig, changed_flags


def test_defaults_are_in_range():
    assert TrainConfig().total_steps(55_000) > 100


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("train_limit", 0, "a whole number, at least 1"),
        ("batch_size", 0, "a whole number from 1 to 100000"),
        ("batch_size", 100_001, "a whole number from 1 to 100000"),
        ("epochs", 0.0, "a number above 0 and below 1000000"),
        ("epochs", 1e6, "a number above 0 and below 1000000"),
        ("epochs", float("nan"), "a number above 0 and below 1000000"),
        ("learning_rate", -0.1, "a number from 0 to below 1000000"),
        ("learning_rate", float("inf"), "a number from 0 to below 1000000"),
        ("warmup_steps", -1, "a whole number, at least 0"),
        ("decay_rate", 0.0, "a number above 0, at most 1"),
        ("decay_rate", 1.1, "a number above 0, at most 1"),
        ("momentum", 1.0, "a number from 0 to below 1"),
        ("weight_decay", -1e-4, "a number from 0 to below 1000"),
        ("label_smoothing", 1.0, "a number from 0 to below 1"),
        ("clip_norm", -1.0, "a number, at least 0"),
        ("clip_norm", float("inf"), "a number, at least 0"),
        ("ema_decay", 1.0, "a number from 0 to below 1"),
        ("patience", -1, "a whole number, at least 0"),
        ("validate_every_steps", 0, "a whole number, at least 1"),
        ("summary_every_steps", 0, "a whole number, at least 1"),
        ("keep_checkpoints", 0, "a whole number from 1 to 9999"),
        ("cache_mb", 0, "a whole number, at least 1"),
        ("seed", -1, "a whole number from 0 to 2147483647"),
        ("seed", 2**31, "a whole number from 0 to 2147483647"),
    ],
)
def test_value_out_of_range_is_refused(name, value, expected):
    with pytest.raises(
        UserError, match=f"^--{name}={value}: expected {expected}$".replace("+", ".")
    ):
        TrainConfig(**{name: value})


def test_max_steps_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"^--max_steps=0: expected a whole number, at least 1$"):
        TrainConfig(epochs=None, max_steps=0)


@pytest.mark.parametrize("values", [{"max_steps": 5}, {"epochs": None}])
def test_either_epochs_or_max_steps_is_set(values):
    with pytest.raises(UserError, match=r"^--epochs and --max_steps: set one of them; the other"):
        TrainConfig(**values)


def test_edges_are_allowed():
    TrainConfig(decay_rate=1.0, weight_decay=0.0, label_smoothing=0.0, warmup_steps=0, seed=0)


def test_steps_follow_from_epochs():
    config = TrainConfig(epochs=1.5, batch_size=10)
    assert config.total_steps(53) == 8  # 7.95 of them
    assert config.validation_steps(53) == 6  # once an epoch of 5.3
    assert TrainConfig(epochs=0.001, batch_size=500).total_steps(53) == 1


def test_steps_can_be_set():
    config = TrainConfig(epochs=None, max_steps=7, validate_every_steps=3)
    assert config.total_steps(53) == 7
    assert config.validation_steps(53) == 3


def test_changed_flags_are_told_apart():
    old = TrainConfig(batch_size=128, epochs=2.0).to_json()
    new = TrainConfig(
        batch_size=64,
        epochs=3.0,
        patience=2,
        cache_mb=5,
        keep_checkpoints=1,
        summary_every_steps=9,
        augmentation=Augmentation(shift=0.1),
    ).to_json()
    assert changed_flags(old, old) == {"refused": [], "extended": []}
    changed = changed_flags(old, new)
    assert changed["extended"] == [
        "epochs: 2.0 in the run, 3.0 now",
        "patience: 0 in the run, 2 now",
    ]
    assert len(changed["refused"]) == 3
    assert changed["refused"][0].startswith("augmentation: {'shift': 0.0,")
    assert changed["refused"][1:] == [
        "batch_size: 128 in the run, 64 now",
        "cache_mb: 1024 in the run, 5 now",  # It may change the order of the images.
    ]


def test_flag_that_the_run_did_not_know_counts_as_changed():
    assert changed_flags({}, {"nesterov": True})["refused"] == [
        "nesterov: None in the run, True now"
    ]
