"""Keras configurations become texts, or name every layer that has no words in one."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest

from data_prep.command_line import UserError
from model_definition.import_keras import translate_file
from model_definition.keras_import.chain import Inexpressible
from model_definition.keras_import.container import load_keras_file
from model_definition.keras_import.text import _OF_TRAINING, translate
from model_definition.keras_model import build_keras_model, keras
from tests.keras_fixtures import CHAIN, GLOBAL, layers_of, make_weights, parse
from tests.train_fixtures import CLASS_NAMES, IMAGE_SHAPE, make_examples

# Keras turns its variables into arrays in a way that numpy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

layers = keras.layers


def config_of(*body: Any, shape: tuple[int, ...] = IMAGE_SHAPE, last: Any = None) -> dict[str, Any]:
    """Returns the JSON of a model whose last layer is right."""
    last = last or layers.Dense(5, activation="softmax")
    return json.loads(keras.Sequential([keras.Input(shape), *body, last]).to_json())


def text_of(*body: Any, **options: Any) -> str:
    return translate(config_of(*body, **options)).text


@pytest.mark.parametrize("text", [CHAIN, GLOBAL])
def test_text_to_keras_to_text_gives_the_same_layers(text):
    architecture = parse(text)
    model = build_keras_model(architecture, make_weights(architecture))
    translation = translate(json.loads(model.to_json()))
    assert layers_of(translation.text) == layers_of(text)
    assert translation.input_shape == IMAGE_SHAPE
    assert translation.num_classes == len(CLASS_NAMES)
    assert translation.notes == ()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([layers.Conv2D(4, 3, activation=layers.LeakyReLU(negative_slope=0.1)), layers.Flatten()],
         "conv 4 3x3 padding=valid activation=none\nleaky_relu slope=0.1\nflatten\n"),
        ([layers.Conv2D(4, 3, activation=layers.ReLU()), layers.Flatten()],
         "conv 4 3x3 padding=valid\nflatten\n"),
        ([layers.ReLU(negative_slope=0.5), layers.ReLU(), layers.ELU(), layers.Flatten()],
         "leaky_relu slope=0.5\nrelu\nelu\nflatten\n"),
        ([layers.MaxPooling2D(2), layers.MaxPooling2D((3, 1), strides=1), layers.Flatten()],
         "maxpool 2x2\nmaxpool 3x1 stride=1\nflatten\n"),
        ([layers.AveragePooling2D(2, padding="same", strides=(2, 1)), layers.Flatten()],
         "avgpool 2x2 stride=2x1 padding=same\nflatten\n"),
        ([layers.GlobalAveragePooling2D(), layers.Flatten(), layers.Activation("linear")],
         "global_avgpool\n"),  # Flatten of flat numbers does nothing.
        ([layers.BatchNormalization(axis=3), layers.Flatten(), layers.BatchNormalization(axis=1),
          layers.BatchNormalization(axis=-1)],
         "batchnorm\nflatten\nbatchnorm\nbatchnorm\n"),
        ([layers.Flatten(), layers.Dense(7, activation="swish", kernel_regularizer="l2")],
         "flatten\ndense 7 activation=swish l2=0.02\n"),
        ([layers.Flatten(), layers.Dense(7, kernel_initializer="lecun_uniform")],
         "flatten\ndense 7 activation=none initializer=auto\n"),
    ],
)  # fmt: skip
def test_usual_layers_of_keras(body, text):
    found = text_of(*body).replace(" initializer=glorot_uniform", "")
    assert layers_of(found) == layers_of(f"{text}output\n")


@pytest.mark.parametrize(
    ("shape", "body", "input_shape", "text"),
    [
        ((13, 9), [layers.Flatten()], (13, 9), "flatten\noutput\n"),
        ((13, 9), [layers.Reshape((13, 9, 1)), layers.Flatten()], (13, 9, 1), "flatten\noutput\n"),
        ((117,), [], (117,), "flatten\noutput\n"),
        ((117,), [layers.Rescaling(1 / 255), layers.Dropout(0.5)], (117,),
         "flatten\ndropout 0.5\noutput\n"),
        ((351,), [layers.Reshape((13, 9, 3)), layers.MaxPooling2D(), layers.Flatten()],
         (13, 9, 3), "maxpool 2x2\nflatten\noutput\n"),
    ],
)  # fmt: skip
def test_inputs_without_channels_or_flat(shape, body, input_shape, text):
    translation = translate(config_of(*body, shape=shape))
    assert translation.input_shape == input_shape
    assert translation.text.replace(" initializer=glorot_uniform", "") == text


def test_softmax_may_be_a_layer_or_missing():
    flatten, linear = layers.Flatten(), layers.Dense(5)
    expected = text_of(layers.Flatten())
    for last in (layers.Softmax(), layers.Activation("softmax")):
        assert text_of(flatten, linear, last=last) == expected
    assert text_of(flatten, linear, layers.Flatten(), last=layers.Softmax()) == expected
    assert text_of(flatten, linear, layers.Softmax(), last=layers.Flatten()) == expected
    translation = translate(config_of(layers.Flatten(), last=layers.Dense(5)))
    assert translation.text == expected
    assert "gives logits; output gives their softmax" in translation.notes[-1]


def test_what_only_training_needs_is_left_out_with_a_note():
    model = config_of(
        layers.Flatten(),
        layers.Dense(
            6,
            kernel_initializer="random_normal",
            kernel_regularizer="l1",
            bias_regularizer="l2",
            kernel_constraint="non_neg",
            trainable=False,
            dtype="mixed_float16",
            name="wide",
        ),
    )
    notes = translate(model).notes
    assert notes[0].startswith("there is no Rescaling(1/255)")
    assert [note.removeprefix("wide (Dense): ").partition(" is left")[0] for note in notes[1:]] == [
        "trainable=False",
        "computed in float32, not in mixed_float16",
        "its bias_regularizer",
        "its kernel_constraint",
        "its initializer RandomNormal",
        "its regularizer L1",
    ]


def test_layers_that_act_in_training_only_are_left_out_with_a_note():
    body = [
        layers.RandomRotation(0.1, name="turn"),
        layers.Rescaling(1 / 255),
        layers.GaussianNoise(0.1, name="noise"),
        layers.Flatten(),
    ]
    translation = translate(config_of(*body))
    assert translation.text == text_of(layers.Flatten())
    assert translation.notes == (
        "turn (RandomRotation): acts in training only, so it is left out",
        "noise (GaussianNoise): acts in training only, so it is left out",
    )


@pytest.mark.parametrize("name", _OF_TRAINING)
def test_layers_of_training_give_what_they_take(name):
    make = getattr(layers, name)
    arguments = inspect.signature(make.__init__).parameters
    needed = [p for p in arguments.values() if p.default is p.empty and p.kind == 1]
    layer = make(*[0.5] * (len(needed) - 1))  # without self
    images = make_examples(2)[0].astype(np.float32)
    np.testing.assert_array_equal(layer(images, training=False), images)


def test_functional_chains_are_chains():
    images = keras.Input(IMAGE_SHAPE)
    net = layers.Flatten()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(images)))
    model = keras.Model(images, layers.Dense(5, activation="softmax")(net))
    chain = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.Flatten()]
    assert translate(json.loads(model.to_json())).text == text_of(*chain)


# What cannot be expressed


def test_every_layer_that_cannot_be_expressed_is_named():
    code = layers.Lambda(lambda x: x, output_shape=IMAGE_SHAPE, name="mine")
    body = [
        layers.ZeroPadding2D(name="pad"),
        code,
        layers.Conv2D(6, 3, groups=3, name="grouped"),
        layers.Flatten(),
        layers.Dense(7, activation="selu", name="wide"),
        layers.Dense(4, activation="relu", name="fine"),
    ]
    with pytest.raises(Inexpressible) as error:
        translate(config_of(*body))
    assert str(error.value) == (
        "pad (ZeroPadding2D): there is no such layer; "
        "mine (Lambda): holds code of its own, which is never run; "
        "grouped (Conv2D): groups is 3, for which the text has no word; expected 1; "
        "wide (Dense): there is no activation selu"
    )


def edited(edited_layer: str, /, **changes: Any) -> dict[str, Any]:
    """Returns the JSON of a small model in which a layer's options were changed by hand."""
    model = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE, name="images"),
            layers.Conv2D(2, (3, 2), name="conv"),
            layers.Flatten(name="flat"),
            layers.Dropout(0.5, name="rest"),
            layers.Dense(4, name="x"),
            layers.Dense(5, activation="softmax", name="last"),
        ]
    )
    config = json.loads(model.to_json())
    [layer] = [
        layer for layer in config["config"]["layers"] if layer["config"]["name"] == edited_layer
    ]
    layer["config"].update(changes)
    return config


