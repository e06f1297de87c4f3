"""Balanced softmax against a loop over samples and classes."""

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.balanced_softmax import BalancedSoftmax
from leanvit.losses.ce import CrossEntropy

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Equation 4 of the paper: p_c = n_c exp(z_c) / sum_k n_k exp(z_k)."""
    counts, total = COUNTS.tolist(), torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        normaliser = sum(n * z.exp() for n, z in zip(counts, row, strict=True))
        for n, z, t in zip(counts, row, target, strict=True):
            smooth = (1 - smoothing) * t + smoothing * n / sum(counts)
            total = total - smooth * (n * z.exp() / normaliser).log()
    return total / len(logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = BalancedSoftmax(COUNTS, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, smoothing)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_counts_are_cross_entropy(smoothing: float) -> None:
    logits, labels, soft = batch()
    counts = torch.full((4,), 30)
    for targets in (labels, soft):
        torch.testing.assert_close(
            BalancedSoftmax(counts, smoothing)(logits, targets),
            CrossEntropy(counts, smoothing)(logits, targets),
            rtol=1e-6,
            atol=0,
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_best_logits_order_classes_as_balanced_accuracy_asks(smoothing: float) -> None:
    counts = torch.tensor([10_000, 100, 10])
    seen = torch.tensor([[0.9899, 0.01, 0.0001], [1.0, 0.0, 0.0]]).double()  # p(class | image)
    priors = counts / counts.sum()
    # the minimum over all logits: adjusted, they are the logarithms of the smoothed targets
    smooth = seen * (1 - smoothing) + priors * smoothing
    best = (smooth.clamp(min=1e-12).log() - counts.log()).requires_grad_()
    BalancedSoftmax(counts, smoothing)(best, seen).backward()
    assert best.grad.abs().max() < 1e-6
    # p(class | image) / prior: 0.99, 1.01 and 0.1 in the first row; the second image is certain
    assert best.argmax(1).tolist() == [1, 0]


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = BalancedSoftmax(torch.tensor([1000, 1]), 0.1)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert BalancedSoftmax.soft_targets and not BalancedSoftmax(COUNTS).state_dict()


def test_refused() -> None:
    assert "loss.label_smoothing=-0.1" in refused(BalancedSoftmax, COUNTS, -0.1)
    assert "class 2 has no training images" in refused(BalancedSoftmax, torch.tensor([3, 4, 0]))
