from __future__ import annotations

import dataclasses
import itertools
import statistics

import pytest

from data_prep.command_line import UserError
from eval.comparison.grouping import Spread, group_runs, require_different_seeds
from tests.comparison_fixtures import make_measured, make_run


def make(name, predictions=(0, 0, 1), *, text="flatten\noutput\n", **config):
    run = make_run(f"runs/{name}", config=config, architecture_text=text)
    return make_measured(name, predictions, run=run)


def names_of(models):
    return {model.name: [run.entry.name for run in model.runs] for model in models}


def test_runs_that_differ_in_their_seed_are_one_model():
    runs = [make("a-1", seed=1), make("a-0", seed=0), make("b", seed=0, learning_rate=0.1)]
    assert names_of(group_runs(runs)) == {"a": ["a-0", "a-1"], "b": ["b"]}


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"keep_checkpoints": 9}, True),
        ({"summary_every_steps": 9}, True),
        ({"model": "elsewhere.txt"}, True),  # The text is the same.
        ({"text": "# A comment.\n\n  flatten\noutput   # as before\n"}, True),
        ({"text": "flatten\ndense 9\noutput\n"}, False),
        ({"batch_size": 16}, False),
        ({"epochs": 4.0}, False),
        ({"train_limit": 100}, False),
        ({"augmentation": {"shift": 0.1}}, False),
        ({"precision": "bfloat16"}, False),
    ],
)
def test_what_makes_another_model(changes, is_same):
    models = group_runs([make("a", seed=0), make("b", seed=1, **changes)])
    assert len(models) == (1 if is_same else 2)


def test_imported_runs_stand_alone():
    runs = [make_measured(name, [0, 1]) for name in ("a-1", "a-2")]
    require_different_seeds([run.entry for run in runs])
    assert names_of(group_runs(runs)) == {"a-1": ["a-1"], "a-2": ["a-2"]}


def test_updated_runs_stand_alone():
    trained = make("a-0", seed=0)
    other = dataclasses.replace(make_run("runs/a-1", config={"seed": 0}), version=2)
    updated = make_measured("a-1", [0, 0, 1], run=other)
    # Even with the same seed: it has learnt more than the other one.
    require_different_seeds([trained.entry, updated.entry])
    assert names_of(group_runs([trained, updated])) == {"a-0": ["a-0"], "a-1": ["a-1"]}


def test_ensembles_stand_alone_beside_their_members():
    runs = [make(f"a-{seed}", seed=seed) for seed in range(3)]
    members = [run.entry.ensemble.first for run in runs]
    averages = [
        make_measured("a-0+a-1", [0, 0, 0], members=members[:2]),
        make_measured("a-1+a-2", [0, 0, 0], members=members[1:]),
    ]
    require_different_seeds([each.entry for each in [*runs, *averages]])
    assert names_of(group_runs([*runs, *averages])) == {
        "a-0+a-1": ["a-0+a-1"],
        "a-1+a-2": ["a-1+a-2"],
        "a": ["a-0", "a-1", "a-2"],
    }


def test_a_copy_of_a_run_is_refused():
    runs = [make(name, seed=seed).entry for name, seed in (("a", 1), ("b", 2), ("c", 1))]
    require_different_seeds(runs[:2])
    message = "^runs/a and runs/c: the same configuration with the same seed 1, so one training"
    with pytest.raises(UserError, match=message):
        require_different_seeds(runs)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([["mlp-0", "mlp-1"]], ["mlp"]),
        ([["mlp-10", "mlp-11"]], ["mlp"]),
        ([["mlp_seed0", "mlp_seed1"]], ["mlp"]),
        ([["mlp", "mlp-1"]], ["mlp"]),
        ([["0", "1"]], ["0 and 1 more"]),
        ([["left", "right", "up"]], ["left and 2 more"]),
        ([["a-0", "a-1"], ["a-2", "a-3"]], ["a-0 and 1 more", "a-2 and 1 more"]),
        ([["a"], ["a-0", "a-1"]], ["a", "a-0 and 1 more"]),
    ],
)
def test_names_of_groups(groups, expected):
    runs = [
        make(name, seed=seed, epochs=float(number + 1))
        for number, group in enumerate(groups)
        for seed, name in enumerate(group)
    ]
    assert sorted(names_of(group_runs(runs))) == sorted(expected)


def test_the_most_accurate_comes_first_whatever_the_order():
    runs = [
        make("low", [1, 1, 0], epochs=1.0),
        make("high-0", [0, 0, 0], seed=0),
        make("high-1", [0, 0, 1], seed=1),
        make("b", [0, 1, 0], epochs=2.0),
        make("a", [1, 0, 0], epochs=4.0),  # as accurate as b, and as sure
    ]
    expected = [("high", ["high-0", "high-1"]), ("a", ["a"]), ("b", ["b"]), ("low", ["low"])]
    for order in itertools.islice(itertools.permutations(runs), 0, None, 7):
        assert list(names_of(group_runs(order)).items()) == expected


def test_spread_over_the_runs():
    [model] = group_runs([make(f"a-{n}", [0] * n + [1] * (3 - n), seed=n) for n in range(3)])
    accuracies = [0, 1 / 3, 2 / 3]
    found = model.spread(lambda run: run.answers.evaluation.accuracy)
    assert found is not None
    assert found.mean == pytest.approx(1 / 3)
    assert found.sd == pytest.approx(statistics.stdev(accuracies))
    assert model.num_right.tolist() == [2, 1, 0]
    assert model.confusion.tolist() == [[3, 6, 0], [0, 0, 0], [0, 0, 0]]
    assert model.spread(lambda run: None if run.entry.name == "a-1" else 1.0) is None
    [alone] = group_runs([make("a")])
    assert alone.spread(lambda run: 4.0) == Spread(4.0, None)
