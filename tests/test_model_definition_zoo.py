"""The networks of the zoo, pinned: checkpoints depend on the names and shapes of their variables.

After a change that is meant, write the golden file anew, from the project's root, and read the
difference:

    python -m tests.test_model_definition_zoo
"""

import re
from pathlib import Path

import pytest
import tensorflow as tf
import tf_slim as slim

from model_definition.architecture import ZOO, Architecture, load_architecture
from model_definition.layer_kinds import format_shape
from model_definition.network import build_network

GOLDEN = Path(__file__).parent / "testdata" / "zoo_variables.txt"
NETWORKS = sorted(path.stem for path in ZOO.glob("*.txt"))


def load(name: str) -> Architecture:
    return load_architecture(name, image_shape=(28, 28, 1), num_classes=10)


def facts_of(name: str) -> list[str]:
    """Returns a network's size and its TF-Slim variables, in their order: one fact a line."""
    architecture = load(name)
    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, 28, 28, 1])
        step = tf.compat.v1.train.get_or_create_global_step()
        build_network(architecture, images, is_training=True, global_step=step)
        variables = slim.get_model_variables()
        assert {variable.dtype.base_dtype for variable in variables} == {tf.float32}
        assert {*variables, step} == set(tf.compat.v1.global_variables())
        trainable = sum(v.shape.num_elements() for v in tf.compat.v1.trainable_variables())
        assert trainable == architecture.num_parameters
    return [
        f"{name} parameters {architecture.num_parameters}",
        f"{name} multiply_adds {architecture.multiply_adds}",
        *(f"{name} {v.op.name} {format_shape(tuple(v.shape))}" for v in variables),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_size_and_the_variables_of_the_golden_file(name):
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    assert facts_of(name) == [line for line in golden if line.split()[0] == name]


def test_the_golden_file_has_every_network_and_no_other():
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    assert list(dict.fromkeys(line.split()[0] for line in golden)) == NETWORKS


def test_sizes_that_are_promised():
    assert {
        "bn_cnn",
        "cnn9975",
        "fast",
        "lenet",
        "lenet5",
        "mlp",
        "resnet_mini",
        "tiny",
    } <= set(NETWORKS)
    assert load("lenet5").num_parameters == 61_706
    assert load("lenet").num_parameters == 3_274_634
    assert load("tiny").num_parameters < 10_000
    assert load("mlp").num_parameters == 784 * 784 + 784 + 784 * 10 + 10


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_begins_with_where_it_comes_from(name):
    comment = re.match(r"(# .+\n)+", (ZOO / f"{name}.txt").read_text(encoding="utf-8"))
    assert comment is not None
    assert len(comment.group().split()) >= 6


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_images_of_other_shapes(name):
    architecture = load_architecture(name, image_shape=(32, 40, 3), num_classes=7)
    assert architecture.layers[-1].output_shape == (7,)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_named_value_of_a_network_can_be_set(name):
    architecture = load(name)
    for value, text in architecture.values.items():
        other = str(float(text) / 2) if "." in text else str(int(text) + 1)
        changed = load_architecture(
            name, image_shape=(28, 28, 1), num_classes=10, values={value: other}
        )
        assert changed.layers != architecture.layers
        assert changed.values == {**architecture.values, value: other}


if __name__ == "__main__":
    lines = [line for name in NETWORKS for line in facts_of(name)]
    GOLDEN.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
