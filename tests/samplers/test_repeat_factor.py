"""Images of rare classes come r = sqrt(threshold / C / share) times an epoch, others once."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.samplers.repeat_factor import RepeatFactor
from leanvit.seeds import derive_seed

COUNTS = [700, 250, 0, 40, 10]  # an even share is 250
LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))
FACTORS = [1, 1, None, 2.5, 5]  # sqrt(250 / 40) = 2.5, sqrt(250 / 10) = 5
NUM_DRAWS = 700 + 250 + 100 + 50


def epoch(number: int, labels: Tensor = LABELS, threshold: float = 1.0, **options: int) -> Tensor:
    sampler = RepeatFactor(labels, threshold, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def test_factors_in_closed_form() -> None:
    held = RepeatFactor(LABELS).class_factors
    for k, factor in enumerate(FACTORS):
        assert factor is None or float(held[k]) == pytest.approx(factor)
    # as the paper has it: t = threshold / C = 0.5, f_c = 0.7, 0.25, 0.04, 0.01
    held = RepeatFactor(LABELS, 2.0).class_factors
    for k, share in {0: 0.7, 1: 0.25, 3: 0.04, 4: 0.01}.items():
        assert float(held[k]) == pytest.approx(max(1, math.sqrt(0.5 / share)))


def test_every_image_comes_floor_or_ceil_times_and_the_total_is_exact() -> None:
    for number in range(20):
        order = epoch(number, seed=2)
        assert len(order) == NUM_DRAWS
        counts = torch.bincount(order, minlength=1000)
        assert counts[LABELS.le(1)].eq(1).all() and counts[LABELS.eq(4)].eq(5).all()
        half = counts[LABELS.eq(3)]
        assert half.unique().tolist() == [2, 3] and half.sum() == 100


def test_images_come_as_often_as_expected() -> None:
    orders = torch.cat([epoch(e, seed=1) for e in range(1000)])
    per_image = torch.bincount(orders, minlength=1000)[LABELS.eq(3)]
    # 2 for certain and a third time with probability 1/2
    assert (per_image - 2500).abs().max() < 4 * math.sqrt(1000 / 4)


def test_a_fractional_sum_is_rounded_down_and_spread_over_all() -> None:
    # an even share is 10 of 30: r = 1, sqrt(10 / 9) = 1.054, sqrt(10 / 2) = 2.236
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([19, 9, 2]))
    assert 32.95 < 19 + 9 * math.sqrt(10 / 9) + 2 * math.sqrt(10 / 2) < 32.96
    assert len(epoch(0, labels)) == 32
    # four times the threshold: r = sqrt(40/19), sqrt(40/9), sqrt(20)
    factors = torch.tensor([40 / 19, 40 / 9, 20], dtype=torch.float64).sqrt()[labels]
    fractions = factors - factors.floor()
    extra = math.floor(fractions.sum())
    orders = torch.cat([epoch(e, labels, threshold=4.0) for e in range(2000)])
    assert len(orders) == 2000 * math.floor(factors.sum())
    often = torch.bincount(orders, minlength=30) / 2000
    expected = factors.floor() + fractions * extra / fractions.sum()
    spread = ((expected - factors.floor()) * (factors.ceil() - expected) / 2000).sqrt()
    assert ((often - expected).abs() < 4 * spread).all()
    assert (factors - expected).sum() < 1  # less than one copy an epoch is missing


def test_uneven_factors_never_leave_floor_and_ceil() -> None:
    generator = torch.Generator().manual_seed(0)
    for trial in range(30):  # fractions of all sizes
        counts = torch.randint(1, 60, (7,), generator=generator)
        labels = torch.repeat_interleave(torch.arange(7), counts)
        sampler = RepeatFactor(labels, threshold=0.5 + trial / 10)
        factors = sampler.class_factors[labels]
        times = torch.bincount(sampler.indices(), minlength=len(labels))
        assert ((times == factors.floor()) | (times == factors.ceil())).all()
        assert int(times.sum()) == len(sampler) == math.floor(factors.sum() + 1e-9)


def test_against_a_literal_systematic_sampling() -> None:
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([19, 9, 2]))
    fractions = [0.0] * 19 + [math.sqrt(10 / 9) - 1] * 9 + [math.sqrt(5) - 2] * 2
    labels, fractions = labels.repeat(5), fractions * 5  # they sum to 4.8: four copies
    generator = torch.Generator().manual_seed(derive_seed(3, "sampler", 2))
    shuffled = torch.randperm(150, generator=generator).tolist()
    point = torch.rand(1, generator=generator, dtype=torch.float64).item() * sum(fractions) / 4
    expected = [1] * 150
    end = 0.0
    for i in shuffled:
        expected[i] += int(labels[i] == 2)  # floor(sqrt(5)) = 2
        end += fractions[i]
        if point < end:
            expected[i] += 1
            point += sum(fractions) / 4
    assert sum(expected) == 150 + 10 + 4
    assert torch.bincount(epoch(2, labels, seed=3), minlength=150).tolist() == expected


def test_even_classes_and_low_thresholds_repeat_nothing() -> None:
    even = torch.arange(40) % 4
    for labels, threshold in ((even, 1.0), (even, 0.001), (LABELS, 0.01)):
        order = epoch(0, labels, threshold)
        assert order.sort().values.tolist() == list(range(len(labels))) != order.tolist()


def test_copies_are_shuffled_among_the_rest() -> None:
    order = torch.cat([epoch(e).view(10, 110) for e in range(200)], dim=1)
    per_tenth = LABELS[order].eq(4).sum(1).double()  # 50 copies an epoch, 5 expected in each tenth
    assert (per_tenth - 1000).abs().max() < 4 * math.sqrt(200 * 50 * 0.1 * 0.9)


def test_the_extra_copies_are_drawn_anew() -> None:
    chosen = {tuple(torch.bincount(epoch(e), minlength=1000).tolist()) for e in range(5)}
    assert len(chosen) == 5


def test_a_million_images() -> None:
    labels = torch.arange(1_000_000).sqrt().long()  # 1,000 classes of 1 to 1,999 images
    sampler = RepeatFactor(labels)
    times = torch.bincount(sampler.indices(), minlength=1_000_000)
    factors = sampler.class_factors[labels]
    assert ((times - factors).abs() < 1).all() and int(times.sum()) == len(sampler)
