"""What a trained network's answers are worth: calibrated probabilities, and a score for each image.

The probabilities are the softmax of logits / temperature, the temperature being the one number that
makes them likeliest on validation images (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

The score tells images like those of the training from all others. A network that was trained to
tell digits apart has features of little use outside its last layers' few directions, so its own
confidence says little here. A small second head does better: one hidden layer over what every
layer says of an image as a whole, trained to name the class or "none of them" on training images
and drawn non-digits, as outlier exposure does (Hendrycks et al. 2019,
https://arxiv.org/abs/1812.04606). The score is the log-odds that the image is of any class, less
the threshold: from 0 on it is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_LOSS = 0.005  # share of validation images that may be rejected
# Both kinds counted alike, rejecting a digit is as bad as accepting so many others: on a page there
# are some thirty digits to each thing that is none.
LOSS_WEIGHT = 30
_HIDDEN, _EPOCHS, _BATCH_SIZE, _RATE, _DROPOUT = 64, 8, 128, 5e-3, 0.2
BOUND = 8.0  # standardised features are cut here, so that nothing strange weighs without end


@dataclass(frozen=True)
class Rejection:
    """The head that scores images.

    Attributes:
      mean: float32 [d], of each feature over training images.
      scale: float32 [d], what its deviation from the mean is divided by.
      hidden_weights: float32 [d, hidden].
      hidden_biases: float32 [hidden].
      weights: float32 [hidden, num_classes + 1]; the last column is for "none of them".
      biases: float32 [num_classes + 1].
      threshold: the smallest log-odds that are accepted.
    """

    mean: np.ndarray
    scale: np.ndarray
    hidden_weights: np.ndarray
    hidden_biases: np.ndarray
    weights: np.ndarray
    biases: np.ndarray
    threshold: float = 0.0

    def score(self, features: np.ndarray) -> np.ndarray:
        """Returns the log-odds, less the threshold, that images are of any class.

        Args:
          features: float32 [n, d].

        Returns:
          float32 [n].
        """
        x = np.clip((features - self.mean) / self.scale, -BOUND, BOUND)
        hidden = np.maximum(x @ self.hidden_weights + self.hidden_biases, 0)
        logits = hidden @ self.weights + self.biases
        return np.logaddexp.reduce(logits[:, :-1], axis=1) - logits[:, -1] - self.threshold


@dataclass(frozen=True)
class Calibration:
    """What makes a network's answers worth what they say.

    Attributes:
      temperature: what logits are divided by.
      rejection: the head that scores images.
    """

    temperature: float
    rejection: Rejection


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the temperature with the smallest cross-entropy.

    Args:
      logits: float32 [n, num_classes], of images that were not trained on.
      labels: int64 [n].

    Returns:
      A number from 1/20 to 20.
    """
    logits = logits.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]

    def slope(log_temperature: float) -> float:
        """The cross-entropy's derivative, which rises through 0 once in 1 / temperature."""
        scaled = logits * np.exp(-log_temperature)
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return float(np.mean(of_label - (shares * logits).sum(axis=1)))

    low, high = -np.log(20), np.log(20)
    if np.ptp(logits, axis=1).max() == 0:  # One class, or a network that says nothing.
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        # A positive slope here: sharper probabilities would be likelier.
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(np.exp((low + high) / 2))


def fit_rejection(
    features: np.ndarray, labels: np.ndarray, others: np.ndarray, *, num_classes: int, seed: int
) -> Rejection:
    """Trains the head, by Adam (Kingma and Ba 2015) with a cosine's decay.

    Args:
      features: float32 [n, d], of training images, n at least 1.
      labels: int64 [n], theirs.
      others: float32 [m, d], of images of none of the classes, m at least 1.
      num_classes: how many classes there are.
      seed: decides initial weights, order and dropout.

    Returns:
      The head, its threshold 0.
    """
    random = np.random.default_rng(seed)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # A feature that hardly ever differs must not be blown up.
    scale = scale + 0.1 * np.sqrt(np.mean(scale**2)) + 1e-6
    inputs = np.clip((np.concatenate([features, others]) - mean) / scale, -BOUND, BOUND)
    targets = np.concatenate([labels, np.full(len(others), num_classes)])
    # Both kinds count alike, however many there are of each.
    shares = np.where(targets < num_classes, 0.5 / len(features), 0.5 / len(others)) * len(targets)
    num_features = inputs.shape[1]
    weights = [
        random.normal(0, np.sqrt(2 / num_features), (num_features, _HIDDEN)),
        np.zeros(_HIDDEN),
        random.normal(0, 0.1, (_HIDDEN, num_classes + 1)),
        np.zeros(num_classes + 1),
    ]
    weights = [array.astype(np.float32) for array in weights]
    first, second = ([np.zeros_like(array) for array in weights] for _ in range(2))
    batches_an_epoch = -(-len(inputs) // _BATCH_SIZE)
    total = _EPOCHS * batches_an_epoch
    for step in range(total):
        if step % batches_an_epoch == 0:
            order = random.permutation(len(inputs))
        start = step % batches_an_epoch * _BATCH_SIZE
        batch = order[start : start + _BATCH_SIZE]
        kept = random.random((len(batch), num_features), np.float32) > _DROPOUT
        gradients = _gradients(
            weights, inputs[batch] * kept / np.float32(1 - _DROPOUT), targets[batch], shares[batch]
        )
        rate = _RATE * (1 + np.cos(np.pi * step / total)) / 2
        for array, m, v, gradient in zip(weights, first, second, gradients, strict=True):
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            corrected = np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8
            array -= np.float32(rate / (1 - 0.9 ** (step + 1))) * m / corrected
    hidden_weights, hidden_biases, output_weights, output_biases = weights
    return Rejection(mean, scale, hidden_weights, hidden_biases, output_weights, output_biases)


def _gradients(
    weights: list[np.ndarray], inputs: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> list[np.ndarray]:
    """Returns the gradients of the head's weighted mean cross-entropy."""
    hidden_weights, hidden_biases, output_weights, output_biases = weights
    linear = inputs @ hidden_weights + hidden_biases
    hidden = np.maximum(linear, 0)
    logits = hidden @ output_weights + output_biases
    slopes = np.exp(logits - logits.max(axis=1, keepdims=True))
    slopes /= slopes.sum(axis=1, keepdims=True)
    slopes[np.arange(len(targets)), targets] -= 1
    slopes *= (shares / len(targets))[:, None].astype(np.float32)
    back = (slopes @ output_weights.T) * (linear > 0)
    return [inputs.T @ back, back.sum(axis=0), hidden.T @ slopes, slopes.sum(axis=0)]


def choose_threshold(scores: np.ndarray, others: np.ndarray) -> float:
    """Chooses from which score on images are accepted.

    Args:
      scores: float [n], of images of the classes that were not trained on.
      others: float [m], of images of none of them, not trained on either.

    Returns:
      The threshold with the least loss, a rejected image counting `LOSS_WEIGHT` times an accepted
      one of no class, among those that reject no more than `LARGEST_LOSS` of the images.
    """
    scores, others = np.sort(scores), np.sort(others)
    rejected = np.arange(int(LARGEST_LOSS * len(scores)) + 1)
    candidates = scores[rejected]
    accepted = 1 - np.searchsorted(others, candidates) / len(others)
    losses = LOSS_WEIGHT * rejected / len(scores) + accepted
    return float(candidates[np.argmin(losses)])
