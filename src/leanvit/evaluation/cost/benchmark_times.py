"""How fast several nets are beside each other, on a machine that does other things too.

- The nets take turns. A round gives each of them the same images, and its order is another one in
  the next round; what slows the machine for a while hits all alike.
- Ratios are taken within a round, and their median over the rounds is told with its bootstrap
  interval: what the rounds have in common drops out. Times in seconds have no such protection.
- The images are real, as uint8, and each net's own normalisation makes them its input: what a
  dynamic net costs depends on what it sees, and noise is nothing that it knows.
- Each image is timed once, and a round's time is the mean over its images: hard ones are to count,
  and so are interruptions. The shortest of several passes would leave these out for quick nets and
  not for slow ones, which are interrupted every time. The best batch size is looked for in the
  same way.
- A net runs as in :func:`measure.predict.predict`, and normalising is not timed. Before
  each of its turns it runs untimed, so that its weights are where they are in a row of passes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from numpy import ndarray
from torch import Tensor

from leanvit.data.images import ImageSet
from leanvit.evaluation.cost.speed import GAIN, LARGEST_BATCH, is_out_of_memory
from leanvit.evaluation.measure.predict import Trained, as_in_prediction
from leanvit.seeds import derive_seed

TURNS, TURN_IMAGES = 4, 8  # of each net in a round, and single images in each of them
LONGEST_PASS = 0.5  # seconds; no batch is doubled that takes more than half of it
SWEEPS, SWEEP_TURN = 3, 0.1  # over the batch sizes, and seconds for each at least
SHORTEST_TURN = 0.15  # seconds that the fastest net works on the batches of a round
POOL = 1024  # test images that are drawn from


@dataclass(frozen=True)
class Times:
    """What one net took."""

    single: Float64[ndarray, "rounds images"]  # seconds of each
    batch_size: int  # at which the net classifies most images per second
    rates: Float64[ndarray, " rounds"]  # images per second at that batch size


def draw_images(
    data: ImageSet, num: int = POOL, seed: int = 0
) -> UInt8[Tensor, "num 3 height width"]:
    """Some of the images, or all, in random order."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "benchmark"))
    order = torch.randperm(len(data), generator=generator)
    return torch.stack([data.images[index] for index in order[:num].tolist()])


def race(
    nets: Sequence[Trained],
    images: UInt8[Tensor, "n 3 height width"],
    device: torch.device,
    rounds: Iterable[int],
) -> list[Times]:
    """The times of each net, measured in turn; the errors of :func:`best_batches`.

    Args:
        images: of the nets' size, in random order; each round takes the next ones.
        rounds: 0, 1, 2, ...; an iterator may show the progress.
    """
    sizes, fastest = best_batches(nets, images, device)
    long_enough = 2 ** math.ceil(math.log2(max(SHORTEST_TURN * fastest, 1)))
    together = max(*sizes, long_enough)  # powers of two: whole batches of each net
    single, rates = [], []
    for number in rounds:
        alone = take(images, number * TURNS * TURN_IMAGES, TURNS * TURN_IMAGES)
        single.append(_single_times(nets, alone, device, number))
        batches = take(images, number * together, together)
        rates.append([0.0] * len(nets))
        for index in order_of(number, len(nets)):
            rates[-1][index] = together / sum(timed(nets[index], batches, sizes[index], device))
    return [
        Times(np.array([each[index] for each in single]), size, np.array(rates)[:, index])
        for index, size in enumerate(sizes)
    ]


def _single_times(
    nets: Sequence[Trained],
    images: UInt8[Tensor, "images 3 height width"],
    device: torch.device,
    number: int,
) -> list[list[float]]:
    """Seconds of each net for each image of a round, taken in short turns."""
    times: list[list[float]] = [[] for _ in nets]
    for turn, some in enumerate(images.split(TURN_IMAGES), start=number * TURNS):
        for index in order_of(turn, len(nets)):
            times[index] += timed(nets[index], some, 1, device)
    return times


def best_batches(
    nets: Sequence[Trained], images: UInt8[Tensor, "n 3 height width"], device: torch.device
) -> tuple[list[int], float]:
    """The smallest batch at which each net is about as fast as it gets, and the best rate of all.

    Sizes are powers of two. The nets take turns at each size, in several sweeps over the sizes.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: not even one image fits into memory.
    """
    rates: list[dict[int, list[float]]] = [
        {size: [] for size in _possible_sizes(each, images, device)} for each in nets
    ]
    for sweep in range(SWEEPS):
        for size in sorted({size for each in rates for size in each}):
            for index in order_of(sweep, len(nets)):
                if size in rates[index]:
                    rate = _rate(nets[index], take(images, 0, size), device)
                    rates[index][size].append(rate)
    medians = [{size: float(np.median(of)) for size, of in each.items()} for each in rates]
    best = [max(each.values()) for each in medians]
    sizes = [
        min(size for size, rate in each.items() if GAIN * rate >= most)
        for each, most in zip(medians, best, strict=True)
    ]
    return sizes, max(best)


def _possible_sizes(
    trained: Trained, images: UInt8[Tensor, "n 3 height width"], device: torch.device
) -> list[int]:
    """Those that fit into memory and take no longer than is worth waiting for."""
    sizes: list[int] = []
    size, time = 1, 0.0
    while size <= LARGEST_BATCH and 2 * time <= LONGEST_PASS:
        try:
            (time,) = timed(trained, take(images, 0, size), size, device)
        except (MemoryError, RuntimeError) as error:
            if not sizes or not is_out_of_memory(error):
                raise
            break
        sizes.append(size)
        size *= 2
    return sizes


def _rate(
    trained: Trained, images: UInt8[Tensor, "batch 3 height width"], device: torch.device
) -> float:
    """Images per second in one turn with this batch."""
    batch = trained.inputs(images, device)
    times: list[float] = []
    with as_in_prediction(trained.net, device, trained.bfloat16):
        _seconds(trained, batch, device)
        while sum(times) < SWEEP_TURN:
            times.append(_seconds(trained, batch, device))
    return len(images) * len(times) / sum(times)


def order_of(number: int, num_nets: int) -> list[int]:
    """Whose turn it is in a round: rotated, and every other round reversed."""
    order = [(number // 2 + place) % num_nets for place in range(num_nets)]
    return order[::-1] if number % 2 else order


def take(
    images: UInt8[Tensor, "n 3 height width"], start: int, num: int
) -> UInt8[Tensor, "num 3 height width"]:
    """The next images; after the last one comes the first again."""
    return images[torch.arange(start, start + num) % len(images)]


def timed(
    trained: Trained,
    images: UInt8[Tensor, "n 3 height width"],
    batch_size: int,
    device: torch.device,
) -> list[float]:
    """Seconds of each batch of the images, the first having run once untimed."""
    batches = trained.inputs(images, device).split(batch_size)
    with as_in_prediction(trained.net, device, trained.bfloat16):
        _seconds(trained, batches[0], device)
        return [_seconds(trained, batch, device) for batch in batches]


def _seconds(trained: Trained, batch: Tensor, device: torch.device) -> float:
    """From a batch on the device to its logits."""
    start = perf_counter()
    trained.net(batch)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return max(perf_counter() - start, 1e-9)
