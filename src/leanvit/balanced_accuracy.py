"""Recall of each class and its mean: the one figure that selects nets and that reports show."""

from typing import Any


def recalls(confusion: Any) -> Any:
    """Share of the images of each class that were given to it, of the classes that have images.

    Args:
        confusion: (classes, classes), images by true class (row) and by answer (column); a NumPy
            array, or a tensor of float64, for torch divides whole numbers in float32.
    """
    images = confusion.sum(1)
    present = images > 0
    return confusion.diagonal()[present] / images[present]


def balanced_accuracy(confusion: Any) -> float:
    """Their mean: every class counts alike, and one without images has no recall to count."""
    return float(recalls(confusion).mean())
