"""Cross-entropy by inverse frequency, against a loop and against torch's."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.weighted_ce import WeightedCrossEntropy

COUNTS = [5, 1, 100, 20]
WEIGHTS = [1 / count / (sum(1 / c for c in COUNTS) / 4) for count in COUNTS]


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: list[list[float]], targets: list[list[float]], smoothing: float) -> float:
    total = normaliser = 0.0
    for row, target in zip(logits, targets, strict=True):
        log_sum = math.log(sum(math.exp(z) for z in row))
        for weight, z, t in zip(WEIGHTS, row, target, strict=True):
            total -= weight * ((1 - smoothing) * t + smoothing / 4) * (z - log_sum)
            normaliser += weight * t
    return total / normaliser


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = WeightedCrossEntropy(torch.tensor(COUNTS), label_smoothing=smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        values = logits.clone().requires_grad_()
        value = loss(values, targets)
        assert value.item() == pytest.approx(
            literal(logits.tolist(), targets.tolist(), smoothing), rel=1e-6
        )
        value.backward()
        # gradient by central differences of the literal loop
        for i, k in ((0, 0), (1, 3), (6, 2)):
            sides = []
            for step in (1e-5, -1e-5):
                moved = logits.clone()
                moved[i, k] += step
                sides.append(literal(moved.tolist(), targets.tolist(), smoothing))
            slope = (sides[0] - sides[1]) / 2e-5
            assert values.grad[i, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_torch_with_the_same_weights(smoothing: float) -> None:
    logits, labels, _ = batch()
    loss = WeightedCrossEntropy(torch.tensor(COUNTS), label_smoothing=smoothing)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    expected = cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_counts_are_plain_cross_entropy(smoothing: float) -> None:
    logits, labels, soft = batch()
    counts = torch.full((4,), 30)
    weighted = WeightedCrossEntropy(counts, smoothing)
    plain = CrossEntropy(counts, smoothing)
    for targets in (labels, soft):
        torch.testing.assert_close(weighted(logits, targets), plain(logits, targets))


def test_weights() -> None:
    loss = WeightedCrossEntropy(torch.tensor(COUNTS))
    torch.testing.assert_close(loss.weight, torch.tensor(WEIGHTS))
    assert loss.weight.mean().item() == pytest.approx(1)
    assert not loss.state_dict()  # counts belong to the data, not to the checkpoint
    assert WeightedCrossEntropy.soft_targets
