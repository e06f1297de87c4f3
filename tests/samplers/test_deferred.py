"""One order first, another later."""

import torch

from leanvit.samplers.balanced import Balanced
from leanvit.samplers.deferred import Deferred
from leanvit.samplers.repeat_factor import RepeatFactor
from leanvit.samplers.shuffle import Shuffle

LABELS = torch.tensor([0] * 40 + [1] * 5)


def epochs(sampler: Deferred, *numbers: int) -> list[torch.Tensor]:
    found = []
    for number in numbers:
        sampler.set_epoch(number)
        found.append(sampler.indices())
    return found


def test_each_sampler_has_its_epochs() -> None:
    sampler = Deferred(Shuffle(LABELS, seed=3), Balanced(LABELS, seed=3), start=2)
    first, late = Shuffle(LABELS, seed=3), Balanced(LABELS, seed=3)
    for number, order in enumerate(epochs(sampler, 0, 1, 2, 3)):
        expected = first if number < 2 else late
        expected.set_epoch(number)
        assert torch.equal(order, expected.indices())


def test_a_resumed_training_meets_the_same_order() -> None:
    whole = epochs(Deferred(RepeatFactor(LABELS), Balanced(LABELS), start=1), 0, 1, 2, 3)
    resumed = epochs(Deferred(RepeatFactor(LABELS), Balanced(LABELS), start=1), 2, 3)
    assert all(map(torch.equal, whole[2:], resumed))


def test_every_epoch_is_as_long_as_the_first() -> None:
    longer = RepeatFactor(LABELS)
    assert len(longer) > len(LABELS)
    cut = Deferred(Shuffle(LABELS), longer, start=1)
    assert [len(order) for order in epochs(cut, 0, 1)] == [len(cut)] * 2 == [len(LABELS)] * 2
    # a shorter order goes on with draws of its own: every image once, and some once more
    filled = Deferred(longer, Shuffle(LABELS), start=1)
    order = epochs(filled, 1)[0]
    assert torch.equal(filled.indices(), order)
    assert len(order) == len(filled) == len(longer)
    assert torch.equal(order[: len(LABELS)].sort().values, torch.arange(len(LABELS)))
    rest = order[len(LABELS) :]
    assert len(rest.unique()) == len(rest) and not torch.equal(rest, order[: len(rest)])
