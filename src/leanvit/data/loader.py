"""Batches on the training device: gathered from resident images, or decoded by workers.

Both loaders yield ``(uint8 images (B, 3, H, W), labels (B,))`` on the device, augmented as
``augment(augment.prepare(images), index, generator)``. The draws of an epoch come from
(seed, epoch, rank).

Small batches are augmented several at once: an operation on a few images takes as long to start
as to compute, on a GPU longer still.
"""

import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leanvit.contracts import Augment, Order
from leanvit.data.decode import free_memory_gib
from leanvit.data.images import ImageSet
from leanvit.errors import LeanvitError
from leanvit.seeds import derive_seed

# Pixels augmented at once: 1,024 images of 32 x 32. On a CPU more would leave its cache.
CHUNK_PIXELS = 2**20
SHARED = Path("/dev/shm")  # where torch's workers leave batches


class InOrder:
    """Every index once, in order: for evaluation."""

    epoch = 0

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return self.num_images

    def indices(self) -> Int64[Tensor, " n"]:
        return torch.arange(self.num_images)


class ResidentLoader:
    """All images live on ``device``; each gather makes a few batches.

    Lightning calls ``sampler.set_epoch`` before each epoch.
    """

    batch_sampler = None  # Lightning looks for it, as torch's DataLoader has one

    def __init__(
        self,
        data: ImageSet,
        sampler: Order,
        augment: Augment,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        rank: int = 0,
        drop_last: bool = False,
    ) -> None:
        assert isinstance(data.images, Tensor)
        self.chunk_size = batch_size * batches_at_once(data, batch_size)
        self.images = augment.prepare(data.images).to(device)
        self.labels = data.labels.to(device)
        self.sampler, self.augment, self.batch_size = sampler, augment, batch_size
        self.device, self.seed, self.rank, self.drop_last = device, seed, rank, drop_last

    def __len__(self) -> int:
        return num_batches(len(self.sampler), self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.sampler.indices()[: len(self) * self.batch_size].to(self.device)
        tell_epoch(self.augment, self.sampler.epoch)
        generator = torch.Generator(self.device)
        generator.manual_seed(derive_seed(self.seed, "augment", self.sampler.epoch, self.rank))
        for index in order.split(self.chunk_size):
            images = self.augment(self.images, index, generator)
            yield from _in_batches(images, self.labels[index], self.batch_size)


class WorkerLoader:
    """Worker processes gather or decode images, the device augments them.

    For image sets that do not fit the device. Batches are in the same order as the resident
    loader's.
    """

    batch_sampler = None  # as above

    def __init__(
        self,
        data: ImageSet,
        sampler: Order,
        augment: Augment,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        rank: int = 0,
        drop_last: bool = False,
        num_workers: int = 2,
    ) -> None:
        self.num_at_once = batches_at_once(data, batch_size)
        self.sampler, self.augment, self.batch_size = sampler, augment, batch_size
        self.device, self.seed, self.rank = device, seed, rank
        self.batches = DataLoader(
            _Images(data),
            batch_size=batch_size,
            sampler=_Indices(sampler),
            drop_last=drop_last and len(sampler) >= batch_size,  # as num_batches has it
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it takes a draw of the epoch's in each new process
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator(self.device)
        generator.manual_seed(derive_seed(self.seed, "augment", self.sampler.epoch, self.rank))
        loaded = self._loaded()
        tell_epoch(self.augment, self.sampler.epoch)
        while some := list(islice(loaded, self.num_at_once)):
            images = torch.cat([images.to(self.device, non_blocking=True) for images, _ in some])
            labels = torch.cat([labels.to(self.device) for _, labels in some])
            index = torch.arange(len(labels), device=self.device)
            images = self.augment(self.augment.prepare(images), index, generator)
            yield from _in_batches(images, labels, self.batch_size)

    def _loaded(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            yield from self.batches
        except LeanvitError as error:  # a worker's message comes below the worker's traceback
            last = str(error).strip().splitlines()[-1]
            raise LeanvitError(last.removeprefix("leanvit.errors.LeanvitError: ")) from error


def tell_epoch(augment: Augment, epoch: int) -> None:
    """Before each epoch, to an augmentation that wants to know."""
    if hasattr(augment, "set_epoch"):
        augment.set_epoch(epoch)


def num_batches(num_images: int, batch_size: int, drop_last: bool) -> int:
    """Batches in an epoch; a set smaller than one batch is one batch all the same."""
    if drop_last and num_images >= batch_size:
        return num_images // batch_size
    return -(-num_images // batch_size)


def batches_at_once(data: ImageSet, batch_size: int) -> int:
    """Batches augmented in one call: the same for both loaders, as the draws depend on it."""
    return max(1, CHUNK_PIXELS // (batch_size * _num_pixels(data)))


def _num_pixels(data: ImageSet) -> int:
    """Of one image."""
    if isinstance(data.images, Tensor):
        return data.images.shape[-2] * data.images.shape[-1]
    return data.images.image_size**2


def _in_batches(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(images.split(batch_size), labels.split(batch_size), strict=True)


def make_loader(
    data: ImageSet,
    sampler: Order,
    augment: Augment,
    batch_size: int,
    device: torch.device,
    memory_gib: float | None = None,
    num_workers: int = 2,
    **options: Any,
) -> ResidentLoader | WorkerLoader:
    """Images resident on ``device`` where they fit, else worker processes, and says so.

    Args:
        memory_gib: what the images may fill; ``None``: half of what is free on the device.
        options: seed, rank, drop_last of the loaders.
    """
    images = data.images
    if isinstance(images, Tensor):
        limit = device_memory_gib(device) / 2 if memory_gib is None else memory_gib
        size = augment.prepare(images[:1]).nbytes * len(images) / 2**30
        if size <= limit:
            return ResidentLoader(data, sampler, augment, batch_size, device, **options)
        why = f"{size:.1f} GiB of images, more than the {limit:.1f} GiB to spend on {device}"
    else:
        why = f"{len(data):,} images, too many to hold decoded in memory"
    if num_workers and has_room_for(num_workers, data, batch_size):
        who = f"{num_workers} worker processes load each batch"
    else:
        too_small = "; /dev/shm is too small for worker processes" if num_workers else ""
        num_workers, who = 0, f"this process loads each batch{too_small}"
    print(f"{why}: {who}", file=sys.stderr)
    return WorkerLoader(
        data, sampler, augment, batch_size, device, num_workers=num_workers, **options
    )


def has_room_for(num_workers: int, data: ImageSet, batch_size: int) -> bool:
    """Whether what workers pass on at once, in training and in validation, fits where it passes."""
    num_images = batch_size * (2 * num_workers + batches_at_once(data, batch_size))
    size = 2 * num_images * 3 * _num_pixels(data)
    return not SHARED.exists() or size <= shutil.disk_usage(SHARED).free  # none: not Linux


def device_memory_gib(device: torch.device) -> float:
    """Memory that is free on the device now, in GiB."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    return free_memory_gib()


class _Images(Dataset):
    def __init__(self, data: ImageSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "3 height width"], Tensor]:
        return self.data.images[index], self.data.labels[index]


class _Indices:
    """A sampler's indices as the integers that torch's DataLoader iterates over."""

    def __init__(self, sampler: Order) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        return iter(self.sampler.indices().tolist())
