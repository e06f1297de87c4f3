"""One LightningDataModule for every data source."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import UInt8
from torch import Tensor

from leanvit.augment.none import NoAugment
from leanvit.augment.normalise import channel_statistics
from leanvit.contracts import Augment, Order
from leanvit.data.images import ImageSet, Splits
from leanvit.data.loader import InOrder, ResidentLoader, WorkerLoader, make_loader
from leanvit.samplers.deferred import Deferred
from leanvit.samplers.with_partners import WithPartners
from leanvit.values import Count, Positive, Whole


class ImageDataModule(L.LightningDataModule):
    """Training and validation batches; the test set waits in ``test`` until the end.

    Args:
        splits: with a ``val`` (:func:`leanvit.data.split.with_validation`).
        sampler: called with (labels, seed, rank, num_ranks).
        augment: applied to training batches only.
        seed: of the order of images and the augmentation.
        late_sampler: takes the place of ``sampler`` from epoch ``late_epoch`` on.
        partners: of a mixing that wants some (:class:`leanvit.contracts.Mix`): training batches
            then are the ordinary images and as many partners.
        memory_gib: device memory that images may fill; ``None``: half of what is free.
    """

    def __init__(
        self,
        splits: Splits,
        sampler: Callable[..., Order],
        augment: Augment,
        batch_size: Count = 128,
        seed: Whole = 0,
        memory_gib: Positive | None = None,
        num_workers: Whole = 2,
        late_sampler: Callable[..., Order] | None = None,
        late_epoch: Whole = 0,
        partners: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        assert splits.val is not None
        self.train, self.val, self.test = splits.train, splits.val, splits.test
        self.sampler, self.augment, self.batch_size = sampler, augment, batch_size
        self.seed, self.memory_gib, self.num_workers = seed, memory_gib, num_workers
        self.late_sampler, self.late_epoch = late_sampler, late_epoch
        self.partners = partners
        self.deferred: Deferred | None = None

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel of a sample of the training images, in 0..1."""
        images = self.train.images
        return channel_statistics(images if isinstance(images, Tensor) else self.sample(1000))

    def sample(self, num_images: int) -> UInt8[Tensor, "n 3 height width"]:
        """At least so many training images, evenly spaced, or all."""
        images, step = self.train.images, max(1, len(self.train) // num_images)
        if isinstance(images, Tensor):
            return images[::step]
        return torch.stack([images[i] for i in range(0, len(images), step)])

    def train_dataloader(self) -> ResidentLoader | WorkerLoader:
        assert self.trainer is not None
        place: dict[str, Any] = {
            "labels": self.train.labels,
            "seed": self.seed,
            "rank": self.trainer.global_rank,
            "num_ranks": self.trainer.world_size,
        }
        sampler = self.sampler(**place)
        if self.late_sampler is not None:
            sampler = self.deferred = Deferred(sampler, self.late_sampler(**place), self.late_epoch)
        if self.partners is None:
            return self._loader(self.train, sampler, self.augment, drop_last=True)
        weights = self.partners(place.pop("labels"))
        sampler = WithPartners(sampler, weights, self.batch_size, **place)
        return self._loader(
            self.train, sampler, self.augment, drop_last=True, batch_size=2 * self.batch_size
        )

    def begin_late(self, epoch: int) -> None:
        """Let ``late_sampler`` draw from ``epoch`` on."""
        self.late_epoch = epoch
        if self.deferred is not None:
            self.deferred.start = epoch

    def val_dataloader(self) -> ResidentLoader | WorkerLoader:
        # every rank sees all of it: the figures are exact, and ten per cent of an epoch is cheap
        return self._loader(self.val, InOrder(len(self.val)), NoAugment())

    def _loader(
        self,
        data: ImageSet,
        sampler: Order,
        augment: Augment,
        drop_last: bool = False,
        batch_size: int | None = None,
    ) -> ResidentLoader | WorkerLoader:
        assert self.trainer is not None
        return make_loader(
            data,
            sampler,
            augment,
            batch_size or self.batch_size,
            self.trainer.strategy.root_device,
            self.memory_gib,
            self.num_workers,
            seed=self.seed,
            rank=self.trainer.global_rank,
            drop_last=drop_last,
        )
