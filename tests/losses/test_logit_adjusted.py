"""Logit-adjusted cross-entropy against a loop over samples and classes."""

import math

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.balanced_softmax import BalancedSoftmax
from leanvit.losses.ce import CrossEntropy
from leanvit.losses.logit_adjusted import LogitAdjusted

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, tau: float, smoothing: float) -> Tensor:
    """Equation 10 of the paper."""
    priors = [n / sum(COUNTS.tolist()) for n in COUNTS.tolist()]
    powers, total = [prior**tau for prior in priors], torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        adjusted = [z + tau * math.log(prior) for z, prior in zip(row, priors, strict=True)]
        normaliser = sum(z.exp() for z in adjusted)
        for z, power, t in zip(adjusted, powers, target, strict=True):
            smooth = (1 - smoothing) * t + smoothing * power / sum(powers)
            total = total - smooth * (z.exp() / normaliser).log()
    return total / len(logits)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(tau: float, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = LogitAdjusted(COUNTS, tau, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, tau, smoothing)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_tau_zero_is_cross_entropy_and_one_balanced_softmax(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        for tau, other in ((0.0, CrossEntropy), (1.0, BalancedSoftmax)):
            torch.testing.assert_close(
                LogitAdjusted(COUNTS, tau, smoothing)(logits, targets),
                other(COUNTS, label_smoothing=smoothing)(logits, targets),
                rtol=1e-6,
                atol=0,
            )


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.5])
def test_smoothing_keeps_the_order_of_the_best_logits(tau: float) -> None:
    counts = torch.tensor([10_000, 100, 10])
    seen = torch.tensor([[0.9899, 0.01, 0.0001], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]]).double()
    best = {}
    for smoothing in (1e-9, 0.1):
        loss = LogitAdjusted(counts, tau, smoothing)
        smooth = seen * (1 - smoothing) + loss.spread * smoothing
        best[smoothing] = (smooth.log() - loss.adjustment).requires_grad_()
        loss(best[smoothing], seen).backward()
        assert best[smoothing].grad.abs().max() < 1e-6  # the minimum over all logits
    assert torch.equal(best[1e-9].argmax(1), best[0.1].argmax(1))
    assert best[0.1].argmax(1)[2] == 0  # a certain image keeps its class, however frequent


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = LogitAdjusted(torch.tensor([1000, 1]), 1.5, 0.1)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert LogitAdjusted.soft_targets and not LogitAdjusted(COUNTS).state_dict()


def test_refused() -> None:
    assert "loss.tau=-1.0" in refused(LogitAdjusted, COUNTS, -1.0)
    assert "loss.label_smoothing=1.0" in refused(LogitAdjusted, COUNTS, label_smoothing=1.0)
    assert "class 0 has no training images" in refused(LogitAdjusted, torch.tensor([0, 3, 4]))
