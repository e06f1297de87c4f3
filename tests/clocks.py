"""A clock that nets move: what is timed by it takes as long as a test says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 2 bytes"),
    MemoryError(),
)
any_full_memory = pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeNet(nn.Module):
    """Each forward pass takes as long as its images say; who ran is written down."""

    def __init__(
        self,
        clock: Clock,
        seconds: Callable[[Tensor], float],
        diary: list[tuple[str, int]] | None = None,
        name: str = "a",
    ) -> None:
        super().__init__()
        self.clock, self.seconds, self.name = clock, seconds, name
        self.diary = [] if diary is None else diary
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training and torch.is_inference_mode_enabled()
        assert images.is_contiguous(memory_format=torch.channels_last)
        self.clock.now += self.seconds(images)
        self.seen.append(images)
        self.diary.append((self.name, len(images)))
        return images.mean(dim=(1, 2, 3))

    @property
    def batches(self) -> list[int]:
        """Images of each pass."""
        return [len(images) for images in self.seen]


def bounded(limit: int, error: Exception, seconds: Callable[[Tensor], float]) -> Callable:
    """Memory for a batch of ``limit``."""

    def checked(images: Tensor) -> float:
        if len(images) > limit:
            raise error
        return seconds(images)

    return checked
