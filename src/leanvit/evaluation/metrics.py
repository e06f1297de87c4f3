"""What a run reports: one block of numbers from the probabilities of one split.

- Accuracy is micro (right images / images). Balanced accuracy, precision, recall and F1 are macro:
  the mean over classes, each class with the same weight, whatever its number of images.
- A class without an image in the split has no recall: its recall is None, it counts in no mean, and
  images wrongly given to it count against their own class. (torchmetrics' macro averages count such
  a class as 0 once it is predicted, so they are not used here.) A class that is never predicted has
  precision 0 and F1 0.
- The 95 % interval of the accuracy is the percentile bootstrap over images. For a mean of zeros and
  ones, drawing n images with replacement is drawing one Binomial(n, accuracy): that is what is
  done, exactly, without touching an index. It says how far the accuracy would move with other test
  images, not how far it would move with another seed.
- Calibration error is the expected calibration error of Guo et al., "On Calibration of Modern
  Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599, with 15 bins of equal width, open
  to the left as in the paper. (torchmetrics closes them to the left, and gives a confidence of
  exactly 1 a sixteenth bin.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray
from torch import Tensor

from leanvit.errors import LeanvitError

NUM_BINS = 15


def classification_metrics(
    probabilities: Float32[ndarray, "n classes"] | Float32[Tensor, "n classes"],
    labels: Int64[ndarray, " n"] | Int64[Tensor, " n"],
    classes: Sequence[str],
    num_resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """The numbers of one split, as plain floats that JSON can hold (fractions of 1, never NaN).

    Args:
        probabilities: softmax outputs, one row an image.
        labels: class indices.
        classes: class names, in the order of the columns.
        num_resamples: bootstrap draws behind ``accuracy_interval``.
        seed: of these draws.

    Raises:
        LeanvitError: no image, values that are no probabilities (a diverged net gives NaN), or
            names and labels that do not fit the columns.
    """
    scores = _array(probabilities)
    targets = _array(labels)
    _check(scores, targets, classes)
    counts = confusion_counts(scores, targets)
    hits = np.diag(counts).astype(np.float64)
    num_true, num_predicted = counts.sum(axis=1), counts.sum(axis=0)
    present = num_true > 0
    recall = hits[present] / num_true[present]
    precision = hits[present] / np.maximum(num_predicted[present], 1)
    # Harmonic mean of precision and recall, written so that 0 / 0 cannot happen.
    f1 = 2 * hits[present] / (num_true[present] + num_predicted[present])
    accuracy = hits.sum() / len(targets)
    worst = int(np.argmin(recall))
    recall_of = dict(zip(np.flatnonzero(present).tolist(), recall.tolist(), strict=True))
    return {
        "accuracy": float(accuracy),
        "accuracy_interval": accuracy_interval(accuracy, len(targets), num_resamples, seed),
        "balanced_accuracy": float(recall.mean()),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "per_class_recall": [recall_of.get(index) for index in range(len(classes))],
        "worst_class": {
            "name": classes[int(np.flatnonzero(present)[worst])],
            "recall": float(recall[worst]),
        },
        "calibration_error": expected_calibration_error(scores, targets),
        "n": len(targets),
    }


def confusion_counts(
    probabilities: Float32[ndarray, "n classes"], labels: Int64[ndarray, " n"]
) -> Int64[ndarray, "classes classes"]:
    """Number of images by true class (row) and most probable class (column)."""
    num_classes = probabilities.shape[1]
    cells = labels * num_classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy_interval(
    accuracy: float, n: int, num_resamples: int = 10_000, seed: int = 0
) -> list[float]:
    """95 % percentile bootstrap of an accuracy over n images: [low, high].

    Where all images are right (or wrong) every resample is too: the interval has no width.
    """
    draws = np.random.default_rng(seed).binomial(n, accuracy, num_resamples) / n
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def expected_calibration_error(
    probabilities: Float32[ndarray, "n classes"], labels: Int64[ndarray, " n"]
) -> float:
    """Mean distance of confidence and accuracy over 15 bins of confidence, by images in the bin."""
    confidence: Float64[ndarray, " n"] = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    # n_b |accuracy_b - confidence_b| = |sum over the bin of (correct - confidence)|
    gaps = np.bincount(bins, weights=correct - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def _array(values: ndarray | Tensor) -> ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _check(scores: ndarray, targets: ndarray, classes: Sequence[str]) -> None:
    if len(targets) == 0:
        raise LeanvitError("no image to evaluate: the split is empty")
    if scores.shape[1] != len(classes):
        raise LeanvitError(
            f"{scores.shape[1]} probabilities an image, but {len(classes)} class names: "
            "evaluate with the classes that the net was trained on"
        )
    if not np.isfinite(scores).all():
        num_bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise LeanvitError(
            f"the probabilities of {num_bad} of {len(scores)} images are not finite: "
            "the training diverged, lower the learning rate"
        )
    if scores.min() < 0 or scores.max() > 1.001:  # a softmax in half precision may round up
        raise LeanvitError("values outside [0, 1] are no probabilities: apply a softmax first")
    if targets.min() < 0 or targets.max() >= len(classes):
        raise LeanvitError(
            f"labels from {targets.min()} to {targets.max()}, but there are {len(classes)} classes"
        )