class Mine(keras.layers.Dense):
    pass


CUSTOM = [
    {"module": None, "registered_name": "Rescaling"},  # a class of the main module
    {"module": "mine", "registered_name": "Rescaling"},
    {"module": "keras.layers", "registered_name": "Custom>Rescaling"},
]


@pytest.mark.parametrize("origin", CUSTOM)
@pytest.mark.parametrize(
    "name", ["input", "scale", "shape", "noise", "flat", "again", "last", "soft"]
)
def test_class_of_ones_own_with_a_name_of_keras_is_refused(name, origin):
    config = config_of(
        layers.Rescaling(1 / 255, name="scale"),
        layers.Reshape(IMAGE_SHAPE, name="shape"),
        layers.GaussianNoise(0.1, name="noise"),
        layers.Flatten(name="flat"),
        layers.Flatten(name="again"),
        layers.Dense(5, name="last"),
        last=layers.Softmax(name="soft"),
    )
    config["config"]["layers"][0]["config"]["name"] = "input"
    translate(config)
    [node] = [node for node in config["config"]["layers"] if node["config"]["name"] == name]
    kind = node["class_name"]
    node |= {key: value and value.replace("Rescaling", kind) for key, value in origin.items()}
    message = rf"{name} \({kind}\): a custom object, whose code is never run"
    with pytest.raises(Inexpressible, match=message) as error:
        translate(config)
    assert str(error.value).count(f"{name} ({kind})") == 1


