"""Vector scaling against a loop over samples and classes."""

import math

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.logit_adjusted import LogitAdjusted
from leanvit.losses.vs import VectorScaling

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, gamma: float, tau: float, smoothing: float) -> Tensor:
    """Equation 2 of the paper with omega 1."""
    counts = COUNTS.tolist()
    iota = [tau * math.log(n / sum(counts)) for n in counts]
    delta = [(n / max(counts)) ** gamma for n in counts]
    powers, total = [math.exp(i) for i in iota], torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        scaled = [d * z + i for d, z, i in zip(delta, row, iota, strict=True)]
        normaliser = sum(z.exp() for z in scaled)
        for z, power, t in zip(scaled, powers, target, strict=True):
            smooth = (1 - smoothing) * t + smoothing * power / sum(powers)
            total = total - smooth * (z.exp() / normaliser).log()
    return total / len(logits)


@pytest.mark.parametrize(("gamma", "tau"), [(0.0, 0.0), (0.15, 1.25), (0.5, 0.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(gamma: float, tau: float, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = VectorScaling(COUNTS, gamma, tau, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, gamma, tau, smoothing)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gamma_zero_is_logit_adjusted_and_both_zero_cross_entropy(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        torch.testing.assert_close(
            VectorScaling(COUNTS, 0.0, 1.25, smoothing)(logits, targets),
            LogitAdjusted(COUNTS, 1.25, smoothing)(logits, targets),
        )
        torch.testing.assert_close(
            VectorScaling(COUNTS, 0.0, 0.0, smoothing)(logits, targets),
            CrossEntropy(COUNTS, smoothing)(logits, targets),
            rtol=1e-6,
            atol=0,
        )


def test_rare_classes_need_larger_logits() -> None:
    loss = VectorScaling(COUNTS, gamma=0.25, tau=0.0)
    values = [loss(3 * one_hot(torch.tensor([c]), 4).double(), torch.tensor([c])) for c in range(4)]
    assert values[1] > values[0] > values[3] > values[2]  # as COUNTS, rarest first


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = VectorScaling(torch.tensor([1000, 1]), 0.3, 1.5, 0.1)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert VectorScaling.soft_targets and not VectorScaling(COUNTS).state_dict()


def test_refused() -> None:
    assert "loss.gamma=-0.1" in refused(VectorScaling, COUNTS, gamma=-0.1)
    assert "loss.tau=-1.0" in refused(VectorScaling, COUNTS, tau=-1.0)
    assert "loss.label_smoothing=-0.1" in refused(VectorScaling, COUNTS, label_smoothing=-0.1)
    assert "class 1 has no training images" in refused(VectorScaling, torch.tensor([3, 0, 4]))
