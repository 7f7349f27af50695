"""A space's text: what its lines say, and every mistake they can hold."""

import re

import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.mistakes import TextError
from tests.train_fixtures import write_dataset
from train.search.settings import load_settings
from train.search.space import SPACES, list_spaces, load_space
from train.shipped_texts import MAX_FILE_BYTES

MODEL = "width = 4\nrate = 0.5\nconv width 3x3\nmaxpool 2x2\nflatten\ndropout rate\noutput\n"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space") / "tiny"
    return write_dataset(folder)


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / "space.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(write, manifest):
    """Reads the lines of a space beside given flags."""

    def load(*lines, **given):
        return load_settings(str(write(*lines)), given, manifest)

    return load


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(MODEL, encoding="utf-8")
    return str(path)


def test_lines_say_what_is_searched(write):
    path = write(
        "\ufeff# Mine.",
        "",
        "learning_rate  log 1e-4 3e-2  # a comment",
        "batch_size choice 64 128",
        "epochs int 1 4",
        "train_limit log_int 100 1000\r",
        "shift uniform 0 0.1",
        "model.width int 16 64 step=16",
        "optimizer choice adam momentum",
    )
    found, _, dimensions = load_space(str(path))
    assert found == path
    assert {one.name: one.range for one in dimensions} == {
        "learning_rate": "log 0.0001 0.03",
        "batch_size": "choice 64 128",
        "epochs": "int 1 4",
        "train_limit": "log_int 100 1000",
        "shift": "uniform 0.0 0.1",
        "model.width": "int 16 64 step=16",
        "optimizer": "choice adam momentum",
    }
    assert dimensions[1].values == (64, 128)
    assert dimensions[0].places[0].line == 3


@pytest.mark.parametrize("name", [path.stem for path in sorted(SPACES.glob("*.txt"))])
def test_every_shipped_space_can_be_used_and_is_described(name, tmp_path):
    write_dataset(tmp_path / "d", examples=None)
    settings = load_settings(name, {}, load_manifest(tmp_path / "d"))
    drawn: dict[str, object] = {}
    for one in settings.dimensions:
        if settings.is_active(one, drawn):
            drawn[one.name] = one.values[0]
    settings.config(drawn)
    description = list_spaces()[name]
    assert re.fullmatch(r"[A-Z].{10,80}\.", description), description


