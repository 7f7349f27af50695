from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.comparison.grouping import Model
from eval.comparison.significance import (
    compare_pairs,
    correct_holm,
    exact_mcnemar,
    exact_permutation,
)
from tests.comparison_fixtures import make_measured


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0, 0, 1.0),  # No image tells them apart.
        (1, 1, 1.0),
        (5, 0, 2 / 2**5),  # all five on one side, or all on the other
        (8, 1, 2 * (1 + 9) / 2**9),
    ],
)
def test_mcnemar_by_hand(first, second, expected):
    assert exact_mcnemar(first, second) == pytest.approx(expected, rel=1e-12)
    assert exact_mcnemar(second, first) == exact_mcnemar(first, second)


@settings(deadline=None)  # Other programs may slow it down.
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_of_single_runs_the_permutation_test_is_mcnemars(first, second, tied):
    differences = np.array([1] * first + [-1] * second + [0] * tied, np.int64)
    assert exact_permutation(differences) == pytest.approx(exact_mcnemar(first, second), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_permutation_test_counts_every_choice_of_signs(seed):
    differences = np.random.default_rng(seed).integers(-3, 5, 9)
    reference = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert exact_permutation(differences) == pytest.approx(reference.pvalue, rel=1e-12)


def test_permutation_test_does_not_depend_on_the_order_and_keeps_small_numbers():
    differences = np.array([3] * 80 + [-1] * 5)
    p_value = exact_permutation(differences)
    assert 0 < p_value < 1e-20
    assert exact_permutation(differences[::-1]) == pytest.approx(p_value, rel=1e-9)


def test_holm_by_hand():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03; the last one may not be smaller than the one before it.
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.6, 0.5]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_a_pair_is_counted_image_by_image():
    good = Model("good", (make_measured("good", [0] * 18 + [1, 1]),))
    bad = Model("bad", (make_measured("bad", [1] * 9 + [0] * 10 + [2]),))
    [difference] = compare_pairs([good, bad])
    assert (difference.better_alone, difference.worse_alone) == (9.0, 1.0)
    assert difference.points == pytest.approx(8 / 20)
    assert difference.p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert difference.corrected_p_value == difference.p_value
    assert difference.is_significant


def test_images_count_once_however_many_runs_read_them():
    # Three runs that fail on the same four images are no twelve witnesses.
    runs = tuple(make_measured(f"bad-{n}", [1] * 4 + [0] * 16) for n in range(3))
    good = Model("good", (make_measured("good", [0] * 20),))
    [difference] = compare_pairs([good, Model("bad", runs)])
    assert difference.better_alone == 4.0
    assert difference.p_value == pytest.approx(2 / 2**4)
    assert not difference.is_significant


def test_runs_count_by_their_shares():
    first = Model("first", tuple(make_measured(f"a{n}", [0, 0, 1, n]) for n in range(2)))
    second = Model("second", tuple(make_measured(f"b{n}", [n, 1, 0, 1]) for n in range(3)))
    [difference] = compare_pairs([first, second])
    # By image: 1 - 1/3, 1 - 0, 0 - 1, 1/2 - 0.
    assert difference.better_alone == pytest.approx(2 / 3 + 1 + 1 / 2)
    assert difference.worse_alone == pytest.approx(1)
    assert difference.points == pytest.approx((2 / 3 + 1 - 1 + 1 / 2) / 4)
    assert difference.p_value == exact_permutation(np.array([4, 6, -6, 3]))


def test_every_pair_is_tested_and_corrected_for_all():
    models = [
        Model(name, (make_measured(name, [1] * wrong + [0] * (20 - wrong)),))
        for name, wrong in (("a", 0), ("b", 6), ("c", 12))
    ]
    differences = compare_pairs(models)
    assert [(d.better.name, d.worse.name) for d in differences] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    p_values = [d.p_value for d in differences]
    assert p_values == pytest.approx([2 / 2**6, 2 / 2**12, 2 / 2**6])
    assert [d.corrected_p_value for d in differences] == correct_holm(p_values)
    # Alone each would pass; of three only the largest does.
    assert [d.is_significant for d in differences] == [False, True, False]
