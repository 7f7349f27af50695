"""Recipes, read by the script's own flags and by the script itself."""

import copy
import dataclasses
import re

import pytest
from absl import flags

from data_prep.command_line import UserError
from model_definition.architecture import load_architecture
from train import train_lenet
from train.config import TrainConfig
from train.recipes import RECIPES, list_recipes, load_recipe
from train.shipped_texts import MAX_FILE_BYTES
from train.training_flags import HELP, read_config


@pytest.fixture(scope="module")
def known():
    """The script's flags, which no other test of this process finds defined."""
    before = set(flags.FLAGS)
    train_lenet.define_flags()
    yield flags.FLAGS
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


@pytest.fixture
def read(known):
    """Reads arguments as the script does."""

    def read(*arguments):
        values = copy.deepcopy(known)
        values(["train_lenet.py", *arguments])
        return read_config(values)

    return read


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "mine.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def test_every_training_flag_has_its_help_and_every_help_its_flag(known):
    config = TrainConfig()
    fields = {**vars(config), **vars(config.augmentation)}
    del fields["augmentation"]
    assert set(HELP) == set(fields)
    defaults = {name: known[name].default for name in fields}
    assert defaults == {**fields, "model_set": []}


def test_no_flags_are_the_defaults(read):
    assert read() == TrainConfig()


def test_lenet_is_the_default_flags(read, known):
    assert read("--recipe=lenet") == TrainConfig()
    spelled_out = load_recipe("lenet", known).flags
    assert {"model", "epochs", "batch_size", "optimizer", "learning_rate"} <= set(spelled_out)


def test_cnn9975_is_as_published(read):
    config = read("--recipe=cnn9975")
    assert (config.model, config.epochs, config.batch_size) == ("cnn9975", 30, 64)
    assert (config.optimizer, config.learning_rate) == ("adam", 1e-3)
    assert (config.schedule, config.decay_rate) == ("exponential", 0.95)
    distortions = {name: value for name, value in vars(config.augmentation).items() if value}
    assert distortions == {"rotation": 15.0, "zoom": 0.15, "shift": 0.1}


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.txt"))])
def test_every_recipe_can_be_used_and_is_described(name, read):
    config = read(f"--recipe={name}")
    load_architecture(
        config.model, image_shape=(28, 28, 1), num_classes=10, values=dict(config.model_set)
    )
    description = list_recipes()[name]
    assert re.fullmatch(r"[A-Z].{10,80}\.", description), description
    assert (RECIPES / f"{name}.txt").read_text(encoding="utf-8").startswith(f"# {description}\n")


def test_the_taught_lenet_differs_from_the_untaught_by_its_teacher(read):
    taught = read("--recipe=distilled_lenet")
    assert taught.teacher == "runs/speed995s"
    assert dataclasses.replace(taught, teacher="") == read("--recipe=best_lenet")


def test_recipe_of_ones_own_is_printed_in_full(read, write, capsys):
    path = write(
        "\ufeff# Mine.",
        "",
        "  --model=a#b.txt   # a comment",
        "--model_set=width=64",
        "--model_set=rate=0.1",
        "--max_steps=7\r",
        "--rotation=5",
    )
    config = read(f"--recipe={path}")
    assert (config.model, config.epochs, config.max_steps) == ("a#b.txt", None, 7)
    assert config.model_set == (("width", "64"), ("rate", "0.1"))
    assert config.augmentation.rotation == 5.0
    printed = capsys.readouterr()
    text = path.read_bytes().decode("utf-8-sig")
    assert (printed.out, printed.err) == ("", f"recipe {path}:\n{text}\n")


