"""Metrics that are summed over a split, batch by batch, and divided once at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NUM_BINS = 15  # of confidence; Guo et al. 2017 use 15
NUM_THRESHOLDS = 127  # of the precision-recall curves; TensorBoard's own default
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson 1927), each bound 0 to 1.

    Args:
      successes: how many of the n; as a mean of several counts it need not be whole.
      n: at least 1.
    """
    share = successes / n
    centre = share + _Z95**2 / (2 * n)
    spread = _Z95 * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    scale = 1 + _Z95**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True)
class Mistake:
    """An image that was misread.

    Attributes:
      image: float32 [height, width, channels], as the network saw it.
      label: what it is.
      prediction: what it was read as.
      confidence: the probability given to the prediction.
      index: its place in the split.
    """

    image: np.ndarray
    label: int
    prediction: int
    confidence: float
    index: int


class StreamingMetrics:
    """Counts over the examples seen so far.

    Attributes:
      num_examples: how many there were.
      confusion: int64 [num_classes, num_classes]; rows are labels, columns predictions.
      mistakes: the misread images with the highest confidence, the most confident first.
    """

    def __init__(self, num_classes: int, *, num_mistakes: int) -> None:
        """Starts at zero.

        Args:
          num_classes: how many classes there are.
          num_mistakes: how many of the worst mistakes to keep.
        """
        self.num_examples = 0
        self.confusion = np.zeros((num_classes, num_classes), np.int64)
        self.mistakes: list[Mistake] = []
        self._num_mistakes = num_mistakes
        self._top_2 = 0
        self._bins = np.zeros((2, NUM_BINS))  # correct examples, sum of confidences
        # Per class: how many examples of it, and of others, reach each threshold.
        self._positives = np.zeros((num_classes, NUM_THRESHOLDS), np.int64)
        self._negatives = np.zeros((num_classes, NUM_THRESHOLDS), np.int64)

    def update(self, images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds a batch.

        Args:
          images: float32 [n, height, width, channels].
          labels: int64 [n].
          probabilities: float32 [n, num_classes].
        """
        rows = np.arange(len(labels))
        predictions = probabilities.argmax(axis=1)
        confidences = probabilities[rows, predictions]
        np.add.at(self.confusion, (labels, predictions), 1)
        # Of equal probabilities the lower label comes first, as in argmax.
        top_2 = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        self._top_2 += int((top_2 == labels[:, None]).sum())
        bins = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
        for row, weights in enumerate((predictions == labels, confidences)):
            self._bins[row] += np.bincount(bins, weights, minlength=NUM_BINS)
        self._count_thresholds(labels, probabilities)
        wrong = np.flatnonzero(predictions != labels)
        self.mistakes += [
            Mistake(
                images[i],
                int(labels[i]),
                int(predictions[i]),
                float(confidences[i]),
                self.num_examples + int(i),
            )
            for i in wrong
        ]
        self.mistakes.sort(key=lambda mistake: (-mistake.confidence, mistake.index))
        del self.mistakes[self._num_mistakes :]
        self.num_examples += len(labels)

    def _count_thresholds(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        steps = (probabilities * (NUM_THRESHOLDS - 1)).astype(int)
        for label in range(len(self.confusion)):
            of_class = labels == label
            for counts, chosen in ((self._positives, of_class), (self._negatives, ~of_class)):
                reached = np.bincount(steps[chosen, label], minlength=NUM_THRESHOLDS)
                counts[label] += reached[::-1].cumsum()[::-1]

    @property
    def top_2_accuracy(self) -> float:
        """The share of examples whose label is one of the two most probable classes."""
        return self._top_2 / self.num_examples

    @property
    def expected_calibration_error(self) -> float:
        """How far confidence is from accuracy on average, 0 to 1.

        Over 15 equal bins of confidence, as Guo et al. 2017 (https://arxiv.org/abs/1706.04599)
        define it.
        """
        correct, confidence = self._bins
        return float(np.abs(correct - confidence).sum() / self.num_examples)

    def per_class(self) -> list[dict[str, float | int | None]]:
        """Returns precision, recall, F1 and support of each class; None where none is defined."""
        hits = np.diag(self.confusion)
        rows = []
        for label, hit in enumerate(hits.tolist()):
            predicted = int(self.confusion[:, label].sum())
            support = int(self.confusion[label].sum())
            rows.append(
                {
                    "precision": hit / predicted if predicted else None,
                    "recall": hit / support if support else None,
                    "f1": 2 * hit / (predicted + support) if predicted + support else None,
                    "support": support,
                }
            )
        return rows

    def precision_recall(self, label: int) -> dict[str, np.ndarray]:
        """Returns a class's counts and rates at thresholds from 0 to 1, each [127].

        Args:
          label: the class.
        """
        true_positives, false_positives = self._positives[label], self._negatives[label]
        false_negatives = true_positives[0] - true_positives
        return {
            "true_positive_counts": true_positives,
            "false_positive_counts": false_positives,
            "true_negative_counts": false_positives[0] - false_positives,
            "false_negative_counts": false_negatives,
            "precision": true_positives / np.maximum(true_positives + false_positives, 1),
            "recall": true_positives / np.maximum(true_positives + false_negatives, 1),
        }
