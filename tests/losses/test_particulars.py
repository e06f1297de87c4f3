"""What single losses promise: which one is another's limit, what the best logits are, margins."""

import math
from typing import Any

import pytest
import torch
from parts import batch, build
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

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
EVEN = torch.full((4,), 30)
SKEWED = torch.tensor([10_000, 100, 10])


@pytest.mark.parametrize(
    ("taker", "options", "other", "others", "counts"),
    [
        (BalancedSoftmax, {}, CrossEntropy, {}, EVEN),
        (WeightedCrossEntropy, {}, CrossEntropy, {}, EVEN),
        (ClassBalanced, {"beta": 0.0}, CrossEntropy, {}, COUNTS),
        (LDAM, {"max_margin": 0.0}, CrossEntropy, {}, COUNTS),
        (LDAM, {"max_margin": 0.0, "beta": 0.99}, ClassBalanced, {"beta": 0.99}, COUNTS),
        (LogitAdjusted, {"tau": 0.0}, CrossEntropy, {}, COUNTS),
        (LogitAdjusted, {"tau": 1.0}, BalancedSoftmax, {}, COUNTS),
        (OHEM, {"ratio": 1.0}, CrossEntropy, {}, COUNTS),
        (PolyLoss, {"epsilon": 0.0}, CrossEntropy, {}, COUNTS),
        (VectorScaling, {"gamma": 0.0, "tau": 1.25}, LogitAdjusted, {"tau": 1.25}, COUNTS),
        (VectorScaling, {"gamma": 0.0, "tau": 0.0}, CrossEntropy, {}, COUNTS),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_limits(
    taker: type, options: dict, other: type, others: dict, counts: Tensor, smoothing: float
) -> None:
    logits, labels, soft = batch()
    one = build(taker, counts, label_smoothing=smoothing, **options)
    twin = build(other, counts, label_smoothing=smoothing, **others)
    for targets in (labels, soft):
        torch.testing.assert_close(one(logits, targets), twin(logits, targets), rtol=1e-6, atol=0)


def test_limits_of_the_focal_forms() -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        plain = Focal(COUNTS, 0.0)(logits, targets)
        torch.testing.assert_close(plain, cross_entropy(logits, targets))
        focal = ClassBalanced(COUNTS, 0.0, gamma=2.0)(logits, targets)
        torch.testing.assert_close(focal, Focal(COUNTS, 2.0)(logits, targets))


@pytest.mark.parametrize(
    ("taker", "options", "value", "gradient"),
    [
        # the first image is right, the second wrong by 400
        *((Focal, {"gamma": g}, 200, [-0.5, 0.5]) for g in (0.0, 0.5, 1.0, 2.0)),
        *((ClassBalanced, {"beta": 0.0, "gamma": g}, 200, [-0.5, 0.5]) for g in (0.0, 0.5, 2.0)),
        (PolyLoss, {"epsilon": 2.0}, 201, [-0.5, 0.5]),  # (400 + 2) / 2
        (OHEM, {"ratio": 0.5}, 400, [-1.0, 1.0]),  # the second alone
        (LDAM, {"max_margin": 0.0, "scale": 30.0}, 6000, [-15.0, 15.0]),
    ],
)
def test_certain_images(taker: type, options: dict, value: float, gradient: list[float]) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = build(taker, torch.tensor([1000, 1]), **options)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(value)
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], gradient]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_softmax_orders_classes_as_balanced_accuracy_asks(smoothing: float) -> None:
    seen = torch.tensor([[0.9899, 0.01, 0.0001], [1.0, 0.0, 0.0]]).double()  # p(class | image)
    # the minimum over all logits: adjusted, they are the logarithms of the smoothed targets
    smooth = seen * (1 - smoothing) + SKEWED / SKEWED.sum() * smoothing
    best = (smooth.clamp(min=1e-12).log() - SKEWED.log()).requires_grad_()
    BalancedSoftmax(SKEWED, smoothing)(best, seen).backward()
    assert best.grad.abs().max() < 1e-6
    # p(class | image) / prior: 0.99, 1.01 and 0.1 in the first row; the second image is certain
    assert best.argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_bce_of_equal_counts_is_plain_with_a_constant_margin(smoothing: float) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        share = one_hot(labels, 4).double() if targets is labels else soft
        share = share * (1 - smoothing) + smoothing / 4
        plain = binary_cross_entropy_with_logits(logits - math.log(3), share, reduction="sum")
        found = BalancedBCE(EVEN, smoothing)(logits, targets)
        torch.testing.assert_close(found, plain / len(logits), rtol=1e-6, atol=0)


