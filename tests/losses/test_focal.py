"""Focal loss against a loop over samples and classes."""

import math

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from leanvit.losses.focal import Focal

COUNTS = torch.tensor([5, 1, 100, 20])
ALPHA = [0.5, 2.0, 0.25, 1.0]


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(
    logits: list[list[float]], targets: list[list[float]], gamma: float, alpha: list[float]
) -> float:
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        normaliser = sum(math.exp(z) for z in row)
        for a, z, t in zip(alpha, row, target, strict=True):
            p = math.exp(z) / normaliser
            total -= t * a * (1 - p) ** gamma * math.log(p)
    return total / len(logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, ALPHA])
def test_value_and_gradient(gamma: float, alpha: list[float] | None) -> None:
    logits, labels, soft = batch()
    loss = Focal(COUNTS, gamma, alpha)
    weights = alpha or [1.0] * 4
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        values = logits.clone().requires_grad_()
        value = loss(values, targets)
        expected = literal(logits.tolist(), targets.tolist(), gamma, weights)
        assert value.item() == pytest.approx(expected)
        value.backward()
        # gradient by central differences of the literal loop
        for i, k in ((0, 0), (1, 3), (4, 3), (6, 2)):
            sides = []
            for step in (1e-5, -1e-5):
                moved = logits.clone()
                moved[i, k] += step
                sides.append(literal(moved.tolist(), targets.tolist(), gamma, weights))
            slope = (sides[0] - sides[1]) / 2e-5
            assert values.grad[i, k].item() == pytest.approx(slope, rel=1e-4, abs=1e-8)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


def test_gamma_zero_is_cross_entropy() -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        torch.testing.assert_close(
            Focal(COUNTS, 0.0)(logits, targets), cross_entropy(logits, targets)
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_certain_images_give_finite_gradients(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = Focal(torch.tensor([1, 1]), gamma)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(200)  # the second is wrong by 400, the first right
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(logits.grad[1], torch.tensor([-0.5, 0.5]))


def test_refused() -> None:
    message = refused(Focal, COUNTS, gamma=-1.0)
    assert "loss.gamma=-1.0" in message
    message = refused(Focal, COUNTS, alpha=[1.0, 2.0])
    assert "loss.alpha" in message and "2" in message and "4 classes" in message
