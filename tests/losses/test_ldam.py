"""Label-distribution-aware margins against a loop over samples and classes."""

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.losses.ldam import LDAM

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(7, 4, generator=generator, dtype=torch.float64)
    return logits, torch.tensor([0, 1, 2, 3, 3, 0, 2]), soft / soft.sum(1, keepdim=True)


def margins_of(max_margin: float) -> list[float]:
    raw = [1 / n**0.25 for n in COUNTS.tolist()]
    return [max_margin * each / max(raw) for each in raw]


def literal(logits: Tensor, labels: Tensor, max_margin: float, scale: float) -> Tensor:
    """Equation 13 of the paper, the logits scaled as in its code."""
    margins, total = margins_of(max_margin), torch.zeros((), dtype=torch.float64)
    for row, label in zip(logits, labels.tolist(), strict=True):
        own = (scale * (row[label] - margins[label])).exp()
        others = sum((scale * row[k]).exp() for k in range(4) if k != label)
        total = total - (own / (own + others)).log()
    return total / len(logits)


def literal_soft(logits: Tensor, targets: Tensor, max_margin: float, scale: float) -> Tensor:
    margins, total = margins_of(max_margin), torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits, targets, strict=True):
        lowered = [z - t * m for z, t, m in zip(row, target, margins, strict=True)]
        normaliser = sum((scale * z).exp() for z in lowered)
        for z, t in zip(lowered, target, strict=True):
            total = total - t * ((scale * z).exp() / normaliser).log()
    return total / len(logits)


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 1.0), (0.5, 30.0), (2.0, 3.0)])
def test_value_and_gradient(max_margin: float, scale: float) -> None:
    logits, labels, soft = batch()
    loss = LDAM(COUNTS, max_margin, scale)
    for targets, slow in ((labels, literal), (soft, literal_soft)):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), slow(theirs, targets, max_margin, scale)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss(logits, labels), loss(logits, one_hot(labels, 4).double()))


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_margin_is_cross_entropy_of_the_scaled_logits(scale: float, smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        torch.testing.assert_close(
            LDAM(COUNTS, 0.0, scale, smoothing)(logits, targets),
            CrossEntropy(COUNTS, smoothing)(scale * logits, targets),
        )


def test_margins() -> None:
    loss = LDAM(COUNTS, max_margin=0.5)
    torch.testing.assert_close(loss.margins, torch.tensor(margins_of(0.5)))
    assert loss.margins.max() == 0.5
    equal = LDAM(torch.full((3,), 30), max_margin=0.5)
    assert torch.equal(equal.margins, torch.full((3,), 0.5))
    assert LDAM.soft_targets and not loss.state_dict()


def test_label_smoothing_leaves_the_margin_to_the_label() -> None:
    logits, labels, _ = batch()
    lowered = logits - one_hot(labels, 4) * torch.tensor(margins_of(0.5), dtype=torch.float64)
    torch.testing.assert_close(
        LDAM(COUNTS, 0.5, 1.0, 0.1)(logits, labels),
        CrossEntropy(COUNTS, 0.1)(lowered, labels),
        rtol=1e-6,
        atol=0,
    )


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = LDAM(torch.tensor([1000, 1]), 0.5, 30.0)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.isfinite()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-15.0, 15.0]]))


def test_refused() -> None:
    assert "loss.max_margin=-0.5" in refused(LDAM, COUNTS, -0.5)
    for scale in (0.0, -1.0):
        assert f"loss.scale={scale}" in refused(LDAM, COUNTS, scale=scale)
    assert "loss.label_smoothing=1.0" in refused(LDAM, COUNTS, label_smoothing=1.0)
    assert "class 1 has no training images" in refused(LDAM, torch.tensor([3, 0, 4]))


def test_re_weighting_counts_each_image_by_the_effective_number_of_its_class() -> None:
    logits, labels, _ = batch()
    beta = 0.99
    inverse = [(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()]
    weights = [len(inverse) * each / sum(inverse) for each in inverse]
    loss = LDAM(COUNTS, 0.5, 3.0, beta=beta)
    expected = sum(
        weights[label] * literal(logits[i : i + 1], labels[i : i + 1], 0.5, 3.0)
        for i, label in enumerate(labels.tolist())
    )
    torch.testing.assert_close(loss(logits, labels), expected / len(logits), rtol=1e-5, atol=0)


def test_margin_0_with_re_weighting_is_the_class_balanced_loss() -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        value = LDAM(COUNTS, max_margin=0.0, beta=0.99)(logits, targets)
        expected = ClassBalanced(COUNTS, beta=0.99)(logits, targets)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