@pytest.mark.parametrize(
    ("line", "message", "under"),
    [
        ("epoch int 1 4", r"unknown training flag 'epoch' \(did you mean epochs\?\); a li.*", "ep"),
        ("--epochs int 1 4", "write epochs without its dashes", "--epochs"),
        ("model_set choice a b", "model_set cannot be searched; write model.width.*", "model_set"),
        ("model. int 1 4", "model. lacks the value's name; write model.width", "model."),
        ("epochs", "epochs lacks its range; write epochs uniform LOW HIGH, .*", "epochs"),
        ("epochs integer 1 4", r"unknown kind of range 'integer' \(did you mean int\?\).*", "int"),
        ("batch_size uniform 1 4", "batch_size is a whole number, so its range is not .*", "uni"),
        (
            "optimizer int 1 4",
            "optimizer is a word, so its range is not int; expected choice A",
            "i",
        ),
        ("epochs int 1", r"found 1 number\(s\), expected int LOW HIGH \[step=STEP\]", "int"),
        ("epochs int 1 2 3", r"found 3 number\(s\), expected int LOW HIGH.*", "int"),
        ("epochs int 1 x", "found 'x', expected a whole number", "x"),
        ("epochs int 1 2.5", "found '2.5', expected a whole number", "2.5"),
        ("shift uniform 0 nan", "found 'nan', expected a number", "nan"),
        ("shift uniform 0 inf", "found 'inf', expected a number", "inf"),
        ("learning_rate log 0 1", "log has no 0: its ends are above 0", "0"),
        ("model.width log_int 0 8", "log_int has no 0: its ends are above 0", "0"),
        ("epochs int 4 1", "LOW is 4 and HIGH is 1; expected the lower one first", "1"),
        ("epochs int 4 4", "LOW is 4 and HIGH is 4; expected the lower one first", "4"),
        ("epochs int 1 4 step=2", "steps of 2 from 1 do not reach 4; the last one is 3", "4"),
        ("epochs int 1 4 step=0", r"found 'step=0', expected int LOW HIGH \[step=STEP\]", "step=0"),
        ("shift uniform 0 0.1 step=2", "found 'step=2', expected uniform LOW HIGH", "step=2"),
        (
            "batch_size choice",
            "batch_size has nothing to choose from; expected choice A B …",
            "cho",
        ),
        ("batch_size choice 8 x", "batch_size is a whole number, found 'x'", "x"),
        ("batch_size choice 8 08", "08 is there twice; keep one of them", "08"),
        # The configuration's own checks.
        ("batch_size int 0 8", "--batch_size=0: expected a whole number from 1 to 100000", "0"),
        ("beta1 uniform 0.5 1", "--beta1=1.0: expected a number from 0 to below 1", "1"),
        ("zoom uniform 0 2", "--zoom=2.0: expected a number from 0 to 0.9", "2"),
        ("optimizer choice adam lion", "--optimizer=lion: expected adam or momentum or .*", "lion"),
    ],
)
def test_mistake_is_told_with_its_line_and_a_caret(write, line, message, under):
    path = write("# Mine.", line)
    with pytest.raises(TextError) as error:
        load_space(str(path))
    told, shown, carets = str(error.value).split("\n")
    assert re.match(f"{re.escape(str(path))}, line 2: {message}", told), told
    assert shown.strip() == line
    assert shown[carets.index("^") :].startswith(under)


def test_all_mistakes_are_told_at_once(write):
    path = write("epochs int 4 1", "shift uniform 0 0.1", "seed int 1", "shift uniform 0 0.2")
    with pytest.raises(TextError) as error:
        load_space(str(path))
    assert [mistake.line for mistake in error.value.mistakes] == [1, 3, 4]
    assert "shift stands in line 2 already; keep one of them" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"# only this\n",
            ", line 1: found nothing to search; a line is such as learning_rate log",
        ),
        (b"epochs int 1 4\n\xff\n", ", line 2: not text; save the file as UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), ": longer than 65,536 bytes, so not a space of what to sea"),
    ],
)
def test_file_of_anything_else_is_refused(tmp_path, content, message):
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'mine'}{message}")):
        load_space(str(tmp_path / "mine"))


def test_unknown_space_is_named_with_those_that_there_are():
    with pytest.raises(
        UserError,
        match=r"^--space=lennet: found neither a space of that name nor a file "
        r"\(did you mean lenet\?\); there are bn_cnn, lenet, and --space=help describes them$",
    ):
        load_space("lennet")


def test_what_depends_on_another_counts_only_beside_it(load):
    settings = load(
        "momentum uniform 0.5 0.9", "optimizer choice adam momentum", model="mlp", beta1=0.8
    )
    optimizer, momentum = settings.dimensions  # What decides is drawn first.
    assert (optimizer.name, momentum.name) == ("optimizer", "momentum")
    assert not settings.is_active(momentum, {"optimizer": "adam"})
    assert settings.is_active(momentum, {"optimizer": "momentum"})
    assert settings.flags({"optimizer": "adam"}) == {
        "model": "mlp",
        "beta1": 0.8,
        "optimizer": "adam",
    }
    # The given flag has no effect beside the other optimiser.
    drawn = {"optimizer": "momentum", "momentum": 0.7}
    assert settings.flags(drawn) == {"model": "mlp", "optimizer": "momentum", "momentum": 0.7}
    assert settings.config(drawn).momentum == 0.7


def test_named_values_become_the_models(load, model):
    settings = load("model.width int 2 8", "epochs int 1 4", model=model, model_set=["rate=0.25"])
    flags = settings.flags({"model.width": 3, "epochs": 2})
    assert flags == {"model": model, "epochs": 2.0, "model_set": ["rate=0.25", "width=3"]}
    assert isinstance(flags["epochs"], float)  # as the flag has it
    assert settings.default(settings.dimensions[0], {}) == 4
    assert settings.default(settings.dimensions[1], {}) == 3.0


def test_named_value_counts_only_in_the_models_that_have_it(load, model):
    settings = load(f"model choice mlp {model}", "model.rate uniform 0.1 0.6")
    _, rate = settings.dimensions
    assert not settings.is_active(rate, {"model": "mlp"})
    assert settings.is_active(rate, {"model": model})
    assert settings.default(rate, {"model": model}) == 0.5


def test_default_out_of_range_is_none(load):
    settings = load("learning_rate log 0.01 0.1", "batch_size choice 8 16")
    assert [settings.default(one, {}) for one in settings.dimensions] == [None, None]


def test_drawn_number_is_rounded_within_its_range(load):
    (rate,) = load("learning_rate log 0.00123456 0.0123456").dimensions
    assert rate.settle(0.00567891) == 0.005679
    assert rate.settle(0.0123456) == 0.0123456  # and not 0.01235
    assert rate.holds(0.002)
    assert not rate.holds(0.02)


@pytest.mark.parametrize(
    ("lines", "given", "line", "message"),
    [
        (["epochs int 1 4"], {"epochs": 3.0}, 1, "--epochs is given too; remove one of the two"),
        (
            ["model.width int 1 4"],
            {"model": "MODEL", "model_set": ["width=3"]},
            1,
            "--model_set=width is given too; remove one of the two",
        ),
        (["seed int 0 9", "momentum uniform 0 0.9"], {}, 2, "momentum belongs to --optimizer=mom"),
        (
            ["model.widht int 1 4"],
            {"model": "MODEL"},
            1,
            "MODEL has no named value widht (did you mean width?); it names rate or width",
        ),
        (["model.width int 1 4"], {}, 1, "lenet has no named value width; it names none"),
        (["max_steps int 5 9"], {"epochs": 3.0}, 1, "--epochs and --max_steps: set one of them"),
        (["model choice lenet lenett"], {}, None, "model 'lenett': found neither a network"),
        (
            ["model.width int 0 4"],
            {"model": "MODEL"},
            1,
            "with width=0 the model is wrong: MODEL, line 3: conv's filters is 'width', which is "
            "'0'",
        ),
        (
            ["seed int 0 9", "model.rate choice 0.5 much"],
            {"model": "MODEL"},
            2,
            "with rate=much the model is wrong: MODEL, line 6: dropout's rate is 'rate', which is",
        ),
    ],
)
def test_lines_must_go_with_the_rest(load, model, lines, given, line, message):
    given = {name: model if value == "MODEL" else value for name, value in given.items()}
    with pytest.raises(UserError) as error:
        load(*lines, **given)
    assert message.replace("MODEL", model) in str(error.value)
    if line is not None:
        assert isinstance(error.value, TextError)
        assert [mistake.line for mistake in error.value.mistakes] == [line]


@pytest.mark.parametrize(
    ("lines", "given", "message"),
    [
        (["seed int 0 9"], {"momentum": 0.5}, "--momentum belongs to --optimizer=momentum or rm"),
        (
            ["optimizer choice adam sgd"],
            {"momentum": 0.5},
            "--momentum belongs to --optimizer=momentum or rmsprop; leave it out",
        ),
        (["seed int 0 9"], {"batch_size": 0}, "--batch_size=0: expected a whole number from 1"),
    ],
)
def test_given_flag_must_have_an_effect(load, lines, given, message):
    with pytest.raises(UserError, match=f"^{message}"):
        load(*lines, **given)