@pytest.mark.parametrize(
    ("recipe", "given", "expected", "logged"),
    [
        (
            ["--batch_size=16", "--seed=3"],
            ["--batch_size=8"],
            {"batch_size": 8, "seed": 3},
            ["batch_size=16 gives way to --batch_size=8"],
        ),
        (["--batch_size=16"], ["--batch_size=16"], {"batch_size": 16}, []),
        # How long to train is said in one of two ways.
        (["--epochs=9"], ["--max_steps=4"], {"max_steps": 4, "epochs": None}, ["epochs=9.0"]),
        (["--max_steps=4"], ["--epochs=9"], {"max_steps": None, "epochs": 9.0}, ["max_steps=4"]),
        # Named values belong to the model.
        (
            ["--model=a.txt", "--model_set=width=6", "--model_set=depth=2"],
            ["--model_set=width=8"],
            {"model": "a.txt", "model_set": (("depth", "2"), ("width", "8"))},
            ["model_set=width=6 gives way to the command line's"],
        ),
        (
            ["--model=a.txt", "--model_set=width=6"],
            ["--model=b.txt", "--model_set=rate=0.1"],
            {"model": "b.txt", "model_set": (("rate", "0.1"),)},
            ["model_set=width=6 gives way to --model=b.txt", "model=a.txt"],
        ),
        (
            ["--model=a.txt", "--model_set=width=6"],
            ["--model=a.txt"],
            {"model": "a.txt", "model_set": (("width", "6"),)},
            [],
        ),
        # What another optimiser or schedule has no use for.
        (
            ["--beta1=0.7", "--schedule=exponential", "--decay_rate=0.5"],
            ["--optimizer=sgd", "--schedule=constant"],
            {"optimizer": "sgd", "beta1": 0.9, "schedule": "constant", "decay_rate": 0.95},
            [
                "schedule=exponential gives way to --schedule=constant",
                "beta1=0.7 belongs to --optimizer=adam, and is left out",
                "decay_rate=0.5 belongs to --schedule=exponential, and is left out",
            ],
        ),
        # An override can also make use of a flag.
        (["--optimizer=sgd"], ["--optimizer=adam", "--beta2=0.9"], {"beta2": 0.9}, ["optimizer"]),
    ],
)
def test_given_flags_take_the_place_of_a_recipes(
    read, write, capsys, recipe, given, expected, logged
):
    config = read(f"--recipe={write(*recipe)}", *given)
    assert {name: getattr(config, name) for name in expected} == expected
    lines = capsys.readouterr().err.splitlines()[1 + len(recipe) :]
    assert len(lines) == len(logged)
    for line, begin in zip(lines, logged, strict=True):
        assert line.startswith(f"the recipe's --{begin}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["--epoch=3"], r"line 1: unknown flag --epoch \(did you mean --epochs\?\)"),
        (["--zzzzzzzz=3"], "line 1: unknown flag --zzzzzzzz"),
        (
            ["# x", "--data_dir=x"],
            "line 2: --data_dir is not about training; give it on the comm.*",
        ),
        (["--recipe=x"], "line 1: --recipe is not about training; give it on the command line"),
        (["--json=1"], "line 1: --json is not about training; give it on the command line"),
        (["epochs=3"], "line 1: found 'epochs=3', expected a flag such as --batch_size=64"),
        (["--epochs 3"], "line 1: found '--epochs 3', expected a flag such as --batch_size=64"),
        (["--epochs=x"], "line 1: --epochs=x: could not convert string to float: 'x'"),
        (["--epochs="], "line 1: --epochs=: could not convert string to float: ''"),
        (
            ["--optimizer=lion"],
            r"line 1: --optimizer=lion: value should be one of <adam\|momentum\|sgd\|rmsprop>",
        ),
        (["--batch_size=0"], "line 1: --batch_size=0: expected a whole number from 1 to 100000"),
        (["--zoom=2"], r"line 1: --zoom=2.0: expected a number from 0 to 0\.9"),
        (["--model_set=width"], "line 1: --model_set=width: expected NAME=VALUE without spaces,.*"),
        (["--seed=1", "", "--seed=2"], "line 3: --seed stands in line 1 already; keep one of them"),
        (
            ["--model_set=width=1", "--model_set=width=2", "--seed=1"],
            "line 3: --model_set: width is set more than once; keep one of them",
        ),
        (["--epochs=3", "--max_steps=3"], "line 2: --epochs and --max_steps: set one of them; .*"),
        (
            ["--seed=1", "--momentum=0.9"],
            "line 2: --momentum belongs to --optimizer=momentum or .*",
        ),
        (
            ["--seed=x", "--epochs=3", "--zoom=-1"],  # all at once
            r"line 1: --seed=x: invalid literal for int\(\) with base 10: 'x'; "
            r"line 3: --zoom=-1.0: expected a number from 0 to 0\.9",
        ),
        (["a b"] * 12, "(line [0-9]+: found 'a b', expected .*?; ){10}and 2 more"),
    ],
)
def test_mistakes_are_named_by_line(read, write, lines, message):
    path = write(*lines)
    with pytest.raises(UserError, match=f"^{path}, {message}$") as error:
        read(f"--recipe={path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--seed=1\n--seed=\xff\n", ", line 2: not text; save the file as UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), ": longer than 65,536 bytes, so not a recipe of flags"),
    ],
)
def test_file_of_anything_else_is_refused(read, tmp_path, content, message):
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(UserError, match=f"^{tmp_path / 'mine'}{message}$"):
        read(f"--recipe={tmp_path / 'mine'}")


@pytest.mark.parametrize("recipe", ["lenett", "", "nowhere/lenet.txt"])
def test_unknown_recipe_is_named_with_those_that_there_are(read, recipe):
    with pytest.raises(
        UserError,
        match=f"^--recipe={recipe}: found neither a recipe of that name nor a file"
        rf"( \(did you mean lenet\?\))?; there are .*cnn9975, .*lenet.*, and --recipe=help desc",
    ):
        read(f"--recipe={recipe}")


def test_help_lists_the_recipes(run_script):
    done = run_script("train/train_lenet.py", "--recipe=help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert dict(lines) == list_recipes()
    assert [name for name, _ in lines] == sorted(path.stem for path in RECIPES.glob("*.txt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--momentum=0.9"], "--momentum belongs to --optimizer=momentum or rmsprop; leave it out"),
        (["--optimizer=sgd", "--momentum=0"], "--momentum belongs to --optimizer=momentum or rm"),
        (["--optimizer=rmsprop", "--beta1=0.9"], "--beta1 belongs to --optimizer=adam; leave it"),
        (["--optimizer=momentum", "--beta2=0.9"], "--beta2 belongs to --optimizer=adam; leave it"),
        (["--decay_rate=0.9"], "--decay_rate belongs to --schedule=exponential; leave it out"),
        # A recipe's flags decide too.
        (["--recipe=lenet", "--decay_rate=0.9"], "--decay_rate belongs to --schedule=exponential"),
    ],
)
def test_flag_without_an_effect_is_refused(read, arguments, message):
    with pytest.raises(UserError, match=f"^{message}"):
        read(*arguments)


def test_flags_with_an_effect_are_taken(read):
    config = read("--optimizer=rmsprop", "--momentum=0.5", "--warmup_steps=3", "--schedule=cosine")
    assert (config.optimizer, config.momentum, config.warmup_steps) == ("rmsprop", 0.5, 3)
    config = read("--beta1=0.7", "--beta2=0.9", "--schedule=exponential", "--decay_rate=0.9")
    assert (config.beta1, config.beta2, config.decay_rate) == (0.7, 0.9, 0.9)
    assert read("--max_steps=5").epochs is None
    with pytest.raises(UserError, match=r"^--epochs and --max_steps: set one of them"):
        read("--max_steps=5", "--epochs=3")
