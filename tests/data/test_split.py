"""The validation split: stratified, complete, reproducible."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from image_trees import refused

from leanvit import values
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import largest_remainder, stratified_split, with_validation

COURSE = [4435, 4189, 3065, 4191, 4513, 3717, 3513, 3249, 2685, 2023]


def shuffled_labels(counts: list[int]) -> torch.Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


def test_the_course_counts() -> None:
    labels = shuffled_labels(COURSE)
    train, val = stratified_split(labels, 0.1, seed=0)
    assert len(train) == 32_022 and len(val) == 3_558
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(35_580))
    assert torch.equal(train, train.sort().values) and torch.equal(val, val.sort().values)
    for count, share in zip(COURSE, torch.bincount(labels[val]).tolist(), strict=True):
        assert abs(share - count / 10) < 1


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
def test_other_fractions(fraction: float) -> None:
    labels = shuffled_labels([40, 100, 60, 23])
    train, val = stratified_split(labels, fraction, seed=3)
    assert len(val) == round(fraction * 223) and len(train) + len(val) == 223
    assert not set(train.tolist()) & set(val.tolist())
    for count, share in zip([40, 100, 60, 23], torch.bincount(labels[val]).tolist(), strict=True):
        assert abs(share - fraction * count) < 1


def test_seeds() -> None:
    labels = shuffled_labels([50, 30, 20])
    val = [stratified_split(labels, 0.1, seed)[1] for seed in (0, 0, 1)]
    assert torch.equal(val[0], val[1]) and not torch.equal(val[0], val[2])


def test_every_image_is_chosen_equally_often() -> None:
    labels = shuffled_labels([30, 10])
    chosen = torch.zeros(40)
    for seed in range(400):
        chosen[stratified_split(labels, 0.5, seed)[1]] += 1
    assert (chosen - 200).abs().max() < 4.5 * math.sqrt(400 / 4)


def test_small_classes_are_in_both_parts() -> None:
    labels = shuffled_labels([2, 3, 400])
    for fraction in (0.01, 0.1, 0.99):
        train, val = stratified_split(labels, fraction, seed=0)
        assert torch.bincount(labels[train], minlength=3).min() >= 1
        assert torch.bincount(labels[val], minlength=3).min() >= 1


def test_labels_need_not_be_consecutive() -> None:
    labels = torch.tensor([5] * 10 + [2] * 10)
    _, val = stratified_split(labels, 0.2, seed=0)
    assert torch.bincount(labels[val]).tolist() == [0, 0, 2, 0, 0, 2]


def test_only_a_source_without_validation_images_is_split() -> None:
    labels = shuffled_labels([40, 60])
    whole = ImageSet(torch.arange(300).view(100, 3, 1, 1).byte(), labels, ("a", "b"))
    train, val = stratified_split(labels, 0.1, 3)
    split = with_validation(Splits(whole, whole, source="noise"), 0.1, split_seed=3)
    assert torch.equal(split.train.labels, labels[train]) and split.val is not None
    assert torch.equal(split.val.images, whole.subset(val).images)
    assert split.test is whole and split.source == "noise"
    assert with_validation(split, 0.5, split_seed=0) is split


def test_refused() -> None:
    few = ImageSet(torch.zeros(6, 3, 1, 1).byte(), shuffled_labels([5, 1]), ("a", "b"))
    assert "one training image of b:" in refused(with_validation, Splits(few, few), 0.1, 0)
    for fraction in (0.0, 1.0, -0.1, math.nan):
        given = {"val_fraction": fraction}
        assert refused(values.check, with_validation, given).startswith("val_fraction=")


def test_largest_remainder_against_exact_fractions() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        counts = draw.integers(1, 5000, draw.integers(1, 12))
        total = int(draw.integers(0, counts.sum() + 1))
        shares = largest_remainder(counts, total).tolist()
        quota = [Fraction(int(count) * total, int(counts.sum())) for count in counts]
        assert sum(shares) == total
        more = [share - math.floor(q) for share, q in zip(shares, quota, strict=True)]
        assert set(more) <= {0, 1}
        rest = [q - math.floor(q) for q in quota]
        given = [r for r, m in zip(rest, more, strict=True) if m]
        left = [r for r, m in zip(rest, more, strict=True) if not m]
        assert not given or not left or min(given) >= max(left)


def test_largest_remainder_of_an_election() -> None:
    """Wikipedia, Largest remainders method: 100,000 votes, 10 seats, Hare quota."""
    votes = np.array([47_000, 16_000, 15_800, 12_000, 6_100, 3_100])
    assert largest_remainder(votes, 10).tolist() == [5, 2, 1, 1, 1, 0]
