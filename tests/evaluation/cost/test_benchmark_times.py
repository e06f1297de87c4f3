"""Turns, pairing and batch sizes by a clock that the nets themselves move; ratios by hand."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from clocks import Clock, FakeNet, any_full_memory, bounded
from torch import Tensor, nn

from leanvit.data.images import ImageSet
from leanvit.evaluation.comparison.intervals import Ratio, ratio
from leanvit.evaluation.cost import benchmark_times
from leanvit.evaluation.cost.benchmark_times import best_batches, draw_images, order_of, race
from leanvit.evaluation.measure.predict import Trained

CPU = torch.device("cpu")
IMAGES = torch.randint(
    256, (24, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """And little to do: every pass of a net costs the test real time."""
    clock = Clock()
    monkeypatch.setattr(benchmark_times, "perf_counter", clock)
    monkeypatch.setattr(benchmark_times, "SWEEPS", 2)
    monkeypatch.setattr(benchmark_times, "SWEEP_TURN", 0.01)
    monkeypatch.setattr(benchmark_times, "LONGEST_PASS", 0.08)
    monkeypatch.setattr(benchmark_times, "SHORTEST_TURN", 0.02)
    return clock


def trained(net: nn.Module, mean: float = 0.5) -> Trained:
    return Trained(net, torch.full((3,), mean), torch.ones(3), ("a", "b"), 4, bfloat16=False)


def evenly(rate: float, start: float = 0.0) -> Callable[[Tensor], float]:
    return lambda images: start + len(images) / rate


@pytest.mark.parametrize("num_nets", [2, 3, 5])
def test_everybody_is_at_every_place_and_before_everybody_else_equally_often(num_nets: int) -> None:
    orders = [order_of(number, num_nets) for number in range(2 * num_nets)]
    assert all(sorted(order) == list(range(num_nets)) for order in orders)
    for net in range(num_nets):
        places = [order.index(net) for order in orders]
        assert np.bincount(places).tolist() == [2] * num_nets
        for other in set(range(num_nets)) - {net}:
            before = sum(order.index(net) < order.index(other) for order in orders)
            assert before == num_nets


def test_nets_take_turns_and_see_the_same_images(clock: Clock) -> None:
    diary: list[tuple[str, int]] = []
    nets = [FakeNet(clock, evenly(1e3), diary, name) for name in "abc"]
    times = race([trained(net) for net in nets], IMAGES, CPU, range(4))
    assert [each.single.shape for each in times] == [(4, 32)] * 3
    assert [each.rates.shape for each in times] == [(4,)] * 3
    assert all(torch.equal(one, two) for one, two in zip(nets[0].seen, nets[1].seen, strict=True))
    alone = [name for name, batch in diary if batch == 1]
    switches = sum(one != two for one, two in itertools.pairwise(alone))
    assert switches > 2 * 4 * benchmark_times.TURNS  # in short turns


def test_each_net_gets_its_own_normalisation(clock: Clock) -> None:
    nets = [FakeNet(clock, evenly(1e3)) for _ in range(2)]
    race([trained(nets[0], 0.5), trained(nets[1], 0.25)], IMAGES, CPU, range(1))
    for dark, light in zip(nets[0].seen, nets[1].seen, strict=True):
        assert torch.allclose(light - dark, torch.tensor(0.25))


def test_hard_images_count_as_often_as_they_come(clock: Clock) -> None:
    """A net that takes 9 ms for one image in three is no quicker on average than one of 3 ms."""
    images = torch.zeros(24, 3, 4, 4, dtype=torch.uint8)
    images[::3] = 255
    dynamic = FakeNet(clock, lambda x: 9e-3 * float((x.mean((1, 2, 3)) > 0).sum()))
    static = FakeNet(clock, evenly(1 / 3e-3))
    found = race([trained(static), trained(dynamic)], images, CPU, range(24))
    alone = [each.single.mean(axis=1) for each in found]
    assert ratio(*alone).value == pytest.approx(1, abs=0.05)
    assert np.median(found[1].single) < 1e-6
    in_batches = [(1 / each.rates).mean() for each in found]
    assert in_batches[1] / in_batches[0] == pytest.approx(1, abs=0.05)


def test_what_slows_all_nets_for_a_while_changes_no_ratio(clock: Clock) -> None:
    slowness = {"now": 1.0}

    def rounds():
        for number in range(12):
            slowness["now"] = (1.0, 7.0, 2.5)[number % 3]
            yield number

    nets = [
        trained(FakeNet(clock, lambda x, s=s: slowness["now"] * s * len(x))) for s in (3e-3, 2e-3)
    ]
    first, second = race(nets, IMAGES, CPU, rounds())
    for found in (
        ratio(first.single.mean(axis=1), second.single.mean(axis=1)),
        ratio(second.rates, first.rates),
    ):
        assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
        assert found.is_shown
    assert np.ptp(first.rates) / np.median(first.rates) > 1


def test_the_best_batch_is_the_smallest_that_is_as_fast(clock: Clock) -> None:
    nets = [
        trained(FakeNet(clock, seconds))
        for seconds in (
            lambda x: max(len(x), 8) * 1e-3,  # no faster beyond 8
            lambda x: len(x) * 1e-3 * (1 if len(x) <= 4 else 1.2),  # slower beyond 4
            lambda x: 0.01 + len(x) * 1e-3,  # ever faster
        )
    ]
    sizes, best = best_batches(nets, IMAGES, CPU)
    assert sizes == [8, 1, 32]
    assert best == pytest.approx(1000)


def test_a_batch_that_takes_long_is_not_doubled(clock: Clock) -> None:
    diary: list[tuple[str, int]] = []
    sizes, _ = best_batches([trained(FakeNet(clock, evenly(100, 0.01), diary))], IMAGES, CPU)
    assert sizes == [4] and max(batch for _, batch in diary) == 4
    slow: list[tuple[str, int]] = []
    assert best_batches([trained(FakeNet(clock, evenly(5), slow))], IMAGES, CPU)[0] == [1]


@any_full_memory
def test_full_memory_ends_the_doubling_of_one_net(clock: Clock, error: Exception) -> None:
    nets = [
        trained(FakeNet(clock, bounded(limit, error, evenly(1e3, 0.01)))) for limit in (5, 20, 0)
    ]
    assert best_batches(nets[:2], IMAGES, CPU)[0] == [4, 16]
    with pytest.raises(type(error)):
        best_batches(nets[2:], IMAGES, CPU)


def test_a_round_is_long_enough_for_the_fastest_net(clock: Clock) -> None:
    quick, slow = (FakeNet(clock, evenly(rate)) for rate in (1e4, 1e3))
    times = race([trained(quick), trained(slow)], IMAGES, CPU, range(1))
    assert times[0].rates == pytest.approx(1e4) and times[1].rates == pytest.approx(1e3)
    # all that the second net saw after its 32 single images: one batch to warm up, then the round
    assert [each.batch_size for each in times] == [1, 1]
    in_a_row = 256  # the power of two from 0.02 s of the first net on
    assert all(len(each) == 1 for each in slow.seen[-in_a_row - 1 :])
    assert torch.equal(slow.seen[-in_a_row], slow.seen[-in_a_row - 1])


def test_ratio_is_the_median_with_an_interval_over_rounds() -> None:
    random = np.random.default_rng(0)
    common = random.lognormal(0, 1, 40)  # of the machine
    own = 1.6 * random.lognormal(0, 0.02, 40)
    found = ratio(common * own, common)
    assert found.value == pytest.approx(np.median(own))
    assert found.low < 1.6 < found.high and found.high - found.low < 0.04
    assert found.is_shown and not ratio(own, own).is_shown
    assert ratio(own, own) == Ratio(1.0, 1.0, 1.0)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        values = random.lognormal(0, 0.2, 20)
        found = ratio(values, np.ones(20), num_resamples=500)
        held += found.low <= 1 <= found.high
    assert 180 <= held <= 200


def test_images_are_drawn_without_repeats() -> None:
    data = ImageSet(IMAGES, torch.zeros(24, dtype=torch.int64), ("a",))
    drawn = draw_images(data, 10, seed=3)
    assert len(np.unique(drawn.flatten(1).numpy(), axis=0)) == len(drawn) == 10
    assert torch.equal(drawn, draw_images(data, 10, seed=3))
    assert not torch.equal(drawn, draw_images(data, 10, seed=4))
    assert len(draw_images(data, 99, seed=10**30)) == 24
