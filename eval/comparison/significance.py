"""Which differences between models mean something: exact paired tests, corrected for their number.

Both models see the same images, so only the images that one of them reads right and the other wrong
tell them apart. Of two single runs that is McNemar's test: if the models were equally good, each
such image would go to either with probability 1/2.

Where a model has several runs, an image counts by the share of them that read it right, once, since
runs of one configuration mostly fail on the same images and are no independent witnesses. McNemar's
test then becomes the paired permutation test of the mean difference (Fisher and Pitman): each
image's difference has either sign with probability 1/2. With one run each the two are the same.

    McNemar 1947, Psychometrika 12, 153-157
    Dietterich 1998, Neural Computation 10, 1895-1923, on comparing classifiers with it
    Pitman 1937, Supplement to the Journal of the Royal Statistical Society 4, 119-130
    Holm 1979, Scandinavian Journal of Statistics 6, 65-70
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from eval.comparison.grouping import Model

LEVEL = 0.05  # the chance, at most, that any difference is said to be one without being one


@dataclass(frozen=True)
class Difference:
    """Two models compared.

    Attributes:
      better: the one with the higher mean accuracy; the first one where they are equal.
      worse: the other.
      points: by how much the mean accuracy is higher, 0 to 1.
      better_alone: how many images only the better one reads right; where there are several runs,
        the sum over the images of how much larger its share of right runs is.
      worse_alone: the same of the other.
      p_value: of the two-sided test of this pair alone.
      corrected_p_value: Holm's, which takes into account how many pairs are tested.
    """

    better: Model
    worse: Model
    points: float
    better_alone: float
    worse_alone: float
    p_value: float
    corrected_p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether the difference means something."""
        return self.corrected_p_value < LEVEL


def compare_pairs(models: Sequence[Model]) -> tuple[Difference, ...]:
    """Tests every pair of models.

    Args:
      models: the most accurate first.

    Returns:
      A difference for each pair, in the order of the models.
    """
    pairs = list(itertools.combinations(models, 2))
    shares = [_share_differences(better, worse) for better, worse in pairs]
    p_values = [
        exact_mcnemar(int((d > 0).sum()), int((d < 0).sum()))
        if len(better.runs) == len(worse.runs) == 1
        else exact_permutation(d)
        for (better, worse), (d, _) in zip(pairs, shares, strict=True)
    ]
    return tuple(
        Difference(
            better=better,
            worse=worse,
            points=float(d.sum()) / scale / len(d),
            better_alone=float(d[d > 0].sum()) / scale,
            worse_alone=float(-d[d < 0].sum()) / scale,
            p_value=p_value,
            corrected_p_value=corrected,
        )
        for (better, worse), (d, scale), p_value, corrected in zip(
            pairs, shares, p_values, correct_holm(p_values), strict=True
        )
    )


def _share_differences(better: Model, worse: Model) -> tuple[np.ndarray, int]:
    """Returns the differences of the shares of right runs, int [n], and what to divide them by."""
    scale = math.lcm(len(better.runs), len(worse.runs))
    shares = [model.num_right * (scale // len(model.runs)) for model in (better, worse)]
    return shares[0] - shares[1], scale


def exact_mcnemar(first_alone: int, second_alone: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    Args:
      first_alone: images that only the first model reads right.
      second_alone: images that only the second one reads right.
    """
    if first_alone + second_alone == 0:
        return 1.0
    return float(stats.binomtest(first_alone, first_alone + second_alone).pvalue)


def exact_permutation(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of the paired permutation test of a mean of 0, exactly.

    All 2^n ways to give the differences their signs are counted, by adding one difference after
    the other to the distribution of the sum of the positive ones (Pagano and Tritchler 1983,
    Journal of the American Statistical Association 78, 435-440).

    Args:
      differences: int [n], one for each image.
    """
    sizes = np.abs(differences[differences != 0])
    distribution = np.ones(1)  # of the sum of the positive differences, which is the index
    for size in sizes:
        longer = np.zeros(len(distribution) + size)
        longer[:-size] = distribution / 2
        longer[size:] += distribution / 2
        distribution = longer
    # With the positive sum s of a total t the sum of all is 2 s - t.
    sums = 2 * np.arange(len(distribution)) - int(sizes.sum())
    return min(1.0, float(distribution[np.abs(sums) >= abs(int(differences.sum()))].sum()))


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number, so that the chance of any false alarm stays the same.

    The smallest of m is multiplied by m, the next one by m - 1, and so on; none may be smaller
    than the one before it, nor more than 1 (Holm 1979).

    Args:
      p_values: of the single tests.

    Returns:
      The corrected ones, in the same order.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected
