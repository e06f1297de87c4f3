"""Class-balanced loss against a loop over images, labels and classes."""

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.losses.focal import Focal

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def literal(logits: Tensor, targets: Tensor, beta: float, gamma: float, smoothing: float) -> Tensor:
    """Equation 10 of the paper, each label's loss weighted by its share of the target."""
    weights = [(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()]
    weights = [4 * weight / sum(weights) for weight in weights]
    total = torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        p = row.exp() / row.exp().sum()
        for label in range(4):
            for k in range(4):
                share = (1 - smoothing) * (k == label) + smoothing / 4
                loss = -share * (1 - p[k]) ** gamma * p[k].log()
                total = total + target[label] * weights[label] * loss
    return total / len(logits)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
@pytest.mark.parametrize(("gamma", "smoothing"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.0), (2.0, 0.1)])
def test_value_and_gradient(beta: float, gamma: float, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = ClassBalanced(COUNTS, beta, gamma, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, beta, gamma, smoothing)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_beta_zero_is_cross_entropy_or_focal(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        plain = ClassBalanced(COUNTS, 0.0, label_smoothing=smoothing)(logits, targets)
        torch.testing.assert_close(plain, CrossEntropy(COUNTS, smoothing)(logits, targets))
        focal = ClassBalanced(COUNTS, 0.0, gamma=2.0)(logits, targets)
        torch.testing.assert_close(focal, Focal(COUNTS, 2.0)(logits, targets))


@pytest.mark.parametrize("beta", [1 - 1e-9, 1 - 1e-16])
def test_beta_towards_one_is_inverse_frequency(beta: float) -> None:
    inverse = 1 / COUNTS
    torch.testing.assert_close(
        ClassBalanced(COUNTS, beta).weight, inverse / inverse.mean(), rtol=1e-6, atol=0
    )


def test_weights_have_mean_one_and_stay_out_of_the_checkpoint() -> None:
    loss = ClassBalanced(torch.tensor([5000, 500, 50]), 0.999)
    assert loss.weight.mean().item() == pytest.approx(1)
    assert loss.weight[1] / loss.weight[0] == pytest.approx((1 - 0.999**5000) / (1 - 0.999**500))
    assert ClassBalanced.soft_targets and not loss.state_dict()


def test_smoothing_is_as_even_as_that_of_cross_entropy() -> None:
    loss = ClassBalanced(torch.tensor([10_000, 1]), 0.9999, label_smoothing=0.1)
    best = torch.tensor([[0.95, 0.05]]).log().requires_grad_()
    loss(best, torch.tensor([0])).backward()
    assert best.grad.abs().max() < 1e-6  # the minimum over all logits, whatever the weights


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_images_give_finite_gradients(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = ClassBalanced(torch.tensor([9, 1]), 0.99, gamma, 0.1)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_refused() -> None:
    for beta in (1.0, -0.1, 1.5):
        assert f"loss.beta={beta}" in refused(ClassBalanced, COUNTS, beta)
    assert "loss.gamma=-1.0" in refused(ClassBalanced, COUNTS, gamma=-1.0)
    assert "loss.label_smoothing=1.0" in refused(ClassBalanced, COUNTS, label_smoothing=1.0)
    assert "class 1 has no training images" in refused(ClassBalanced, torch.tensor([3, 0, 4]))
