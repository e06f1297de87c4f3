"""A part of the training images, the same part of each class: for a quick look, or for a curve."""

import numpy as np
import torch

from leanvit.data.images import ImageSet
from leanvit.data.long_tail import MIN_IMAGES
from leanvit.values import PositiveShare


def part_of_each_class(train: ImageSet, fraction: PositiveShare) -> ImageSet:
    """The images that stay, in their order.

    Of each class ``fraction`` of its images, rounded, but two at least where it has so many: one to
    train on and one to validate on. They are drawn once and for all: trainings of one fraction see
    the same images, and those of a smaller one are among those of a larger.
    """
    if fraction == 1:
        return train
    random, labels = np.random.RandomState(0), train.labels.numpy()
    kept = []
    for label in range(len(train.classes)):
        index = random.permutation(np.flatnonzero(labels == label))
        kept.append(index[: max(round(fraction * len(index)), MIN_IMAGES)])
    return train.subset(torch.from_numpy(np.sort(np.concatenate(kept))))
