"""Cross-entropy against a loop over samples and classes."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, smoothing: float) -> float:
    total = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(z) for z in row))
        for z, t in zip(row, target, strict=True):
            total -= ((1 - smoothing) * t + smoothing / len(row)) * (z - normaliser)
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = CrossEntropy(COUNTS, label_smoothing=smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        logits.requires_grad_().grad = None
        value = loss(logits, targets)
        assert value.item() == pytest.approx(literal(logits.detach(), targets, smoothing))
        value.backward()
        # closed form: (p - t) / batch
        smooth = targets * (1 - smoothing) + smoothing / 4
        torch.testing.assert_close(logits.grad, (logits.detach().softmax(1) - smooth) / 7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert CrossEntropy.soft_targets and not CrossEntropy(COUNTS).state_dict()
