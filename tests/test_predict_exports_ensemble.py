"""Several runs, and shifts, exported as one model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.command_line import UserError
from data_prep.schema import load_manifest
from model_definition.checkpoints import choose_checkpoint
from model_definition.ensemble import Ensemble, Member
from model_definition.inference import open_model
from predict import export
from predict.exports.card import write_card
from predict.exports.exporting import Reference
from predict.exports.output_folder import open_output
from predict.exports.table import FORMATS, choose_averaging, choose_formats
from tests.export_fixtures import MODEL, make_images, make_run, write_checkpoint
from tests.train_fixtures import write_dataset

SECOND = "conv 3 5x3 activation=elu\nbatchnorm\nglobal_avgpool\noutput\n"


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[Member]:
    """Two runs of different networks, trained on the same dataset."""
    folder = tmp_path_factory.mktemp("export")
    manifest = write_dataset(folder / "tiny")
    found = []
    for seed, (name, text) in enumerate({"one": MODEL, "two": SECOND}.items()):
        run = make_run(folder / name, folder / "tiny", manifest, text)
        write_checkpoint(run, seed=10 + seed)
        found.append(Member(run, choose_checkpoint(run, "best")))
    return found


def expect_average(members: list[Member], images: np.ndarray, reach: int) -> np.ndarray:
    """The mean over runs and shifts, each run in a graph of its own."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    places = range(2 * reach + 1)
    found = []
    for member in members:
        with open_model(member.run, member.checkpoint) as model:
            for y in places:
                for x in places:
                    found.append(model.predict(padded[:, y : y + height, x : x + width]))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(
    ("count", "reach", "formats"),
    [(2, 1, "saved_model,litert,litert_int8,onnx"), (1, 2, "litert")],
)
def test_one_model_gives_the_mean(members, tmp_path, capsys, count, reach, formats):
    members = members[:count]
    run = members[0].run
    source, _ = export.read_source(
        members,
        "both",
        Path(run.data_dir),
        load_manifest(Path(run.data_dir)),
        test_time_shifts=reach,
    )
    images = make_images(run, 19)
    # What the exports are compared with is computed here, by no code of theirs.
    reference = Reference("validation", images, expect_average(members, images, reach))
    source = dataclasses.replace(source, calibration_images=make_images(run, 40, seed=1))
    chosen = choose_averaging(choose_formats(formats.split(",")), [])
    with open_output(tmp_path) as staging:
        exports, errors = export.export_all(source, reference, chosen, staging, quiet=False)
    assert errors == {}
    name = ("both" if count == 2 else "one") + (f"-shifts-{reach}" if reach else "")
    assert [done.file for done in exports] == [
        f"{name}/1" if format.is_versioned else format.filename(name) for format in chosen
    ]
    spread = np.ptp(reference.probabilities, axis=0).max()
    for done in exports:
        assert done.comparison is not None and done.comparison.largest_difference < spread / 3
    card = (tmp_path / f"{name}.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert ("The probabilities are the mean over 2 networks" in card) == (count == 2)
    assert (f"{(2 * reach + 1) ** 2} copies of the image, shifted by up to {reach}" in card) == (
        reach > 0
    )


def test_card_tells_of_each_member(members):
    others = []
    for member, fold in zip(members, ("1/12", "2/12"), strict=True):
        entry = {"step": 5, "accuracy": 0.9, "loss": 0.25, "mean_squared_error": 0.01}
        (member.run.logdir / "history.json").write_text(json.dumps([entry]))
        config = {**member.run.config, "validate_on": fold}
        others.append(Member(dataclasses.replace(member.run, config=config), member.checkpoint))
    run = members[0].run
    source, _ = export.read_source(
        others, "both", Path(run.data_dir), load_manifest(Path(run.data_dir))
    )
    card = write_card(source, [])
    assert "- one: tiny, digest " in card and "- two: tiny, digest " in card
    assert "- two alone, step 5, on fold 2 of 12 of the training images: accuracy 90.00%" in card
    assert f"one:\n\n```\n{MODEL.strip()}\n```" in card
    assert f"two:\n\n```\n{SECOND.strip()}\n```" in card
    with open_model(members[1].run, members[1].checkpoint) as model:
        second = sum(value.size for name, value in model.weights().items())
    parameters = source.architecture.num_parameters + second
    # The moving averages of batch normalisation are no parameters: mean and variance of 3 maps.
    assert f": {parameters - 6:,} parameters, " in card or f": {parameters:,} parameters, " in card


def test_formats_of_one_network_are_refused(capsys):
    for name in ("keras", "h5", "json", "yaml", "weights_h5", "text"):
        message = f"--format: {name} holds one network, so neither several runs nor test-time shif"
        with pytest.raises(UserError, match=message):
            choose_averaging(choose_formats([name, "onnx"]), [name, "onnx"])
    assert capsys.readouterr().err == ""
    left = choose_averaging(FORMATS, ["all"])
    assert [format.name for format in left] == [
        "saved_model", "litert", "litert_float16", "litert_int8", "onnx"
    ]  # fmt: skip
    assert capsys.readouterr().err == (
        "all: keras, h5, json, yaml, weights_h5, text hold one network each, and are left out\n"
    )


def test_where_exports_go(members, tmp_path):
    runs = tuple(member.run for member in members)
    choose = export._choose_output_dir
    assert choose(Ensemble(runs, tmp_path / "ens"), None) == tmp_path / "ens/export"
    assert choose(Ensemble(runs, None), "out") == Path("out")
    with pytest.raises(
        UserError, match=r"a list of runs has no folder of its own; name one to exp"
    ):
        choose(Ensemble(runs, None), None)
