"""How fast a net is on this machine, and how much memory it takes.

- A net runs as :func:`measure.predict.predict` runs it. It is moved to the device and stays.
- A time is the median of many forward passes, after some that only warm up.
- Each measurement has a budget of seconds. One forward pass may overrun it, no more: where a single
  one takes longer than the budget, its time is the measurement.
"""

import statistics
import weakref
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leanvit.evaluation.measure.predict import as_in_prediction

NUM_WARM = 3  # passes that are not counted: memory is taken, kernels are chosen
NUM_TIMED = 100  # more of them tell no more
GAIN = 1.03  # a rate that is not this much higher is noise, not an improvement
LARGEST_BATCH = 2**16


@dataclass(frozen=True)
class Speed:
    """What :func:`latency`, :func:`throughput` and :func:`peak_memory` measured."""

    latency_seconds: float
    images_per_second: float
    batch_size: int
    peak_bytes: int


class Throughput(NamedTuple):
    """The best rate, and the smallest batch that reaches it."""

    images_per_second: float
    batch_size: int


def measure_speed(net: nn.Module, image_size: int, device: torch.device, bfloat16: bool) -> Speed:
    """Latency, throughput, and the memory of the best batch, within some ten seconds."""
    seconds = latency(net, image_size, device, bfloat16)
    rate, batch_size = throughput(net, image_size, device, bfloat16)
    peak_bytes = peak_memory(net, image_size, batch_size, device, bfloat16)
    return Speed(seconds, rate, batch_size, peak_bytes)


def latency(
    net: nn.Module, image_size: int, device: torch.device, bfloat16: bool, budget: float = 2.0
) -> float:
    """Seconds from one image on the device to its logits."""
    with as_in_prediction(net, device, bfloat16):
        return _median_seconds(net, _images(1, image_size, device), perf_counter() + budget)


def throughput(
    net: nn.Module, image_size: int, device: torch.device, bfloat16: bool, budget: float = 6.0
) -> Throughput:
    """Images per second at the best batch size.

    Batches are doubled until two doublings in a row gain nothing, memory is full, or the next size
    would not fit into the budget.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: not even one image fits into memory.
    """
    end = perf_counter() + budget
    best = Throughput(0.0, 0)
    batch_size, num_vain = 1, 0
    with as_in_prediction(net, device, bfloat16):
        while num_vain < 2 and batch_size <= LARGEST_BATCH:
            start = perf_counter()
            try:
                images = _images(batch_size, image_size, device)
                making = perf_counter() - start
                seconds = _median_seconds(net, images, min(end, start + budget / 10))
            except (MemoryError, RuntimeError) as error:
                if not best.batch_size or not is_out_of_memory(error):
                    raise
                break
            rate = batch_size / max(seconds, 1e-9)
            num_vain += 1
            if rate > GAIN * best.images_per_second:
                best, num_vain = Throughput(rate, batch_size), 0
            batch_size *= 2
            if perf_counter() + 2 * (making + seconds) > end:
                break
    return best


def peak_memory(
    net: nn.Module, image_size: int, batch_size: int, device: torch.device, bfloat16: bool
) -> int:
    """Most bytes held at once while a batch is classified: weights, images and activations.

    On a GPU what PyTorch's allocator gave out, other live tensors of this process included.
    Elsewhere the tensors of the net, of the batch and of every operation; what a kernel takes for
    itself is not seen. That figure does not vary from run to run.
    """
    with as_in_prediction(net, device, bfloat16):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            net(_images(batch_size, image_size, device))
            return torch.cuda.max_memory_allocated(device)
        images = _images(batch_size, image_size, device)
        # inference mode would hide what an operation is made of
        with torch.inference_mode(False), torch.no_grad(), _LiveBytes(net, images) as live:
            net(images)
        return live.peak


def _images(batch_size: int, image_size: int, device: torch.device) -> Tensor:
    # no zeros: they cost a GPU less power, and so less time, than images do
    images = torch.rand(batch_size, 3, image_size, image_size, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def _median_seconds(net: nn.Module, images: Tensor, until: float) -> float:
    """Of one forward pass; passes go on until the time given, or until there are enough."""
    times: list[float] = []
    start = perf_counter()
    while len(times) < NUM_WARM + NUM_TIMED:
        net(images)
        if images.device.type != "cpu":
            torch.accelerator.synchronize(images.device)
        now = perf_counter()
        times.append(now - start)
        start = now
        if now > until:
            break
    return statistics.median(times[min(NUM_WARM, len(times) - 1) :])


def is_out_of_memory(error: Exception) -> bool:
    """CPU memory that cannot be had is a plain RuntimeError in torch."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


class _LiveBytes(TorchDispatchMode):
    """Within the block ``peak`` is the most bytes that weights, images and results held at once."""

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        super().__init__()
        given = [each.untyped_storage() for each in (*net.parameters(), *net.buffers(), images)]
        # by storage: views of one tensor are counted once
        self.bytes_of = {storage._cdata: storage.nbytes() for storage in given}
        self.live = self.peak = sum(self.bytes_of.values())

    def see(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.bytes_of:
            self.bytes_of[storage._cdata] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, storage._cdata)

    def forget(self, storage: int) -> None:
        self.live -= self.bytes_of.pop(storage)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self.see(each.untyped_storage())
        return result
