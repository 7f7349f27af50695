"""Several runs' exported models that answer as one, each also on shifted copies of an image.

Probabilities are the arithmetic mean over runs and shifts, as in `model_definition.model_fn`. A
score is the mean of the runs' scores: each is the log-odds that an image is of any class, less that
run's own threshold, so they are on one scale and 0 divides for each. The mean of log-odds is the
logarithmic opinion pool (Genest and Zidek 1986, https://doi.org/10.1214/ss/1177013825) with equal
weights. Thresholds were chosen on images as they are, so scores come from those alone, not from
shifted copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.command_line import log
from model_definition.ensemble import Ensemble
from predict.classifier import Classifier, Judgement, load_classifier


class AveragedClassifier(Classifier):
    """The average of several classifiers; of one, over shifts."""

    def __init__(self, classifiers: Sequence[Classifier], test_time_shifts: int = 0) -> None:
        """Takes the classifiers.

        Args:
          classifiers: at least one, of the same classes and image shape.
          test_time_shifts: averages over every shift of up to so many pixels both ways as well.
        """
        self._classifiers = tuple(classifiers)
        self._reach = test_time_shifts
        can_reject = any(one.rejection is not None for one in classifiers)
        self.rejection = 0.0 if can_reject else None

    def judge(self, images: np.ndarray) -> Judgement:
        """Classifies images, and tells those that are unlike the training images.

        Args:
          images: uint8 [n, height, width, channels], pixels of 0 to 255 as in the records.

        Returns:
          What the models say of them; scores of those runs that give any.

        Raises:
          UserError: a model is damaged, and gives something else than numbers.
        """
        probabilities, scores = [], []
        for classifier in self._classifiers:
            judged = classifier.judge(images)
            probabilities.append(judged.probabilities)
            probabilities += [classifier.predict(moved) for moved in _shift(images, self._reach)]
            if classifier.rejection is not None:
                scores.append(judged.scores - np.float32(classifier.rejection))
        mean = np.mean(probabilities, axis=0)
        if self.rejection is None:
            return Judgement(mean, judged.scores, judged.is_digit)
        score = np.mean(scores, axis=0)
        return Judgement(mean, score, score >= self.rejection)


def load_averaged(ensemble: Ensemble, test_time_shifts: int = 0) -> Classifier:
    """Loads the models that runs exported.

    Args:
      ensemble: the runs.
      test_time_shifts: averages over every shift of up to so many pixels both ways as well.

    Returns:
      Their average; of one run without shifts its own classifier.

    Raises:
      UserError: a model is missing, damaged, or of another shape than its run.
    """
    classifiers = [load_classifier(run) for run in ensemble.runs]
    if len(classifiers) == 1 and test_time_shifts == 0:
        return classifiers[0]
    averaged = AveragedClassifier(classifiers, test_time_shifts)
    for run, classifier in zip(ensemble.runs, classifiers, strict=True):
        if classifier.rejection is None and averaged.rejection is not None:
            log(f"{run.logdir}: no calibration, so it has no part in telling what is no digit")
    return averaged


def _shift(images: np.ndarray, reach: int) -> Iterator[np.ndarray]:
    """Gives images by every shift but none, zeros shifted in."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
    places = range(2 * reach + 1)
    for y in places:
        for x in places:
            if (y, x) != (reach, reach):
                yield np.ascontiguousarray(padded[:, y : y + height, x : x + width])
