"""Cross-entropy by inverse frequency, against a loop and against torch's."""

import math

import pytest
import torch
from image_trees import refused
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


@pytest.mark.parametrize(
    ("normalisation", "scale"),
    [("frequency", 1.0), ("sum", 1 / sum(sum(COUNTS) / count for count in COUNTS))],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_scaled_weights_are_divided_by_the_batch_as_torch_does_for_soft_targets(
    normalisation: str, scale: float, smoothing: float
) -> None:
    logits, labels, soft = batch()
    loss = WeightedCrossEntropy(torch.tensor(COUNTS), smoothing, normalisation)
    weight = torch.tensor([scale * sum(COUNTS) / count for count in COUNTS], dtype=torch.float64)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value = loss(ours, targets)
        expected = cross_entropy(theirs, targets, weight=weight, label_smoothing=smoothing)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


def test_over_all_images_a_normalisation_is_a_multiple_of_the_mean_over_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor(COUNTS)
    labels = torch.arange(4).repeat_interleave(counts)
    logits = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    each = cross_entropy(logits, labels, reduction="none")
    balanced = sum(each[labels == c].mean().item() for c in range(4)) / 4
    sum_of_inverses = sum(sum(COUNTS) / count for count in COUNTS)
    for normalisation, multiple in {"mean": 1, "frequency": 4, "sum": 4 / sum_of_inverses}.items():
        loss = WeightedCrossEntropy(counts, normalisation=normalisation)
        assert loss(logits, labels).item() == pytest.approx(multiple * balanced)


def test_any_scale_cancels_in_the_weighted_mean() -> None:
    logits, labels, soft = batch()
    loss = WeightedCrossEntropy(torch.tensor(COUNTS), 0.1)
    for targets in (labels, soft):
        before = loss(logits, targets)
        loss.weight *= 7
        torch.testing.assert_close(loss(logits, targets), before, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("imbalance", "best_class"), [(90, 0), (92, 9)])
def test_smoothing_draws_the_largest_class_to_the_smallest_beyond_91(
    imbalance: int, best_class: int
) -> None:
    counts = torch.tensor([imbalance] * 9 + [1])
    loss = WeightedCrossEntropy(counts, 0.1)
    smooth = one_hot(torch.tensor([0]), 10) * 0.9 + 0.01
    best = (smooth * loss.weight).log().requires_grad_()
    loss(best, torch.tensor([0])).backward()
    assert best.grad.abs().max() < 1e-4  # the minimum over all logits of a certain image
    assert best.argmax() == best_class


def test_refused() -> None:
    counts = torch.tensor(COUNTS)
    message = refused(WeightedCrossEntropy, counts, normalisation="max")
    assert "loss.normalisation=max" in message and "mean, frequency, sum" in message
    assert "loss.label_smoothing=1.0" in refused(WeightedCrossEntropy, counts, 1.0)
    message = refused(WeightedCrossEntropy, torch.tensor([3, 0, 4]))
    assert "class 1 has no training images" in message
