"""What holds for every loss of conf/, and each one's value and gradient against a literal loop."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from image_trees import refused
from parts import batch, build, check_refused, choices, default, taker_of
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError
from leanvit.losses.balanced_bce import BalancedBCE
from leanvit.losses.balanced_softmax import BalancedSoftmax
from leanvit.losses.ce import CrossEntropy
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.losses.focal import Focal
from leanvit.losses.label_aware_smoothing import LabelAwareSmoothing
from leanvit.losses.ldam import LDAM
from leanvit.losses.logit_adjusted import LogitAdjusted
from leanvit.losses.ohem import OHEM
from leanvit.losses.poly import PolyLoss
from leanvit.losses.vs import VectorScaling
from leanvit.losses.weighted_ce import WeightedCrossEntropy

COUNTS = torch.tensor([5, 1, 100, 20])
N = [float(n) for n in COUNTS]


@pytest.mark.parametrize("name", choices("loss"))
class TestEvery:
    def test_indices_are_one_hot_targets_and_nothing_is_kept(self, name: str) -> None:
        loss, (logits, labels, _) = default("loss", name, COUNTS), batch()
        if taker_of("loss", name).soft_targets:
            hard = one_hot(labels, 4).double()
            torch.testing.assert_close(loss(logits, labels), loss(logits, hard))
        assert not loss.state_dict()  # counts belong to the data, not to the checkpoint

    def test_certain_images_give_finite_gradients(self, name: str) -> None:
        logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
        loss = default("loss", name, torch.tensor([1000, 1]))(logits, torch.tensor([0, 0]))
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()

    @pytest.mark.parametrize(("counts", "empty"), [([0, 3, 4], 0), ([3, 0, 4], 1), ([3, 4, 0], 2)])
    def test_a_class_without_images_is_refused_or_does_not_disturb(
        self, name: str, counts: list[int], empty: int
    ) -> None:
        try:
            loss = default("loss", name, torch.tensor(counts))
        except LeanvitError as error:
            assert str(error).startswith(f"class {empty} has no training images")
        else:
            assert loss(torch.zeros(3, 3), torch.arange(3)).isfinite()


WRONG = {
    "balanced_bce": {"label_smoothing": [-0.1, 1.0]},
    "balanced_softmax": {"label_smoothing": [-0.1, 1.0]},
    "ce": {"label_smoothing": [-0.1, 1.1]},
    "class_balanced": {"beta": [1.0, -0.1, math.nan], "gamma": [-1.0], "label_smoothing": [1.0]},
    "focal": {"gamma": [-1.0, math.inf], "alpha": [[1.0, -1.0], 3.0], "label_smoothing": [1.0]},
    "label_aware_smoothing": {"smooth_head": [-0.1, 1.0], "smooth_tail": [-0.1, 1.0]},
    "ldam": {"max_margin": [-0.5], "scale": [0.0, -1.0], "beta": [1.0], "label_smoothing": [1.0]},
    "logit_adjusted": {"tau": [-1.0], "label_smoothing": [1.0]},
    "ohem": {"ratio": [0.0, -0.5, 1.1], "label_smoothing": [-0.1]},
    "poly": {"epsilon": [-1.5, math.nan], "label_smoothing": [1.0]},
    "vs": {"gamma": [-0.1], "tau": [-1.0], "label_smoothing": [-0.1]},
    "weighted_ce": {"normalisation": ["max"], "label_smoothing": [1.0]},
}


@pytest.mark.parametrize("name", choices("loss"))
def test_values_outside_their_range(name: str) -> None:
    check_refused("loss", name, WRONG.get(name, {}))


def test_focal_wants_a_weight_for_each_class() -> None:
    message = refused(Focal, COUNTS, alpha=[1.0, 2.0])
    assert "loss.alpha" in message and "2" in message and "4 classes" in message


def softmax(row: Tensor) -> Tensor:
    return row.exp() / row.exp().sum()


def evenly(target: Tensor, smoothing: float) -> list[Tensor]:
    return [(1 - smoothing) * t + smoothing / 4 for t in target]


# each of them: logits and shares of one image, options -> its loss


def cross_entropy(row: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    smooth = evenly(target, label_smoothing)
    return -sum(t * p.log() for t, p in zip(smooth, softmax(row), strict=True))


def balanced_bce(row: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The official code's bias, log pi - log(1 - pi), and the sum over the classes."""
    total = torch.zeros((), dtype=torch.float64)
    for n, z, t in zip(N, row, target, strict=True):
        pi = n / sum(N)
        share = (1 - label_smoothing) * t + label_smoothing * pi
        p = 1 / (1 + (-(z + math.log(pi) - math.log(1 - pi))).exp())
        total = total - share * p.log() - (1 - share) * (1 - p).log()
    return total


