"""Every class once per round; no image again before its class is exhausted."""

import math
from collections import Counter

import torch
from torch import Tensor

from leanvit.samplers.class_aware import ClassAware

COUNTS = [61, 20, 0, 7, 1, 3]  # 92 images of five classes: 18 rounds and two draws more
SHUFFLED = torch.randperm(92, generator=torch.Generator().manual_seed(0))
LABELS = torch.repeat_interleave(torch.arange(6), torch.tensor(COUNTS))[SHUFFLED]


def epoch(number: int, labels: Tensor = LABELS, **options: int) -> Tensor:
    sampler = ClassAware(labels, **options)
    sampler.set_epoch(number)
    assert len(sampler) == len(sampler.indices())
    return sampler.indices()


def test_every_round_has_every_class_once() -> None:
    for number in range(5):
        classes = LABELS[epoch(number)].tolist()
        assert len(classes) == 92
        rounds = [classes[i : i + 5] for i in range(0, 92, 5)]
        assert all(sorted(each) == [0, 1, 3, 4, 5] for each in rounds[:-1])
        assert len(set(rounds[-1])) == 2
        assert set(Counter(classes).values()) == {18, 19}


def test_no_image_again_before_its_class_is_exhausted() -> None:
    for number in range(5):
        waiting: dict[int, set[int]] = {k: set() for k in range(6)}
        for i in epoch(number).tolist():
            k = int(LABELS[i])
            if not waiting[k]:
                waiting[k] = set(LABELS.eq(k).nonzero().flatten().tolist())
            waiting[k].remove(i)  # a KeyError where it has come before


def test_lists_are_shuffled_again_when_they_are_exhausted() -> None:
    order = epoch(0)
    passes = order[LABELS[order].eq(3)][:14].view(2, 7)
    assert torch.equal(passes[0].sort().values, passes[1].sort().values)
    assert not torch.equal(passes[0], passes[1])
    rounds = LABELS[order][:90].view(18, 5)
    assert len({tuple(each.tolist()) for each in rounds}) > 10  # of 120 orders


def test_orders_are_fair() -> None:
    orders = torch.stack([epoch(e) for e in range(1000)])
    first_class = torch.bincount(LABELS[orders[:, 0]], minlength=6)[[0, 1, 3, 4, 5]]
    assert ((first_class - 200) ** 2 / 200).sum() < 24  # chi-square, 4 degrees: p < 0.0001
    # the largest class: 18 or 19 of its 61 images an epoch, every image alike
    per_image = torch.bincount(orders.flatten(), minlength=92)[LABELS.eq(0)].double()
    mean = per_image.mean()
    spread = math.sqrt(mean * (1 - mean / 1000))
    assert (per_image - mean).abs().max() < 4 * spread


def test_one_class_is_a_plain_shuffle() -> None:
    order = epoch(0, torch.zeros(50, dtype=torch.int64))
    assert order.sort().values.tolist() == list(range(50)) != order.tolist()


def test_a_million_images_of_a_thousand_classes() -> None:
    labels = torch.arange(1_000_000).sqrt().long()  # 1 to 1,999 images
    order = epoch(0, labels)
    assert torch.bincount(labels[order]).eq(1000).all()
    per_image = torch.bincount(order, minlength=1_000_000)
    # an image of the first class 1000 times, of the last, of 1,999, at most once
    assert per_image[0] == 1000 and per_image[labels.eq(999)].unique().tolist() == [0, 1]
