"""Speed by a clock that the net itself moves, and memory against what tensors must take."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from clocks import Clock, FakeNet, any_full_memory, bounded
from torch import Tensor, nn

from leanvit.evaluation.cost import speed
from leanvit.evaluation.cost.speed import latency, measure_speed, peak_memory, throughput

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "perf_counter", clock)
    return clock


def test_latency_is_the_median_of_warm_passes(clock: Clock) -> None:
    times = itertools.chain([0.1] * 3, itertools.cycle([0.01] * 9 + [0.5]))
    net = FakeNet(clock, lambda _: next(times))
    assert latency(net, 4, CPU, False, budget=60) == pytest.approx(0.01)
    assert set(net.batches) == {1} and 50 < len(net.batches) < 200


@pytest.mark.parametrize("budget", [0.5, 2.0])
def test_latency_keeps_to_its_budget(clock: Clock, budget: float) -> None:
    net = FakeNet(clock, lambda _: 0.06)
    assert latency(net, 4, CPU, False, budget) == pytest.approx(0.06)
    assert clock.now - 100 <= budget + 0.06


def test_a_pass_longer_than_the_budget_is_the_measurement(clock: Clock) -> None:
    net = FakeNet(clock, lambda _: 7.0)
    assert latency(net, 4, CPU, False, budget=2.0) == pytest.approx(7.0)
    assert throughput(net, 4, CPU, False, budget=2.0) == (pytest.approx(1 / 7), 1)
    assert net.batches == [1, 1]


def test_batches_double_until_two_gain_nothing(clock: Clock) -> None:
    net = FakeNet(clock, lambda images: max(len(images), 8) * 1e-4)
    assert throughput(net, 4, CPU, False) == (pytest.approx(1e4), 8)
    assert sorted(set(net.batches)) == [1, 2, 4, 8, 16, 32]


def test_a_gain_within_noise_is_none_and_one_dip_no_end(clock: Clock) -> None:
    rates = {1: 100.0, 2: 90.0, 4: 200.0, 8: 204.0, 16: 205.0, 32: 999.0}
    net = FakeNet(clock, lambda images: len(images) / rates[len(images)])
    assert throughput(net, 4, CPU, False, budget=60) == (pytest.approx(200), 4)
    assert max(net.batches) == 16


@any_full_memory
def test_full_memory_ends_the_search(clock: Clock, error: Exception) -> None:
    small, none = (FakeNet(clock, bounded(limit, error, lambda _: 1e-3)) for limit in (20, 0))
    assert throughput(small, 4, CPU, False) == (pytest.approx(16e3), 16)
    with pytest.raises(type(error)):
        throughput(none, 4, CPU, False)


def test_other_errors_are_not_taken_for_full_memory(clock: Clock) -> None:
    fail = bounded(3, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), lambda _: 1e-3)
    with pytest.raises(RuntimeError, match="mat1"):
        throughput(FakeNet(clock, fail), 4, CPU, False)


@pytest.mark.parametrize("seconds", [0.01, 0.4])
def test_throughput_keeps_to_its_budget(clock: Clock, seconds: float) -> None:
    """A rate that grows for ever would be followed for ever."""
    longest = []

    def growing(images: Tensor) -> float:
        longest.append(seconds * len(images) ** 0.9)
        return longest[-1]

    best = throughput(FakeNet(clock, growing), 4, CPU, False, budget=6.0)
    assert clock.now - 100 <= 6.0 + max(longest)
    assert best.images_per_second == pytest.approx(best.batch_size**0.1 / seconds)


class Chain(nn.Module):
    """Layers of equal width, each of whose results only the next one reads."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in range(depth))
        self.register_buffer("scratch", torch.zeros(10))

    def forward(self, images: Tensor) -> Tensor:
        features = images.mean(dim=1).flatten(1).repeat(1, 4)  # 16 values an image, then 64
        for layer in self.layers:
            features = layer(features)
        return features


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_peak_memory_is_weights_images_and_what_lives_together(depth: int) -> None:
    weights, images, features = depth * 64 * 64 + 10, 7 * 3 * 16, 7 * 64
    expected = 4 * (weights + images + 2 * features)  # a layer's input and its result
    assert peak_memory(Chain(depth), 4, 7, CPU, bfloat16=False) == expected


def test_peak_memory_sees_what_an_operation_is_made_of() -> None:
    """In bfloat16 a CPU's fastest attention is the literal one, which holds all scores."""

    class Attention(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).transpose(1, 2)[:, None]
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    scores = 2 * 64**2  # two images of 64 tokens
    fused = peak_memory(Attention(), 8, 2, CPU, bfloat16=False)
    literal = peak_memory(Attention(), 8, 2, CPU, bfloat16=True)
    assert fused < 4 * scores
    assert literal > 2 * 2 * scores  # of two bytes, before and after the softmax


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_of_a_gpu_is_what_was_allocated() -> None:
    on_cpu = peak_memory(Chain(3), 4, 4096, CPU, bfloat16=False)
    on_gpu = peak_memory(Chain(3), 4, 4096, torch.device("cuda"), bfloat16=False)
    assert 0.8 * on_cpu < on_gpu < 1.5 * on_cpu + 2**26  # cuBLAS takes a workspace


@pytest.mark.parametrize("bfloat16", [False, True])
def test_all_three_of_a_real_net(bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "NUM_TIMED", 2)
    monkeypatch.setattr(speed, "LARGEST_BATCH", 4)
    measured = measure_speed(Chain(2), 4, CPU, bfloat16)
    assert measured.latency_seconds > 0 and measured.images_per_second > 0
    assert measured.batch_size in (1, 2, 4)
    assert measured.peak_bytes == peak_memory(Chain(2), 4, measured.batch_size, CPU, bfloat16)
