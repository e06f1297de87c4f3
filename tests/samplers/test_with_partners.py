"""Batches of two halves: the ordinary images, and a weighted draw from all of them."""

import math

import pytest
import torch
from torch import Tensor

from leanvit.augment.cmo import CMO
from leanvit.augment.none import NoAugment
from leanvit.contracts import Order
from leanvit.data.images import ImageSet
from leanvit.data.loader import InOrder, ResidentLoader, WorkerLoader
from leanvit.samplers.repeat_factor import RepeatFactor
from leanvit.samplers.shuffle import Shuffle
from leanvit.samplers.with_partners import WithPartners
from leanvit.seeds import derive_seed

COUNTS = torch.tensor([600, 250, 0, 40, 10])
LABELS = torch.arange(5).repeat_interleave(COUNTS)
WEIGHTS = CMO(5).partners(LABELS)


def epoch(number: int, order: Order, batch_size: int = 32, **options: int) -> Tensor:
    both = WithPartners(order, WEIGHTS, batch_size, **options)
    both.set_epoch(number)
    assert both.epoch == number
    assert len(both) == len(both.indices())
    return both.indices()


@pytest.mark.parametrize("batch_size", [32, 30, 899, 900, 5000])  # 900 images
def test_every_batch_is_the_ordinary_one_and_as_many_partners(batch_size: int) -> None:
    alone = Shuffle(LABELS, seed=4)
    alone.set_epoch(2)
    batches = epoch(2, Shuffle(LABELS, seed=4), batch_size).split(2 * batch_size)
    halves = [batch.chunk(2) for batch in batches]
    assert all(len(ordinary) == len(foreground) for ordinary, foreground in halves)
    assert torch.equal(torch.cat([ordinary for ordinary, _ in halves]), alone.indices())
    assert [len(ordinary) for ordinary, _ in halves] == [
        len(batch) for batch in alone.indices().split(batch_size)
    ]


def test_partners_equal_a_literal_roulette_wheel() -> None:
    generator = torch.Generator().manual_seed(derive_seed(3, "foreground", 6))
    chances, total = WEIGHTS.tolist(), float(WEIGHTS.cumsum(0)[-1])
    expected = []
    for point in torch.rand(900, generator=generator, dtype=torch.float64).tolist():
        i, end = 0, chances[0]
        while point * total >= end:
            i += 1
            end += chances[i]
        expected.append(i)
    found = epoch(6, Shuffle(LABELS), 100, seed=3).view(9, 2, 100)[:, 1].flatten()
    assert found.tolist() == expected


def test_foreground_classes_come_as_often_as_the_paper_has_it() -> None:
    drawn = torch.cat([epoch(e, InOrder(900), 900)[900:] for e in range(50)])
    share = (1 / COUNTS.double()).where(COUNTS > 0, 0.0)
    share /= share.sum()
    per_class = torch.bincount(LABELS[drawn], minlength=5)
    for k, p in enumerate(share.tolist()):
        assert abs(per_class[k] - 45_000 * p) <= 4 * math.sqrt(45_000 * p * (1 - p)), k
    # uniform weights: every image alike, chi-square within five standard deviations
    both = WithPartners(InOrder(900), torch.ones(900, dtype=torch.float64), 900)
    per_image = torch.zeros(900)
    for e in range(50):
        both.set_epoch(e)
        per_image += torch.bincount(both.indices()[900:], minlength=900)
    assert abs(((per_image - 50) ** 2 / 50).sum() - 899) < 5 * math.sqrt(2 * 899)


def test_same_seed_and_epoch_same_partners_whatever_the_order() -> None:
    def drawn(number: int, seed: int, order: Order) -> tuple[int, ...]:
        return tuple(epoch(number, order, 900, seed=seed)[900:].tolist())

    shuffled = Shuffle(LABELS, seed=9)
    assert drawn(1, 5, shuffled) == drawn(1, 5, shuffled) == drawn(1, 5, InOrder(900))
    assert len({drawn(e, s, shuffled) for e in range(3) for s in range(3)}) == 9


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_ranks_share_out_ordinary_images_and_partners(num_ranks: int) -> None:
    labels = LABELS[1:]  # 899
    whole = WithPartners(Shuffle(labels), WEIGHTS[1:], 900).indices()
    parts = []
    for rank in range(num_ranks):
        order = Shuffle(labels, rank=rank, num_ranks=num_ranks)
        both = WithPartners(order, WEIGHTS[1:], 900, rank=rank, num_ranks=num_ranks)
        parts.append(both.indices())
    kept = 899 // num_ranks
    ordinary, foreground = (
        torch.stack([part.chunk(2)[half] for part in parts], 1).flatten() for half in (0, 1)
    )
    assert torch.equal(ordinary, whole[: num_ranks * kept])
    assert torch.equal(foreground, whole[899:][: num_ranks * kept])


def test_an_order_longer_than_the_data_gets_as_many_partners() -> None:
    order = RepeatFactor(LABELS, threshold=16.0)
    assert len(order) > 1800
    foreground = epoch(0, order, len(order))[len(order) :]
    assert len(foreground) == len(order) and foreground.max() < 900
    assert not torch.equal(foreground[:900], foreground[900:1800])  # no draw is repeated


@pytest.mark.parametrize("loader", [ResidentLoader, WorkerLoader])
@pytest.mark.parametrize(("batch_size", "batches"), [(5, 4), (11, 2), (23, 1), (30, 1)])
def test_loaders_of_twice_the_batch_size_give_the_same_number_of_batches(
    loader: type, batch_size: int, batches: int
) -> None:
    labels = torch.arange(23) % 3
    pixels = torch.arange(23, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    data = ImageSet(pixels.contiguous(), labels, ("a", "b", "c"))
    both = WithPartners(Shuffle(labels), torch.ones(23, dtype=torch.float64), batch_size)
    options = {"drop_last": True, **({"num_workers": 0} if loader is WorkerLoader else {})}
    cpu = torch.device("cpu")
    alone = loader(data, Shuffle(labels), NoAugment(), batch_size, cpu, **options)
    doubled = loader(data, both, NoAugment(), 2 * batch_size, cpu, **options)
    assert len(doubled) == len(alone) == batches
    for (images, found), (ordinary, expected) in zip(doubled, alone, strict=True):
        assert len(found) == 2 * len(expected)
        assert torch.equal(found.chunk(2)[0], expected)
        assert torch.equal(images.chunk(2)[0], ordinary)
