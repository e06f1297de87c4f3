"""Remix: images as mixup's, labels in favour of the rarer class."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.augment.mixup import MixUp
from leanvit.augment.remix import Remix

COUNTS = torch.tensor([100, 40, 30, 10, 0])  # 100/30 and 30/10 are at least 3, 100/40 is not
LABELS = torch.arange(4000) % 4
LABELS = LABELS[torch.randperm(4000, generator=torch.Generator().manual_seed(0))]


def images(number: int = 4000) -> Tensor:
    return torch.randn(number, 3, 1, 2, generator=torch.Generator().manual_seed(1))


def label_share(own: float, n_i: int, n_j: int, kappa: float, tau: float) -> float:
    """The paper's equation, literally."""
    if n_i / n_j >= kappa and own < tau:
        return 0.0
    if n_i / n_j <= 1 / kappa and 1 - own < tau:
        return 1.0
    return own


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (2.0, 0.8), (1.0, 0.3), (4.0, 1.0)])
def test_labels_equal_a_literal_loop(kappa: float, tau: float) -> None:
    mix = Remix(5, COUNTS, kappa=kappa, tau=tau)
    pictures, labels = images(301), LABELS[:301]  # odd: one image is its own partner
    torch.manual_seed(3)
    mixed, targets = mix(pictures, labels)
    torch.manual_seed(3)
    torch.rand(())
    half = torch.full((301,), 0.8)
    shares = torch.distributions.Beta(half, half).sample().tolist()
    seen = set()
    for i, own in enumerate(shares):
        j = 300 - i
        expected_image = own * pictures[i] + (1 - own) * pictures[j]
        torch.testing.assert_close(mixed[i], expected_image)
        n_i, n_j = int(COUNTS[labels[i]]), int(COUNTS[labels[j]])
        share = label_share(own, n_i, n_j, kappa, tau)
        seen.add(share if share in (0.0, 1.0) else "lambda")
        expected = torch.zeros(5)
        expected[labels[i]] += share
        expected[labels[j]] += 1 - share
        torch.testing.assert_close(targets[i], expected)
    assert seen == {0.0, 1.0, "lambda"}
    torch.testing.assert_close(targets.sum(1), torch.ones(301))


def test_without_large_differences_it_is_mixup_draw_for_draw() -> None:
    even = torch.full((4,), 7)
    for counts, options in (
        (even, {}),
        (COUNTS[:4], {"kappa": math.inf}),
        (COUNTS[:4], {"kappa": 10.1}),
        (COUNTS[:4], {"tau": 0.0}),
    ):
        torch.manual_seed(5)
        mixed, targets = Remix(4, counts, **options)(images(), LABELS)
        torch.manual_seed(5)
        twin, twin_targets = MixUp(4)(images(), LABELS)
        assert torch.equal(mixed, twin) and torch.equal(targets, twin_targets)


def test_images_are_mixups_whatever_the_counts() -> None:
    torch.manual_seed(5)
    mixed, targets = Remix(5, COUNTS)(images(), LABELS)
    torch.manual_seed(5)
    twin, twin_targets = MixUp(5)(images(), LABELS)
    assert torch.equal(mixed, twin) and not torch.equal(targets, twin_targets)


def test_the_rarest_class_gains_the_mass_that_the_formula_gives_it() -> None:
    # alpha 1: lambda uniform. Of a pair a minority class gains what the majority had while below
    # tau = 1/2: the integral of lambda from 0 to 1/2, 1/8, as image and again as partner
    torch.manual_seed(0)
    labels = torch.cat([torch.zeros(20_000), torch.ones(20_000)]).long()  # partners differ
    _, targets = Remix(2, torch.tensor([30, 10]), alpha=1.0)(torch.zeros(40_000, 3, 1, 1), labels)
    gained = targets.double().mean(0)[1] - 0.5
    assert abs(gained - 1 / 8) < 4 * 0.3 / math.sqrt(40_000)
    own = targets[:20_000, 0]  # of the majority's images: never between 0 and 1/2
    assert ((own == 0) | (own >= 0.5)).all() and 0.45 < (own == 0).double().mean() < 0.55