def test_balanced_bce_keeps_the_class_of_certain_images() -> None:
    loss, certain = BalancedBCE(SKEWED, 0.1), torch.eye(3).double()
    best = {}
    for name, spread in {"as frequent": loss.frequency, "evenly": torch.full((3,), 1 / 3)}.items():
        loss.frequency = spread
        best[name] = ((0.9 * certain + 0.1 * spread).logit() - loss.log_odds).requires_grad_()
        loss(best[name], certain).backward()
        assert best[name].grad.abs().max() < 1e-6  # the minimum over all logits
    assert best["as frequent"].argmax(1).tolist() == [0, 1, 2]
    assert best["evenly"].argmax(1)[0] == 2  # what the authors' smoothing would do


def test_balanced_bce_says_how_much_an_image_raises_the_odds() -> None:
    seen = torch.tensor([[0.9899, 0.01, 0.0001]]).double()  # p(class | image)
    best = (seen.logit() - (SKEWED / SKEWED.sum()).logit()).requires_grad_()
    BalancedBCE(SKEWED)(best, seen).backward()
    assert best.grad.abs().max() < 1e-6
    # 0.99, 1.01 and 0.1 times as likely as in the training set; the odds are 1.08, 1.01, 0.1 times
    torch.testing.assert_close(best.exp(), torch.tensor([[1.078, 1.011, 0.101]]).double(),
                               rtol=1e-3, atol=0)  # fmt: skip


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.5])
def test_smoothing_keeps_the_order_of_the_best_adjusted_logits(tau: float) -> None:
    seen = torch.tensor([[0.9899, 0.01, 0.0001], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]]).double()
    best = {}
    for smoothing in (1e-9, 0.1):
        loss = LogitAdjusted(SKEWED, tau, smoothing)
        smooth = seen * (1 - smoothing) + loss.spread * smoothing
        best[smoothing] = (smooth.log() - loss.shift).requires_grad_()
        loss(best[smoothing], seen).backward()
        assert best[smoothing].grad.abs().max() < 1e-6  # the minimum over all logits
    assert torch.equal(best[1e-9].argmax(1), best[0.1].argmax(1))
    assert best[0.1].argmax(1)[2] == 0  # a certain image keeps its class, however frequent


@pytest.mark.parametrize(
    ("head", "tail", "counts", "smoothing"),
    [(0.0, 0.0, COUNTS, 0.0), (0.2, 0.2, COUNTS, 0.2), (0.3, 0.1, EVEN, 0.3)],
)
def test_limits_of_label_aware_smoothing(
    head: float, tail: float, counts: Tensor, smoothing: float
) -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        found = LabelAwareSmoothing(counts, head, tail)(logits, targets)
        plain = CrossEntropy(smoothing)(logits, targets)
        torch.testing.assert_close(found, plain, rtol=1e-6, atol=0)


def test_frequent_classes_are_smoothed_more_and_soon_almost_fully() -> None:
    smoothing = LabelAwareSmoothing(torch.tensor([0, 50, 100]), 0.4, 0.1).smoothing.tolist()
    assert smoothing == pytest.approx([0.1, 0.1 + 0.3 * 0.5**0.5, 0.4])


def test_vector_scaling_wants_larger_logits_of_rare_classes() -> None:
    loss = VectorScaling(COUNTS, gamma=0.25, tau=0.0)
    values = [loss(3 * one_hot(torch.tensor([c]), 4).double(), torch.tensor([c])) for c in range(4)]
    assert values[1] > values[0] > values[3] > values[2]  # as COUNTS, rarest first


@pytest.mark.parametrize("beta", [1 - 1e-9, 1 - 1e-16])
def test_class_balanced_towards_one_is_inverse_frequency(beta: float) -> None:
    inverse = 1 / COUNTS
    weight = ClassBalanced(COUNTS, beta).weight
    torch.testing.assert_close(weight, inverse / inverse.mean(), rtol=1e-6, atol=0)


def test_weights_have_mean_one() -> None:
    loss = ClassBalanced(torch.tensor([5000, 500, 50]), 0.999)
    assert loss.weight.mean().item() == pytest.approx(1)
    assert loss.weight[1] / loss.weight[0] == pytest.approx((1 - 0.999**5000) / (1 - 0.999**500))
    assert WeightedCrossEntropy(COUNTS).weight.mean().item() == pytest.approx(1)


def test_class_balanced_smooths_as_evenly_as_cross_entropy() -> None:
    loss = ClassBalanced(torch.tensor([10_000, 1]), 0.9999, label_smoothing=0.1)
    best = torch.tensor([[0.95, 0.05]]).log().requires_grad_()
    loss(best, torch.tensor([0])).backward()
    assert best.grad.abs().max() < 1e-6  # the minimum over all logits, whatever the weights


def margins() -> Tensor:
    raw = COUNTS.double() ** -0.25
    return 0.5 * raw / raw.max()