BRANCH = keras.Input(IMAGE_SHAPE, name="images")
BRANCHED = keras.Model(
    BRANCH,
    layers.Dense(5, activation="softmax")(
        layers.Flatten()(layers.Add(name="sum")([BRANCH, layers.Conv2D(3, 1, name="side")(BRANCH)]))
    ),
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config_of(Mine(5, name="x")), r"x \(Mine\): a custom object"),
        (lambda: edited("x", activation={"class_name": "function", "config": "mine"}),
         r"x \(Dense\): there is no activation mine \(function\)"),
        (lambda: config_of(keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Flatten()],
                                            name="x")),
         r"x \(Sequential\): a model within the model"),
        (lambda: config_of(layers.Flatten(), layers.Softmax(name="x"), layers.Dense(4)),
         r"x \(Softmax\): softmax belongs to the end"),
        (lambda: config_of(layers.Flatten(), layers.Dense(4, activation="softmax", name="x")),
         r"x \(Dense\): softmax belongs to the last layer"),
        (lambda: config_of(layers.Flatten(), last=layers.Dense(5, activation="relu", name="x")),
         r"x \(Dense\): the last layer has relu, expected softmax"),
        (lambda: config_of(layers.Flatten(), layers.Dense(5, activation="softmax", name="x"),
                           last=layers.Softmax()),
         r"text: x \(Dense\): softmax twice, in it and in a layer after it$"),
        (lambda: config_of(layers.Flatten(), layers.Dense(5), last=layers.ReLU(name="x")),
         r"text: x \(ReLU\): the last layer, expected a Dense with softmax$"),
        (lambda: config_of(layers.Flatten(), layers.Dense(5),
                           last=layers.Activation("selu", name="x")),
         r"text: x \(Activation\): there is no activation selu$"),
        (lambda: config_of(layers.Conv2D(4, 3), last=layers.Flatten(name="x")),
         r"text: x \(Flatten\): the last layer, expected a Dense with softmax$"),
        (lambda: config_of(layers.BatchNormalization(axis=1, name="x"), layers.Flatten(),
                           shape=(9, 9, 9)),
         r"text: x \(BatchNormalization\): axis is 1, for which the text has no .*; expected -1$"),
        (lambda: config_of(layers.BatchNormalization(axis=2, name="x"), layers.Flatten()),
         r"x \(BatchNormalization\): axis is 2"),
        (lambda: config_of(layers.GlobalAveragePooling2D(), last=layers.Softmax()),
         r"GlobalAveragePooling2D\): the last layer, expected a Dense with softmax"),
        (lambda: config_of(layers.Rescaling(1 / 127.5, -1, name="x"), layers.Flatten()),
         r"x \(Rescaling\): expected scale=1/255 and offset=0"),
        (lambda: config_of(layers.Flatten(), layers.Rescaling(1 / 255, name="x")),
         r"x \(Rescaling\): there is no such layer"),
        (lambda: edited("conv", kernel_size=[40, 2]),
         r"conv \(Conv2D\): conv's 40x2 is larger than its input"),
        (lambda: edited("conv", kernel_size=[3, 2, 1]), r"conv.*expected height and width"),
        (lambda: edited("conv", filters=True), r"conv.*filters is True, expected a whole number"),
        (lambda: edited("conv", filters=10**4000), r"conv.*filters is 1000"),
        (lambda: edited("conv", padding="causal"), r"conv.*padding is causal"),
        (lambda: edited("conv", data_format="channels_first"), r"conv.*data_format is"),
        (lambda: edited("conv", dtype="int8_from_float32"), r"conv.*dtype is int8_from_float32"),
        (lambda: edited("conv", lora_rank=4), r"conv.*lora_rank is 4, for which the text has"),
        (lambda: edited("conv", activation=["relu"]), r"conv.*not as Keras writes them"),
        (lambda: edited("conv", kernel_initializer=7), r"conv.*not as Keras writes them"),
        (lambda: edited("rest", rate=float("nan")), r"rest.*rate is nan, expected a number"),
        (lambda: edited("rest", rate=2), r"rest \(Dropout\): dropout's rate is '2.0'"),
        (lambda: config_of(layers.Reshape((117, 3), name="x"), layers.Flatten()),
         r"x \(Reshape\): expected height, width and channels"),
        (lambda: config_of(layers.BatchNormalization(scale=False, name="x"), layers.Flatten()),
         r"x \(BatchNormalization\): scale is False, for which .*; expected True"),
        (lambda: config_of(layers.ReLU(max_value=6, name="x"), layers.Flatten()),
         r"x \(ReLU\): max_value is 6, for which the text has no word; expected none$"),
        (lambda: config_of(layers.Dense(4, name="x"), layers.Flatten()),
         r"x \(Dense\): dense needs a flat input"),
        (lambda: config_of(layers.Conv2D(4, 3, dilation_rate=2, strides=1, name="x"),
                           layers.SeparableConv2D(4, 3, depth_multiplier=2, name="y"),
                           layers.Flatten()), r"y \(SeparableConv2D\): depth_multiplier is 2"),
        (lambda: edited("x", units=90_000_000), r"x .*: with dense1 there are 15,930,000,038 par"),
        (lambda: json.loads(BRANCHED.to_json()),
         r"sum \(Add\): takes 2 inputs; only a plain chain"),
        (lambda: edited("images", batch_shape=[None, None, 9, 3]), "a side of the input is none"),
        (lambda: edited("images", batch_shape=[None] * 9), r"its input has the shape \[None, None"),
        (lambda: edited("rest", name="conv"), "more than one layer with the name conv"),
        (lambda: edited("conv", name="a\nb\x1b", groups=2), r"a\?b\? \(Conv2D\)"),
        (lambda: {"class_name": "Mine", "config": {"layers": []}}, "a model of class Mine"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_is_refused(make, message, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(make()), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        translate_file(load_keras_file(path))
    assert str(error.value).startswith(f"{path}: cannot be expressed as a text: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Sequential"},
        {"class_name": "Sequential", "config": None},
        {"class_name": "Sequential", "config": {"layers": 7}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "InputLayer", "config": {
            "name": "x", "batch_shape": [None, 9]}}, {"class_name": "Reshape", "config": {
            "name": "y", "target_shape": 7}}]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "InputLayer", "config": {
            "name": "x", "batch_shape": [None, 9]}}, {"class_name": "Activation", "config": {
            "name": "y", "activation": [7]}}]}},
        {"class_name": "Sequential", "config": {"layers": [7]}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}},
        {"class_name": "Functional", "config": {"layers": [{"class_name": "Dense", "config": {},
                                                             "inbound_nodes": [[7]]}]}},
    ],
)  # fmt: skip
def test_configuration_of_another_hand_is_one_line(config, tmp_path):
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match="not as Keras writes"):
        translate_file(load_keras_file(path))
