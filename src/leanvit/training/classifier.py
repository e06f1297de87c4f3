"""One LightningModule around every net, loss and mixing."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leanvit.augment.normalise import normalise
from leanvit.balanced_accuracy import balanced_accuracy
from leanvit.classifiers.linear import last_linear
from leanvit.contracts import Mix, plain_net
from leanvit.losses.cumulative import Cumulative
from leanvit.models.pretrained import backbone_is_frozen
from leanvit.seeds import derive_seed
from leanvit.training.sharpness import SharpnessAware
from leanvit.training.trainable import Trainable
from leanvit.values import NonNegative


class Classifier(Trainable):
    """Normalise, mix, classify, sum the loss terms.

    Args:
        net: normalised images -> logits. If it has ``loss_terms(images, targets, criterion)``, the
            sum of the returned terms is minimised instead of the criterion alone. If it has
            ``is_late``, it is told in each step whether epoch ``late_epoch`` has come.
        loss, mix: see :mod:`leanvit.contracts`.
        classes: their names; kept in the checkpoint.
        late_loss, late_mix: take the place of ``loss`` and ``mix`` from epoch ``late_epoch`` on
            (from 0), for deferred re-weighting and for mixing that ends. Validation losses are
            ``late_loss``'s throughout, so that epochs compare.
        gradual: ``late_loss`` takes over little by little instead, from the first epoch on: see
            :class:`leanvit.losses.cumulative.Cumulative`.
        sam: radius of :class:`leanvit.training.sharpness.SharpnessAware`; 0 for plain steps.
        optimizer, scheduler, mean, std, trainable: see
            :class:`leanvit.training.trainable.Trainable`. An epoch's draws (dropout, mixing) come
            from (seed, epoch, rank).
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        mix: Mix,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        mean: Float32[Tensor, "3"],
        std: Float32[Tensor, "3"],
        classes: tuple[str, ...],
        late_loss: nn.Module | None = None,
        late_mix: Mix | None = None,
        late_epoch: int = 0,
        gradual: bool = False,
        sam: NonNegative = 0.0,
        **trainable: Any,
    ) -> None:
        super().__init__(net, optimizer, scheduler, mean, std, **trainable)
        self.loss_terms = getattr(net, "loss_terms", None)
        self.loss, self.mix = loss, mix
        self.late_loss, self.late_mix = late_loss or loss, late_mix or mix
        self.late_epoch = late_epoch
        if gradual:
            self.loss = Cumulative(loss, self.late_loss)
        if make_beside := getattr(mix, "beside", None):
            torch.manual_seed(derive_seed(self.seed, "beside"))
            layer = last_linear(plain_net(net))[2]
            self.beside, self.read = make_beside(layer.in_features), what_is_read(layer)
        self.sharpness = SharpnessAware(self, sam) if sam else None
        self.num_passes = 2 if sam else 1
        self.classes = classes
        self.max_norm: float | None = None  # of a class's weights, while the backbone is frozen
        self.seen: list[tuple[Tensor, Tensor]] = []  # logits and labels of validation batches

    def forward(
        self, images: UInt8[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch classes"]:
        return self.net(normalise(images, self.mean, self.std))

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.compile_net and self.loss_terms:  # which do not call the net
            self.loss_terms = torch.compile(self.loss_terms)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["classes"] = list(self.classes)

    @property
    def is_deferred(self) -> bool:
        """Whether loss, mixing or the net's own terms change at ``late_epoch``."""
        changes_loss = self.late_loss is not self.loss and not isinstance(self.loss, Cumulative)
        changes_mix = self.late_mix is not self.mix
        return changes_loss or changes_mix or hasattr(self.net, "is_late")

    def begin_late(self, epoch: int) -> None:
        """Let ``late_loss`` and ``late_mix`` hold from ``epoch`` on."""
        self.late_epoch = epoch

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, "train", self.current_epoch, self.global_rank))
        if isinstance(self.loss, Cumulative):
            self.loss.set_epoch(self.current_epoch, self.trainer.max_epochs or 0)
        net: Any = plain_net(self.net)
        self.max_norm = None
        if backbone_is_frozen(net):  # it is only read: no dropout, no batch statistics
            net.eval()
            net.head.train()
            self.max_norm = getattr(net, "max_norm", None)  # see classifiers.max_norm
            if getattr(net, "shifts_batch_norm", False):  # see classifiers.mislas
                for part in net.modules():
                    if isinstance(part, _BatchNorm):
                        part.train()

    def training_step(
        self,
        batch: tuple[UInt8[Tensor, "batch 3 height width"], Int64[Tensor, " batch"]],
        batch_index: int,
    ) -> Tensor:
        is_late = self.current_epoch >= self.late_epoch
        criterion = self.loss
        if is_late and not isinstance(criterion, Cumulative):
            criterion = self.late_loss
        mix = self.late_mix if is_late else self.mix
        if hasattr(self.net, "is_late"):
            self.net.is_late = is_late
        images, labels = batch
        images, targets = mix(normalise(images, self.mean, self.std), labels)
        with self.sharpness.first_pass() if self.sharpness else nullcontext():
            loss, terms = self._loss(images, targets, criterion)
        for name, term in terms.items():
            self.log(f"train/{name}", term, on_step=False, on_epoch=True, sync_dist=True)
        self.log_training_loss(loss, batch_index, num_images=len(targets))
        if self.sharpness:
            self.sharpness.uphill(loss)
            loss, _ = self._loss(images, targets, criterion)
        return loss

    def _loss(
        self, images: Tensor, targets: Tensor, criterion: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """And by name the terms that it is the sum of, if there are several."""
        if self.loss_terms:
            terms = self.loss_terms(images, targets, criterion)
        else:
            loss = criterion(self.net(images).float(), targets)
            if self.beside is None:
                return loss, {}
            terms = {"classification": loss}
        if self.beside is not None:
            terms["consistency"] = self.beside(self.read.pop())
        return torch.stack(list(terms.values())).sum(), terms

    def optimizer_step(self, *step: Any, **options: Any) -> None:
        super().optimizer_step(*step, **options)
        if self.max_norm is not None:
            last_linear(plain_net(self.net))[2].weight.data.renorm_(2, 0, self.max_norm)

    def on_after_backward(self) -> None:
        if self.sharpness:
            self.sharpness.back()

    def validation_step(
        self,
        batch: tuple[UInt8[Tensor, "batch 3 height width"], Int64[Tensor, " batch"]],
        batch_index: int,
    ) -> None:
        images, labels = batch
        self.seen.append((self(images).float(), labels))

    def on_validation_epoch_end(self) -> None:
        # of all images at once: of a batch of one class, weights and hardest images say nothing
        logits, labels = (torch.cat(each) for each in zip(*self.seen, strict=True))
        self.seen.clear()
        num_classes = len(self.classes)
        cells = labels * num_classes + logits.argmax(1)
        counts = torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
        told = {
            "val/loss": self.late_loss(logits, labels),
            "val/accuracy": (counts.trace() / counts.sum()).float(),
            "val/balanced_accuracy": balanced_accuracy(counts.double()),
        }
        # equal in all processes, as the images are; synced because Lightning warns otherwise
        for name, value in told.items():
            self.log(name, value, prog_bar=True, sync_dist=True)


def what_is_read(layer: nn.Module) -> list[Tensor]:
    """Holds what ``layer`` was last given in training."""
    read: list[Tensor] = []

    def remember(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if layer.training:
            read[:] = [given[0]]

    layer.register_forward_pre_hook(remember)
    return read
