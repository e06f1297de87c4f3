"""How far a confidence can be believed, and the temperature that mends it.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
https://arxiv.org/abs/1706.04599.

- Calibration error is the expected calibration error, with 15 bins of equal width, open to the left
  as in the paper. (torchmetrics closes them to the left, and gives a confidence of exactly 1 a
  sixteenth bin.)
- Temperature scaling divides all logits by one number T, the one with the lowest negative
  log-likelihood on the validation images. The order of the classes stays, and so does the accuracy.
- The logits need not be kept: up to a constant of each image they are log p, and a softmax does not
  see the constant.
- The likelihood is convex in 1 / T: its slope changes sign once, and bisection finds the place.
- Validation images are as imbalanced as those of the training. Where test images are balanced, the
  temperature of the one need not suit the other, and the error can be larger after scaling.
- A probability below 1.2e-38, float32's smallest normal number, counts as that number: log 0 says
  nothing of how small it was.

Deviations:
- The paper starts an optimizer at T = 1 and takes what it gives. Here T is None where there is no
  minimum between 0.01 and 100: a validation set without an error asks for ever more confidence, one
  that is worse than guessing for ever less, and any number would be made up.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

NUM_BINS = 15
COOLEST, HOTTEST = 0.01, 100.0  # a net whose loss scales its logits, as LDAM's does, needs 1 / 30
NUM_STEPS = 40  # of bisection: T to eleven digits


class ConfidenceBins(NamedTuple):
    """Images, right ones among them, and the sum of their confidences, by bin of confidence."""

    num_images: Int64[ndarray, " bins"]
    num_correct: Float64[ndarray, " bins"]
    confidence: Float64[ndarray, " bins"]


def confidence_bins(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    num_bins: int = NUM_BINS,
) -> ConfidenceBins:
    """What each of the bins of confidence holds."""
    confidence: Float64[ndarray, " n"] = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    return ConfidenceBins(
        np.bincount(bins, minlength=num_bins),
        np.bincount(bins, weights=correct, minlength=num_bins),
        np.bincount(bins, weights=confidence, minlength=num_bins),
    )


def expected_calibration_error(
    probabilities: Float32[ndarray, "n classes"], labels: Int64[ndarray, " n"]
) -> float:
    """Mean distance of confidence and accuracy over 15 bins of confidence, by images in the bin."""
    bins = confidence_bins(probabilities, labels)
    # n_b |accuracy_b - confidence_b| = |sum over the bin of (correct - confidence)|
    return float(np.abs(bins.num_correct - bins.confidence).sum() / len(labels))


def negative_log_likelihood(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    temperature: float = 1.0,
) -> float:
    """Mean of -log p of the true class, the logits divided by ``temperature``."""
    logits = _logits(probabilities) / temperature
    highest = logits.max(axis=1)
    log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def fit_temperature(
    probabilities: Float32[ndarray, "n classes"], labels: Int64[ndarray, " n"]
) -> float | None:
    """The temperature with the lowest negative log-likelihood; None where there is no minimum.

    The images are those of validation: on test images this would be choosing by the test set.
    """
    logits = _logits(probabilities)
    of_truth = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        """Of the likelihood by 1 / T: the logit that is expected less that of the true class."""
        return float((_softmax(logits * inverse) * logits).sum(axis=1).mean() - of_truth)

    low, high = np.log(1 / HOTTEST), np.log(1 / COOLEST)
    if not slope(1 / HOTTEST) < 0 < slope(1 / COOLEST):
        return None
    for _ in range(NUM_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))


def scale_probabilities(
    probabilities: Float32[ndarray, "n classes"], temperature: float
) -> Float32[ndarray, "n classes"]:
    """The softmax of the same logits, divided by ``temperature``."""
    return _softmax(_logits(probabilities) / temperature).astype(np.float32)


def _logits(probabilities: ndarray) -> Float64[ndarray, "n classes"]:
    smallest = np.finfo(np.float32).tiny
    return np.log(np.maximum(probabilities, smallest).astype(np.float64))


def _softmax(logits: ndarray) -> Float64[ndarray, "n classes"]:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
