"""The validation split: stratified, exact in size, the same for the same seed."""

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt, Le
from jaxtyping import Int64
from torch import Tensor

from leanvit.data.images import Splits
from leanvit.errors import LeanvitError
from leanvit.seeds import derive_seed
from leanvit.values import Whole


def with_validation(
    splits: Splits, val_fraction: Annotated[float, Gt(0), Le(0.9)], split_seed: Whole
) -> Splits:
    """The same, with a stratified part of the training images as the validation set where the
    source brings none.

    Raises:
        LeanvitError: a class has too few images for both parts.
    """
    if splits.val is not None:
        return splits
    counts = zip(splits.train.classes, splits.train.class_counts.tolist(), strict=True)
    if lonely := [name for name, count in counts if count == 1]:
        raise LeanvitError(
            f"one training image of {', '.join(lonely)}: at least 2 are needed, one to train on "
            "and one to validate on; add some, or bring validation images of your own"
        )
    train, val = stratified_split(splits.train.labels, val_fraction, split_seed)
    return replace(splits, train=splits.train.subset(train), val=splits.train.subset(val))


def largest_remainder(counts: np.ndarray, total: int) -> np.ndarray:
    """Share ``total`` among the classes in proportion to ``counts`` (Hamilton's method)."""
    quota = counts * (total / counts.sum())
    shares = np.floor(quota).astype(np.int64)
    for k in np.argsort(shares - quota, kind="stable")[: total - shares.sum()]:
        shares[k] += 1
    return shares


def stratified_split(
    labels: Int64[Tensor, " n"], fraction: float, seed: int
) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " val"]]:
    """Indices of the training part and of the validation part, each sorted.

    The validation part has round(fraction * n) images, shared among the classes in proportion, and
    one more for each class so small that it would have none. Each class has two images at least.
    """
    array = labels.numpy()
    classes, counts = np.unique(array, return_counts=True)
    shares = largest_remainder(counts, round(fraction * len(array)))
    shares = np.clip(shares, 1, counts - 1)
    generator = np.random.default_rng(derive_seed(seed, "split"))
    val = np.sort(
        np.concatenate(
            [
                generator.permutation(np.flatnonzero(array == k))[:share]
                for k, share in zip(classes, shares, strict=True)
            ]
        )
    )
    train = np.setdiff1d(np.arange(len(array)), val)
    return torch.from_numpy(train), torch.from_numpy(val)
