import pytest

from data_prep.command_line import UserError
from input_pipeline.augmentation import Augmentation
from train.config import TrainConfig, changed_flags, make_config, training_flags, unused_flags


def test_defaults_are_in_range():
    assert TrainConfig().total_steps(55_000) > 100


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("train_limit", 0, "a whole number, at least 1"),
        ("train_limit", 10**400, "a whole number, at least 1"),  # beyond what a float can hold
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
        ("beta1", 1.0, "a number from 0 to below 1"),
        ("beta2", -0.1, "a number from 0 to below 1"),
        ("weight_decay", -1e-4, "a number from 0 to below 1000"),
        ("label_smoothing", 1.0, "a number from 0 to below 1"),
        ("teacher_share", 0.0, "a number above 0, at most 1"),
        ("teacher_share", 1.1, "a number above 0, at most 1"),
        ("teacher_temperature", 0.0, "a number from 0.001 to below 1000"),
        ("teacher_temperature", float("nan"), "a number from 0.001 to below 1000"),
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
    TrainConfig(beta1=0.0, beta2=0.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimizer", "--optimizer=other: expected adam or momentum or sgd or rmsprop"),
        ("schedule", "--schedule=other: expected one_cycle or cosine or exponential or constant"),
        ("precision", "--precision=other: expected auto or float32 or bfloat16"),
    ],
)
def test_unknown_choice_is_refused(name, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        make_config({name: "other"})


@pytest.mark.parametrize("text", ["", "train", "0/5", "6/5", "1/1", "0.2", "1/5 "])
def test_what_is_nothing_to_validate_on_is_refused(text):
    with pytest.raises(
        UserError,
        match=f"^--validate_on={text}: expected validation, none, or a fold of the training images "
        "such as 1/5$",
    ):
        make_config({"validate_on": text})


def test_flags_are_the_fields_and_those_of_the_augmentation():
    known = training_flags()
    assert {name: kind for name, (kind, _) in known.items() if name in ("model", "model_set")} == {
        "model": str,
        "model_set": tuple,
    }
    assert known["batch_size"] == (int, 128)
    assert known["train_limit"] == (int, None)  # of `int | None`
    assert known["epochs"] == (float, 3.0)
    assert known["elastic"] == (float, 0.0)
    assert "augmentation" not in known
    config = TrainConfig()
    fields = {**vars(config), **vars(config.augmentation)}
    assert fields == {
        **{name: default for name, (_, default) in known.items()},
        "augmentation": Augmentation(),
    }


def test_given_flags_make_a_config():
    assert make_config({}) == TrainConfig()
    assert make_config({"max_steps": 5}) == TrainConfig(epochs=None, max_steps=5)
    given = {"epochs": 1.0, "shift": 0.1, "model_set": ["width=64", "rate=a=b"]}
    config = make_config(given)
    assert config == TrainConfig(
        epochs=1.0,
        augmentation=Augmentation(shift=0.1),
        model_set=(("width", "64"), ("rate", "a=b")),
    )
    assert config.to_json()["model_set"] == {"width": "64", "rate": "a=b"}
    assert config.to_json()["augmentation"]["shift"] == 0.1


def test_given_flags_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r"^--epochs and --max_steps: set one of them; the other"):
        make_config({"max_steps": 5, "epochs": 3.0})
    with pytest.raises(UserError, match=r"^--shift=0.6: expected a number from 0 to 0.5$"):
        make_config({"shift": 0.6})


@pytest.mark.parametrize("text", ["width", "=64", "width=", "", "width = 64", "width=6 4"])
def test_named_value_is_written_with_an_equals_sign(text):
    with pytest.raises(
        UserError,
        match=f"^--model_set={text}: expected NAME=VALUE without spaces, such as width=64$",
    ):
        make_config({"model_set": ["rate=1", text]})


def test_named_value_is_set_once():
    with pytest.raises(UserError, match=r"^--model_set: width is set more than once; keep one"):
        make_config({"model_set": ["width=1", "rate=1", "width=2"]})


def test_flags_without_an_effect_are_found():
    every = {"momentum": 0.9, "beta1": 0.9, "beta2": 0.9, "decay_rate": 0.9}
    assert unused_flags(every) == {
        "momentum": "--optimizer=momentum or rmsprop",
        "decay_rate": "--schedule=exponential",
    }
    used = {"optimizer": "rmsprop", "schedule": "exponential", "warmup_steps": 3}
    assert unused_flags({**every, **used}) == {
        "beta1": "--optimizer=adam",
        "beta2": "--optimizer=adam",
    }
    assert unused_flags({"optimizer": "momentum", "momentum": 0.5}) == {}
    taught = {"teacher_share": 0.5, "teacher_temperature": 2.0}
    assert unused_flags(taught) == dict.fromkeys(taught, "--teacher=RUN")
    assert unused_flags({**taught, "teacher": "runs/lenet"}) == {}


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
        model="other.txt",
        model_set=(("width", "64"),),  # The text decides whether the model is another one.
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


def test_flag_that_is_newer_than_the_run_was_its_default():
    old, new = TrainConfig().to_json(), TrainConfig(beta2=0.99).to_json()
    for name in ("beta1", "beta2", "model_set"):
        del old[name]
    assert changed_flags(old, TrainConfig().to_json()) == {"refused": [], "extended": []}
    assert changed_flags(old, new)["refused"] == ["beta2: 0.999 in the run, 0.99 now"]