def test_margins() -> None:
    loss = LDAM(COUNTS, max_margin=0.5)
    torch.testing.assert_close(loss.margins.double(), margins(), rtol=1e-6, atol=0)
    assert loss.margins.max() == 0.5
    equal = LDAM(torch.full((3,), 30), max_margin=0.5)
    assert torch.equal(equal.margins, torch.full((3,), 0.5))


def test_without_margin_the_scale_multiplies_the_logits() -> None:
    logits, labels, soft = batch()
    for targets in (labels, soft):
        scaled = LDAM(COUNTS, 0.0, 30.0, 0.1)(logits, targets)
        torch.testing.assert_close(scaled, CrossEntropy(0.1)(30 * logits, targets))


def test_label_smoothing_leaves_the_margin_to_the_label() -> None:
    logits, labels, _ = batch()
    lowered = CrossEntropy(0.1)(logits - one_hot(labels, 4) * margins(), labels)
    found = LDAM(COUNTS, 0.5, 1.0, 0.1)(logits, labels)
    torch.testing.assert_close(found, lowered, rtol=1e-6, atol=0)


def test_re_weighting_counts_each_image_by_the_effective_number_of_its_class() -> None:
    logits, labels, _ = batch()
    inverse = [(1 - 0.99) / (1 - 0.99**n) for n in COUNTS.tolist()]
    weights = [len(inverse) * each / sum(inverse) for each in inverse]
    plain, loss = LDAM(COUNTS, 0.5, 3.0), LDAM(COUNTS, 0.5, 3.0, beta=0.99)
    expected = sum(
        weights[label] * plain(logits[i : i + 1], labels[i : i + 1])
        for i, label in enumerate(labels.tolist())
    )
    torch.testing.assert_close(loss(logits, labels), expected / len(logits), rtol=1e-5, atol=0)


def test_ohem_rounds_the_share_of_the_batch_to_whole_images() -> None:
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    OHEM(0.1)(logits, torch.arange(30) % 4).backward()  # 0.1 * 30 is 3.0000000000000004
    assert (logits.grad != 0).any(1).sum() == 3


def test_poly_is_the_series_with_another_first_coefficient() -> None:
    p = torch.tensor([0.7, 0.3], dtype=torch.float64)
    series = sum(0.3**j / j for j in range(2, 60)) + (1 + 2.0) * 0.3
    assert PolyLoss(2.0)(p.log()[None], torch.tensor([0])).item() == pytest.approx(series)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("normalisation", ["mean", "frequency", "sum"])
def test_weighted_is_torchs(normalisation: str, smoothing: float) -> None:
    logits, labels, soft = batch()
    loss = WeightedCrossEntropy(COUNTS, smoothing, normalisation)
    given: dict[str, Any] = {"weight": loss.weight.double(), "label_smoothing": smoothing}
    if normalisation == "mean":  # torch divides soft targets by the batch
        expected = cross_entropy(logits, labels, **given)
        torch.testing.assert_close(loss(logits, labels), expected, rtol=1e-6, atol=0)
        return
    for targets in (one_hot(labels, 4).double(), soft):
        expected = cross_entropy(logits, targets, **given)
        torch.testing.assert_close(loss(logits, targets), expected, rtol=1e-6, atol=0)


def test_over_all_images_a_normalisation_is_a_multiple_of_the_mean_over_classes() -> None:
    labels = torch.arange(4).repeat_interleave(COUNTS)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    each = cross_entropy(logits, labels, reduction="none")
    balanced = sum(each[labels == c].mean().item() for c in range(4)) / 4
    sum_of_inverses = (COUNTS.sum() / COUNTS).sum().item()
    for normalisation, multiple in {"mean": 1, "frequency": 4, "sum": 4 / sum_of_inverses}.items():
        loss = WeightedCrossEntropy(COUNTS, normalisation=normalisation)
        assert loss(logits, labels).item() == pytest.approx(multiple * balanced)


def test_any_scale_cancels_in_the_weighted_mean() -> None:
    logits, labels, soft = batch()
    loss = WeightedCrossEntropy(COUNTS, 0.1)
    for targets in (labels, soft):
        before = loss(logits, targets)
        loss.weight *= 7
        torch.testing.assert_close(loss(logits, targets), before, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("imbalance", "best_class"), [(90, 0), (92, 9)])
def test_weighted_smoothing_draws_the_largest_class_to_the_smallest_beyond_91(
    imbalance: int, best_class: int
) -> None:
    loss = WeightedCrossEntropy(torch.tensor([imbalance] * 9 + [1]), 0.1)
    smooth = one_hot(torch.tensor([0]), 10) * 0.9 + 0.01
    best = (smooth * loss.weight).log().requires_grad_()
    loss(best, torch.tensor([0])).backward()
    assert best.grad.abs().max() < 1e-4  # the minimum over all logits of a certain image
    assert best.argmax() == best_class
