"""Streams of random draws that never coincide."""

import pytest
import torch
from image_trees import refused

from leanvit.seeds import derive_seed

PUBLISHED = [2515624203271457519, 5903031401430591060, 6610226265227202916]


def test_same_arguments_same_seed() -> None:
    assert derive_seed(3, "augment", 7, 1) == derive_seed(3, "augment", 7, 1)


def test_a_seed_stays_what_it_was() -> None:
    """A resumed or repeated run draws as before, on every machine and in every version."""
    words = [derive_seed(0, "split"), derive_seed(1, "sampler", 2), derive_seed(1, "train", 2, 3)]
    assert words == PUBLISHED


def test_all_seeds_purposes_and_times_differ() -> None:
    purposes = ("sampler", "augment", "split", "train")
    seen = [
        derive_seed(seed, purpose, epoch, rank)
        for seed in (0, 1, 2, 2**31, 2**40)
        for purpose in purposes
        for epoch in range(50)
        for rank in range(4)
    ]
    assert len(set(seen)) == len(seen) == 5 * 4 * 50 * 4
    assert min(seen) >= 0 and max(seen) < 2**63
    for bit in range(63):  # no bit stands still
        assert abs(sum(value >> bit & 1 for value in seen) - 2000) < 4 * 31.7


def test_torch_takes_them() -> None:
    draws = {
        torch.rand((), generator=torch.Generator().manual_seed(derive_seed(0, "x", k))).item()
        for k in range(100)
    }
    assert len(draws) > 95


@pytest.mark.parametrize("seed", [-1, -5])
def test_negative_seeds_are_refused(seed: int) -> None:
    assert f"seed={seed}" in refused(derive_seed, seed, "split")
