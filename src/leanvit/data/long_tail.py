"""Long tails: fewer and fewer images from the first class to the last, cut from any training set.

Sources: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019
(https://arxiv.org/abs/1901.05555), exp; Buda et al., "A systematic study of the class imbalance
problem in convolutional neural networks", 2018 (https://arxiv.org/abs/1710.05381), step; Cao et
al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss", NeurIPS 2019
(https://arxiv.org/abs/1906.07413), whose code made the cuts that the field compares on.

- ``exp:f``: class c of C keeps n_max f^(-c / (C - 1)) images, rounded down. ``step:f``: the first
  half of the classes keep n_max, the second half n_max / f.
- Classes are taken in their own order: the first is the most frequent.
- Which images stay is drawn as in Cao et al.'s code: one RandomState(seed) shuffles the images of
  each class, class by class, and the first n_c stay. Given CIFAR's official archives in their
  order and seed 0, these are the images that their code trains on.

Deviations:

- n_max is the size of the smallest class, so that an unbalanced set too gets the factor that was
  asked for; factor 1 makes it balanced. Of a balanced set n_max is the size of every class.
- The images that stay keep the order of the set; Cao et al.'s code puts them class by class.
- Of an odd number of classes the middle one counts as of the first half; their code would end
  without the last class.
"""

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Lt

from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError

MIN_IMAGES = 2  # of a class: one to train on and one to validate on
MAX_LINE = 240  # letters, three lines of a terminal


def long_tail(
    train: ImageSet, imbalance: str, seed: Annotated[int, Ge(0), Lt(2**32)] = 0
) -> ImageSet:
    """The images of ``train`` that a long tail leaves, in their order.

    Args:
        train: any training set; its images may be files.
        imbalance: ``exp:<factor>`` or ``step:<factor>``, the factor being that of the most frequent
            class to the rarest.
        seed: which images stay. It is no training seed: trainings that shall be compared share it.

    Raises:
        LeanvitError: another ``imbalance``, or a factor that would leave a class fewer than two
            images.
    """
    smallest = int(train.class_counts.argmin())
    n_max = int(train.class_counts[smallest])
    if n_max < MIN_IMAGES:
        raise LeanvitError(
            f"data.imbalance={imbalance}: class {train.classes[smallest]!r} has {n_max} training "
            f"images, of which no tail can be cut: add some, or leave data.imbalance out"
        )
    counts = tail_counts(len(train.classes), n_max, imbalance)
    if min(counts) < MIN_IMAGES:
        raise LeanvitError(
            f"data.imbalance={imbalance} would leave {min(counts)} of the {n_max:,} images of "
            f"class {train.classes[-1]!r}, and {MIN_IMAGES} are needed: give a factor of at most "
            f"{n_max // MIN_IMAGES}"
        )
    random, labels = np.random.RandomState(seed), train.labels.numpy()
    kept = []
    for label, count in enumerate(counts):
        index = np.flatnonzero(labels == label)
        random.shuffle(index)
        kept.append(index[:count])
    return train.subset(torch.from_numpy(np.sort(np.concatenate(kept))))


def tail_counts(num_classes: int, n_max: int, imbalance: str) -> list[int]:
    """Images that each class keeps.

    Args:
        n_max: images of the most frequent class.
        imbalance: as for :func:`long_tail`.

    Raises:
        LeanvitError: another ``imbalance``.
    """
    kind, factor = parse_imbalance(imbalance)
    if kind == "exp":
        shares = [(1 / factor) ** (c / max(1, num_classes - 1)) for c in range(num_classes)]
    else:
        shares = [1.0 if c < num_classes / 2 else 1 / factor for c in range(num_classes)]
    return [int(n_max * share + 1e-9) for share in shares]  # 98 * (1 / 49) is a hair below 2


def parse_imbalance(imbalance: str) -> tuple[str, float]:
    """``exp:100`` as ("exp", 100.0).

    Raises:
        LeanvitError: neither exp nor step, or no factor of 1 or more.
    """
    kind, _, number = imbalance.partition(":")
    try:
        factor = float(number)
    except ValueError:
        factor = math.nan
    if kind not in ("exp", "step") or not 1 <= factor < math.inf:
        raise LeanvitError(
            f"data.imbalance={imbalance}: give exp:<factor> or step:<factor>, the factor a number "
            "of 1 or more, as in exp:100"
        )
    return kind, factor


def class_counts_line(
    train: ImageSet, val: ImageSet | None = None, test: ImageSet | None = None
) -> str:
    """What a training sees, in at most three lines of a terminal: every class, or head and tail."""
    counts = train.class_counts.tolist()
    largest, least = max(counts), min(counts)
    ratio = f"imbalance {largest / least:,.3g}" if least else "a class without images"
    tail = f"; {len(train):,} in all, {ratio}"
    others = {"validation": val, "test": test}
    sizes = [f"{name} {len(part):,}" for name, part in others.items() if part is not None]
    tail += f"; {', '.join(sizes)}" if sizes else ""
    each = [f"{name} {count:,}" for name, count in zip(train.classes, counts, strict=True)]
    line = f"training images: {', '.join(each)}{tail}"
    if len(line) <= MAX_LINE or len(each) <= 6:
        return line
    by_frequency = sorted(range(len(each)), key=lambda c: -counts[c])
    head, rare = ([each[c] for c in part] for part in (by_frequency[:3], by_frequency[-3:]))
    classes = f"{', '.join(head)} ... {', '.join(rare)} ({len(each)} classes)"
    return f"training images: {classes}{tail}"
