"""The two views of GLMC image by image, and their consistency against SimSiam's formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from leanvit.augment.glmc import GLMC, Consistency

LABELS = torch.arange(8) % 3
IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def views(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    images, targets = GLMC(3)(IMAGES, LABELS)
    return (*images.chunk(2), *targets.chunk(2))


def test_an_image_has_one_partner_in_a_global_and_a_local_mixture() -> None:
    mixed, pasted, mixed_targets, pasted_targets = views()
    for index, (own, partner) in enumerate(zip(IMAGES, IMAGES.flip(0), strict=True)):
        labels = int(LABELS[index]), int(LABELS[7 - index])
        share = ((mixed[index] - partner) / (own - partner)).mean()
        torch.testing.assert_close(mixed[index], share * own + (1 - share) * partner)
        is_own, is_partner = pasted[index] == own, pasted[index] == partner
        assert (is_own ^ is_partner).all()
        for part, targets in ((share, mixed_targets), (is_own.float().mean(), pasted_targets)):
            expected = torch.zeros(3)
            expected[labels[0]] += part
            expected[labels[1]] += 1 - part
            torch.testing.assert_close(targets[index], expected, atol=1e-5, rtol=0)


def cosine(one: list[float], other: list[float]) -> float:
    lengths = [math.sqrt(sum(value**2 for value in each)) for each in (one, other)]
    return sum(a * b for a, b in zip(one, other, strict=True)) / (lengths[0] * lengths[1])


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_consistency_is_the_mean_negative_cosine_of_each_view_with_the_other(weight: float) -> None:
    torch.manual_seed(0)
    beside = Consistency(5, 8, weight)
    features = torch.randn(12, 5)
    total = 0.0
    sides = features[:6], features[6:]
    for ours, theirs in (sides, sides[::-1]):
        guesses = beside.predictor(beside.projector(ours)).tolist()
        for guess, goal in zip(guesses, beside.projector(theirs).tolist(), strict=True):
            total -= cosine(guess, goal) / 12
    assert beside(features).item() == pytest.approx(weight * total, abs=1e-5)


def test_views_that_say_the_same_are_worth_the_weight() -> None:
    beside = Consistency(4, 4, 3.0)
    beside.projector = beside.predictor = nn.Identity()
    features = torch.randn(6, 4)
    assert beside(torch.cat([features, features])).item() == pytest.approx(-3.0)
    assert beside(torch.cat([features, -features])).item() == pytest.approx(3.0)


def test_a_view_that_is_agreed_with_gets_no_gradient() -> None:
    torch.manual_seed(0)
    beside = Consistency(5, 8, 1.0)
    projected: list[Tensor] = []
    beside.projector.register_forward_hook(lambda *given: projected.append(given[2]))
    features = torch.randn(12, 5, requires_grad=True)
    beside(features).backward()
    found = [features.grad, *(each.grad for each in beside.parameters())]
    assert all(each is not None and each.any() for each in found)  # several processes wait for all
    ours = [beside.projector(view) for view in features.chunk(2)]
    goals = [each.detach() for each in projected[:2]]
    loss = -sum(nn.functional.cosine_similarity(beside.predictor(mine), goal).mean()
                for mine, goal in zip(ours, goals[::-1], strict=True)) / 2  # fmt: skip
    expected = torch.autograd.grad(loss, [features, *beside.parameters()])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
