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
- Many-, medium- and few-shot recall are the means over the classes with more than 100, with 20 to
  100 and with fewer than 20 training images, the limits of Liu et al., "Large-Scale Long-Tailed
  Recognition in an Open World", CVPR 2019, https://arxiv.org/abs/1904.05160. Training images are
  those that the net saw, without those set apart for validation. A group without classes is None.
- Calibration error and negative log-likelihood stand beside the same after temperature scaling, see
  `measure.calibration`; None where no temperature is known.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from leanvit.balanced_accuracy import balanced_accuracy, recalls
from leanvit.errors import LeanvitError
from leanvit.evaluation.measure.calibration import (
    expected_calibration_error,
    negative_log_likelihood,
    scale_probabilities,
)

MANY, FEW = 100, 20  # training images: more than 100 are many, fewer than 20 few
SHOTS = ("many", "medium", "few")
NUM_RESAMPLES = 10_000


def classification_metrics(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
    *,
    train_counts: Sequence[int] | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """The numbers of one split, as plain floats that JSON can hold (fractions of 1, never NaN).

    Args:
        classes: class names, in the order of the columns.
        train_counts: training images of each class; None: not known.
        temperature: fitted on validation images; None: not known.

    Raises:
        LeanvitError: see :func:`check_predictions`.
    """
    check_predictions(probabilities, labels, classes)
    counts = confusion_counts(probabilities, labels)
    hits = np.diag(counts).astype(np.float64)
    num_true, num_predicted = counts.sum(axis=1), counts.sum(axis=0)
    present = num_true > 0
    recall = recalls(counts)
    precision = hits[present] / np.maximum(num_predicted[present], 1)
    # Harmonic mean of precision and recall, written so that 0 / 0 cannot happen.
    f1 = 2 * hits[present] / (num_true[present] + num_predicted[present])
    accuracy = hits.sum() / len(labels)
    worst = int(np.argmin(recall))
    per_class_recall = _by_class(recall, present)
    return {
        "accuracy": float(accuracy),
        "accuracy_interval": accuracy_interval(accuracy, len(labels)),
        "balanced_accuracy": balanced_accuracy(counts),
        "precision": float(precision.mean()),
        "recall": balanced_accuracy(counts),
        "f1": float(f1.mean()),
        "per_class_recall": per_class_recall,
        "per_class_precision": _by_class(precision, present),
        "worst_class": {
            "name": classes[int(np.flatnonzero(present)[worst])],
            "recall": float(recall[worst]),
        },
        "shots": shot_recalls(per_class_recall, train_counts),
        **_calibration(probabilities, labels, temperature),
        "n": len(labels),
    }


def shot_groups(train_counts: Sequence[int]) -> dict[str, list[int]]:
    """Class indices of the many-, medium- and few-shot classes."""
    groups: dict[str, list[int]] = {name: [] for name in SHOTS}
    for index, count in enumerate(train_counts):
        groups["many" if count > MANY else "few" if count < FEW else "medium"].append(index)
    return groups


def shot_recalls(
    per_class_recall: Sequence[float | None], train_counts: Sequence[int] | None
) -> dict[str, float | None]:
    """Mean recall of each group; None without a class, or without an image of its classes."""
    recalls: dict[str, float | None] = dict.fromkeys(SHOTS)
    for name, indices in shot_groups(train_counts or ()).items():
        known = [value for index in indices if (value := per_class_recall[index]) is not None]
        recalls[name] = sum(known) / len(known) if known else None
    return recalls


def check_predictions(
    probabilities: Float32[ndarray, "n classes"],
    labels: Int64[ndarray, " n"],
    classes: Sequence[str],
) -> None:
    """Refuse what has no metrics.

    Raises:
        LeanvitError: no image, values that are no probabilities (a diverged net gives NaN), or
            names and labels that do not fit the columns.
    """
    if len(labels) == 0:
        raise LeanvitError("no image to evaluate: the split is empty")
    if probabilities.shape[1] != len(classes):
        raise LeanvitError(
            f"{probabilities.shape[1]} probabilities an image, but {len(classes)} class names: "
            "evaluate with the classes that the net was trained on"
        )
    if not np.isfinite(probabilities).all():
        num_bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise LeanvitError(
            f"the probabilities of {num_bad} of {len(probabilities)} images are not finite: "
            "the training diverged, lower the learning rate"
        )
    # a softmax in half precision may round up
    if probabilities.min() < 0 or probabilities.max() > 1.001:
        raise LeanvitError("values outside [0, 1] are no probabilities: apply a softmax first")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise LeanvitError(
            f"labels from {labels.min()} to {labels.max()}, but there are {len(classes)} classes"
        )


def confusion_counts(
    probabilities: Float32[ndarray, "n classes"], labels: Int64[ndarray, " n"]
) -> Int64[ndarray, "classes classes"]:
    """Number of images by true class (row) and most probable class (column)."""
    num_classes = probabilities.shape[1]
    cells = labels * num_classes + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy_interval(accuracy: float, n: int) -> list[float]:
    """95 % percentile bootstrap of an accuracy over n images: [low, high].

    Where all images are right (or wrong) every resample is too: the interval has no width.
    """
    draws = np.random.default_rng(0).binomial(n, accuracy, NUM_RESAMPLES) / n
    low, high = np.percentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def _by_class(values: ndarray, present: ndarray) -> list[float | None]:
    """Back to all classes, None for those without an image."""
    found = iter(values.tolist())
    return [next(found) if is_present else None for is_present in present.tolist()]


def _calibration(
    scores: ndarray, targets: ndarray, temperature: float | None
) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "calibration_error": expected_calibration_error(scores, targets),
        "nll": negative_log_likelihood(scores, targets),
        **dict.fromkeys(("temperature", "calibration_error_scaled", "nll_scaled")),
    }
    if temperature is not None:
        scaled = scale_probabilities(scores, temperature)
        found["temperature"] = temperature
        found["calibration_error_scaled"] = expected_calibration_error(scaled, targets)
        found["nll_scaled"] = negative_log_likelihood(scores, targets, temperature)
    return found
