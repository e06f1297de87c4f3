"""Online hard example mining against a loop over sorted losses."""

import math

import pytest
import torch
from image_trees import refused
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.losses.ce import CrossEntropy
from leanvit.losses.ohem import OHEM

COUNTS = torch.tensor([5, 1, 100, 20])


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(10, 4, generator=generator, dtype=torch.float64)
    soft = torch.rand(10, 4, generator=generator, dtype=torch.float64)
    return logits, torch.arange(10) % 4, soft / soft.sum(1, keepdim=True)


def losses(logits: Tensor, targets: Tensor, smoothing: float) -> list[float]:
    each = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(z) for z in row))
        smooth = [(1 - smoothing) * t + smoothing / 4 for t in target]
        each.append(sum(t * (log_sum - z) for t, z in zip(smooth, row, strict=True)))
    return each


@pytest.mark.parametrize(("ratio", "kept"), [(0.01, 1), (0.3, 3), (0.7, 7), (1.0, 10)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_value_and_gradient(ratio: float, kept: int, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = OHEM(COUNTS, ratio, smoothing)
    hard = one_hot(labels, 4).double()
    for targets in (hard, soft):
        each = losses(logits, targets, smoothing)
        hardest = sorted(range(10), key=lambda i: -each[i])[:kept]
        values = logits.clone().requires_grad_()
        value = loss(values, targets)
        assert value.item() == pytest.approx(sum(each[i] for i in hardest) / kept)
        value.backward()
        # closed form: (p - t) / kept for the hardest, nothing for the others
        smooth = targets * (1 - smoothing) + smoothing / 4
        expected = torch.zeros_like(logits)
        expected[hardest] = (logits.softmax(1) - smooth)[hardest] / kept
        torch.testing.assert_close(values.grad, expected)
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ratio_one_is_cross_entropy(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        torch.testing.assert_close(
            OHEM(COUNTS, 1.0, smoothing)(logits, targets),
            CrossEntropy(COUNTS, smoothing)(logits, targets),
        )


def test_the_share_of_the_batch_is_rounded_to_whole_images() -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    OHEM(COUNTS, 0.1)(logits, torch.arange(30) % 4).backward()  # 0.1 * 30 is 3.0000000000000004
    assert (logits.grad != 0).any(1).sum() == 3


def test_certain_images_give_finite_gradients() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = OHEM(torch.tensor([1, 1]), 0.5)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(400)  # the second alone
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))


def test_it_takes_soft_targets_and_keeps_no_state() -> None:
    assert OHEM.soft_targets and not OHEM(COUNTS).state_dict()


def test_refused() -> None:
    for ratio in (0.0, -0.5, 1.1):
        assert f"loss.ratio={ratio}" in refused(OHEM, COUNTS, ratio)
    assert "loss.label_smoothing=-0.1" in refused(OHEM, COUNTS, label_smoothing=-0.1)