def balanced_softmax(row: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Equation 4 of the paper: p_c = n_c exp(z_c) / sum_k n_k exp(z_k)."""
    normaliser = sum(n * z.exp() for n, z in zip(N, row, strict=True))
    smooth = [(1 - label_smoothing) * t + label_smoothing * n / sum(N)
              for t, n in zip(target, N, strict=True)]  # fmt: skip
    each = [(n * z.exp() / normaliser).log() for n, z in zip(N, row, strict=True)]
    return -sum(t * log_p for t, log_p in zip(smooth, each, strict=True))


def class_balanced(
    row: Tensor, target: Tensor, beta: float, gamma: float, label_smoothing: float
) -> Tensor:
    """Equation 10 of the paper, each label's loss weighted by its share of the target."""
    weights = [(1 - beta) / (1 - beta**n) for n in N]
    p, total = softmax(row), 0
    for label in range(4):
        for k in range(4):
            share = (1 - label_smoothing) * (k == label) + label_smoothing / 4
            loss = -share * (1 - p[k]) ** gamma * p[k].log()
            total = total + target[label] * 4 * weights[label] / sum(weights) * loss
    return total


def focal(
    row: Tensor,
    target: Tensor,
    gamma: float,
    alpha: list[float] | None,
    label_smoothing: float = 0.0,
) -> Tensor:
    smooth = evenly(target, label_smoothing)
    each = zip(alpha or [1.0] * 4, smooth, softmax(row), strict=True)
    return -sum(t * a * (1 - p) ** gamma * p.log() for a, t, p in each)


def label_aware_smoothing(
    row: Tensor, target: Tensor, smooth_head: float, smooth_tail: float
) -> Tensor:
    """The official code's concave form; two labels that are mixed weigh their losses, as there."""
    quarter = [math.pi / 2 * (n - min(N)) / (max(N) - min(N)) for n in N]
    smoothing = [smooth_tail + (smooth_head - smooth_tail) * math.sin(q) for q in quarter]
    log_p = softmax(row).log()
    total = torch.zeros((), dtype=torch.float64)
    for label in range(4):
        loss = -(1 - smoothing[label]) * log_p[label] - smoothing[label] * log_p.mean()
        total = total + target[label] * loss
    return total


def ldam(row: Tensor, target: Tensor, max_margin: float, scale: float) -> Tensor:
    """Equation 13 of the paper, the logits scaled as in its code."""
    margins = [max_margin * (min(N) / n) ** 0.25 for n in N]
    lowered = [scale * (z - t * m) for z, t, m in zip(row, target, margins, strict=True)]
    return cross_entropy(torch.stack(lowered), target)


def vs(
    row: Tensor, target: Tensor, gamma: float, tau: float, label_smoothing: float = 0.0
) -> Tensor:
    """Equation 2 of the paper with omega 1."""
    iota = [tau * math.log(n / sum(N)) for n in N]
    scaled = [(n / max(N)) ** gamma * z + i for n, z, i in zip(N, row, iota, strict=True)]
    spread = [math.exp(i) / sum(map(math.exp, iota)) for i in iota]
    smooth = [(1 - label_smoothing) * t + label_smoothing * s
              for t, s in zip(target, spread, strict=True)]  # fmt: skip
    return cross_entropy(torch.stack(scaled), torch.stack(smooth))


def logit_adjusted(row: Tensor, target: Tensor, tau: float, label_smoothing: float) -> Tensor:
    """Equation 10 of the paper: no scaling."""
    return vs(row, target, 0.0, tau, label_smoothing)


def poly(row: Tensor, target: Tensor, epsilon: float, label_smoothing: float) -> Tensor:
    """The paper's example code: 1 - p_t is the targets' product with 1 - p."""
    smooth = evenly(target, label_smoothing)
    one_minus_pt = sum(t * (1 - p) for t, p in zip(smooth, softmax(row), strict=True))
    return cross_entropy(row, target, label_smoothing) + epsilon * one_minus_pt


def mean_of(each: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def mean(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        rows = zip(logits, targets, strict=True)
        return torch.stack([each(row, target, **options) for row, target in rows]).mean()

    return mean


def ohem(logits: Tensor, targets: Tensor, ratio: float, label_smoothing: float) -> Tensor:
    rows = zip(logits, targets, strict=True)
    each = sorted((cross_entropy(*row, label_smoothing) for row in rows), key=lambda loss: -loss)
    return torch.stack(each[: {0.01: 1, 0.3: 3, 0.7: 7, 1.0: 10}[ratio]]).mean()


def weighted_ce(
    logits: Tensor, targets: Tensor, label_smoothing: float, normalisation: str = "mean"
) -> Tensor:
    """As torch's: by the weights of the targets, or by the batch, where the scale counts."""
    inverse = [sum(N) / n for n in N]
    scale = {"mean": 1 / (sum(inverse) / 4), "frequency": 1.0, "sum": 1 / sum(inverse)}
    weights = torch.tensor(inverse, dtype=torch.float64) * scale[normalisation]
    smooth = torch.stack([torch.stack(evenly(target, label_smoothing)) for target in targets])
    total = -(weights * smooth * logits.log_softmax(1)).sum()
    return total / ((weights * targets).sum() if normalisation == "mean" else len(logits))


LITERAL: list[tuple[type, Callable[..., Tensor], dict[str, Any]]] = [
    *((CrossEntropy, mean_of(cross_entropy), {"label_smoothing": s}) for s in (0.0, 0.1)),
    *((BalancedBCE, mean_of(balanced_bce), {"label_smoothing": s}) for s in (0.0, 0.1)),
    *((BalancedSoftmax, mean_of(balanced_softmax), {"label_smoothing": s}) for s in (0.0, 0.1)),
    *((ClassBalanced, mean_of(class_balanced), {"beta": b, "gamma": g, "label_smoothing": s})
      for b in (0.0, 0.9, 0.9999) for g, s in ((0.0, 0.0), (0.0, 0.1), (0.5, 0.0), (2.0, 0.1))),
    *((Focal, mean_of(focal), {"gamma": g, "alpha": a, "label_smoothing": s})
      for g, s in ((0.0, 0.0), (0.5, 0.0), (2.0, 0.0), (2.0, 0.1))
      for a in (None, [0.5, 2.0, 0.25, 1.0])),
    *((LabelAwareSmoothing, mean_of(label_aware_smoothing), {"smooth_head": h, "smooth_tail": t})
      for h, t in ((0.0, 0.0), (0.3, 0.0), (0.4, 0.1), (0.0, 0.2))),
    *((LDAM, mean_of(ldam), {"max_margin": m, "scale": s})
      for m, s in ((0.5, 1.0), (0.5, 30.0), (2.0, 3.0))),
    *((LogitAdjusted, mean_of(logit_adjusted), {"tau": t, "label_smoothing": s})
      for t in (0.0, 0.5, 1.0, 2.0) for s in (0.0, 0.1)),
    *((OHEM, ohem, {"ratio": r, "label_smoothing": s})
      for r in (0.01, 0.3, 0.7, 1.0) for s in (0.0, 0.1)),
    *((PolyLoss, mean_of(poly), {"epsilon": e, "label_smoothing": s})
      for e in (-1.0, 0.0, 2.0) for s in (0.0, 0.1)),
    *((VectorScaling, mean_of(vs), {"gamma": g, "tau": t, "label_smoothing": s})
      for g, t in ((0.0, 0.0), (0.15, 1.25), (0.5, 0.0)) for s in (0.0, 0.1)),
    *((WeightedCrossEntropy, weighted_ce, {"label_smoothing": s, "normalisation": n})
      for n in ("mean", "frequency", "sum") for s in (0.0, 0.1)),
]  # fmt: skip


@pytest.mark.parametrize(("taker", "literal", "options"), LITERAL)
def test_value_and_gradient(
    taker: type, literal: Callable[..., Tensor], options: dict[str, Any]
) -> None:
    assert taker.soft_targets
    logits, labels, soft = batch()
    loss = build(taker, COUNTS, **options)
    # counts are float32
    exact = {} if not list(loss.buffers()) else {"rtol": 1e-5, "atol": 1e-6}
    hard = one_hot(labels, 4).double()
    torch.testing.assert_close(loss(logits, labels), loss(logits, hard))
    for targets in (hard, soft):
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets), literal(theirs, targets, **options)
        torch.testing.assert_close(value, expected, **({"rtol": 1e-6, "atol": 0} if exact else {}))
        value.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, **exact)
