"""Poly-1 against a loop over samples and classes."""

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.poly import PolyLoss

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, epsilon: float, smoothing: float) -> Tensor:
    """The paper's example code: 1 - p_t is the targets' product with 1 - p."""
    total = torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        p = row.exp() / row.exp().sum()
        smooth = [(1 - smoothing) * t + smoothing / 4 for t in target]
        one_minus_pt = sum(t * (1 - p[k]) for k, t in enumerate(smooth))
        cross_entropy = -sum(t * p[k].log() for k, t in enumerate(smooth))
        total = total + cross_entropy + epsilon * one_minus_pt
    return total / len(logits)


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(epsilon: float, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = PolyLoss(COUNTS, epsilon, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, epsilon, smoothing)
        torch.testing.assert_close(value, expected)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_epsilon_zero_is_cross_entropy(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        torch.testing.assert_close(
            PolyLoss(COUNTS, 0.0, smoothing)(logits, targets),
            CrossEntropy(COUNTS, smoothing)(logits, targets),
        )


def test_the_series_with_another_first_coefficient() -> None:
    p = torch.tensor([0.7, 0.3], dtype=torch.float64)
    series = sum(0.3**j / j for j in range(2, 60)) + (1 + 2.0) * 0.3
    value = PolyLoss(COUNTS, 2.0)(p.log()[None], torch.tensor([0]))
    assert value.item() == pytest.approx(series)


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = PolyLoss(torch.tensor([1, 1]), 2.0)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(201)  # (400 + 2) / 2
    torch.testing.assert_close(logits.grad[1], torch.tensor([-0.5, 0.5]))


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert PolyLoss.soft_targets and not PolyLoss(COUNTS).state_dict()


def test_refused() -> None:
    assert "loss.epsilon=-1.5" in refused(PolyLoss, COUNTS, -1.5)
    assert "loss.label_smoothing=1.0" in refused(PolyLoss, COUNTS, label_smoothing=1.0)
