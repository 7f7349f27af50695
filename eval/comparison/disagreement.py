"""The images that tell models apart, and those that defeat all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison.grouping import Model


@dataclass(frozen=True)
class Disagreement:
    """Places of images in the split, counted from 0.

    Attributes:
      disputed: int64 [k], images to which two runs give different answers; those on whose reading
        the models are most evenly divided come first, every model counting as one.
      missed_by_all: int64 [m], images that every run reads wrong; those come first of which the
        runs are surest on average.
    """

    disputed: np.ndarray
    missed_by_all: np.ndarray


def find_disagreement(models: Sequence[Model]) -> Disagreement:
    """Finds the images on which models disagree, and the errors that are common to all.

    Args:
      models: their answers to the same images.

    Returns:
      The images of both kinds. An image that all runs misread in different ways is of both.
    """
    runs = [run.answers for model in models for run in model.runs]
    predictions = np.stack([answers.predictions for answers in runs])
    is_disputed = (predictions != predictions[0]).any(axis=0)
    is_missed = ~np.any([answers.is_right for answers in runs], axis=0)
    share_right = np.mean([model.num_right / len(model.runs) for model in models], axis=0)
    confidence = np.mean([answers.confidences for answers in runs], axis=0)
    # Sorting is stable: of equals the image that comes first in the split comes first.
    by_division = np.argsort(np.abs(share_right - 0.5), kind="stable")
    by_confidence = np.argsort(-confidence, kind="stable")
    return Disagreement(
        by_division[is_disputed[by_division]], by_confidence[is_missed[by_confidence]]
    )
