"""Architectures that are read from the zoo, from a user's file, and from a run."""

import pytest

from data_prep.command_line import UserError
from model_definition.architecture import (
    MAX_FILE_BYTES,
    ArchitectureError,
    load_architecture,
    parse_run_architecture,
)
from model_definition.run_dir import Run


def load(path, **kwargs):
    return load_architecture(str(path), image_shape=(3, 2, 1), num_classes=4, **kwargs)


def test_load_reads_a_file_by_its_path(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbfw=4\r\nflatten\r\ndense w\r\noutput\r\n")  # a byte order mark
    architecture = load(path, values={"w": "7"})
    assert [layer.name for layer in architecture.layers] == ["flatten1", "dense1", "output"]
    assert architecture.num_parameters == 6 * 7 + 7 + 7 * 4 + 4
    assert architecture.filename == str(path)
    assert architecture.text == "w = 7\nflatten\ndense w\noutput\n"


def test_load_refuses_a_folder_and_names_the_model_in_it(tmp_path):
    for inside in ("a text file", str(tmp_path / "model.txt")):
        with pytest.raises(UserError) as info:
            load(str(tmp_path))
        expected = f"model '{tmp_path}': expected a file, found a folder; name {inside}"
        assert str(info.value) == expected
        (tmp_path / "model.txt").write_text("flatten\noutput\n")


def test_load_names_what_it_does_not_find():
    for model, hint in (("lenat", " (did you mean lenet?)"), ("zzz", "")):
        with pytest.raises(UserError) as info:
            load(model)
        text = str(info.value)
        assert text.startswith(f"model {model!r}: found neither a network of the zoo nor a file")
        assert f"of that name{hint}; the zoo has " in text
        assert "lenet" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "flatten\r\n# café\xe9\noutput\n".encode().replace(b"\xc3\xa9\n", b"\xe9\n"),
            "line 2: found a byte 0xe9, expected text; save it as UTF-8\n"
            "    # café\ufffd\n          ^",
        ),
        (
            b"\xef\xbb\xbf\rflatten \xff",
            "line 2: found a byte 0xff, expected text; save it as UTF-8\n"
            "    flatten \ufffd\n            ^",
        ),
        (
            "flatten\noutput\n".encode("utf-16"),
            "line 1: found a byte 0xff, expected text; save it as UTF-8\n"
            "    \ufffd\ufffdf?l?a?t?t?e?n?\n    ^",
        ),
        (
            b"#" + b"\n" * MAX_FILE_BYTES,
            "line 65537: the file goes on after 65,536 bytes; an architecture is shorter",
        ),
    ],
)
def test_load_refuses_what_is_not_a_short_text(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError) as info:
        load(path)
    assert str(info.value) == f"{path}, {message}"


def test_a_file_may_be_as_long_as_allowed(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"flatten\noutput\n".ljust(MAX_FILE_BYTES))
    assert len(load(path).layers) == 2


def test_the_text_of_a_run_is_read(tmp_path):
    run = Run(
        logdir=tmp_path,
        model="my.txt",
        architecture_text="w = 7\nflatten\ndense w\noutput\n",
        data_dir="/data/tiny",
        dataset_name="tiny",
        dataset_digest="ab" * 32,
        image_shape=(3, 2, 1),
        image_preparation="resize",
        class_names=("a", "b", "c"),
        config={},
        versions={},
    )
    architecture = parse_run_architecture(run)
    assert architecture.filename == str(tmp_path / "model.txt")
    assert architecture.layers[1].output_shape == (7,)
    assert architecture.layers[2].output_shape == (3,)
