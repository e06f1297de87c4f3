"""One LightningModule around every pretraining: it learns from images alone."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leanvit.augment.normalise import normalise
from leanvit.errors import LeanvitError
from leanvit.seeds import derive_seed
from leanvit.training.parameter_groups import parameter_groups

CHECK_EVERY = 50  # steps between looks at the loss: each look waits for the device


class Pretrainer(L.LightningModule):
    """Normalise, reconstruct, compare with the image.

    Args:
        net: (normalised images, images in 0..1) -> loss, around an ``encoder``. Its weights stand
            in the checkpoint as ``net.encoder.<name>``.
        optimizer: called with parameter groups.
        scheduler: called with (optimizer, num_steps), stepped after each step.
        mean, std: of the training images, per channel, in 0..1; kept in the checkpoint.
        seed: an epoch's draws (masks, dropout) come from (seed, epoch, rank), those of the
            validation from the seed alone: epochs are compared on the same masks.
        weight_decay: see :func:`leanvit.training.parameter_groups.parameter_groups`.
        gradient_clip: largest norm of the gradient, or ``None``.
        compile_net: compile the net when training starts.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        mean: Float32[Tensor, "3"],
        std: Float32[Tensor, "3"],
        seed: int = 0,
        weight_decay: float = 0.0,
        gradient_clip: float | None = None,
        compile_net: bool = False,
    ) -> None:
        super().__init__()
        # conv nets run faster channels last, and images arrive so; others do not mind
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer, self.scheduler = optimizer, scheduler
        self.weight_decay = weight_decay
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.seed, self.gradient_clip, self.compile_net = seed, gradient_clip, compile_net

    def forward(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, ""]:
        return self.net(normalise(images, self.mean, self.std), images.float() / 255)

    def reconstruct(self, images: UInt8[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """What the net sees and makes of images, by name, in 0..1."""
        return self.net.reconstruct(normalise(images, self.mean, self.std), images.float() / 255)

    def on_fit_start(self) -> None:
        if self.compile_net:
            self.net.compile()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, "train", self.current_epoch, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        loss = self(batch[0])
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True)
        if batch_index % CHECK_EVERY == 0:
            self._refuse_nan(loss)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # not left to the trainer, which refuses to clip for fused optimizers
        if self.gradient_clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.gradient_clip)

    def on_train_epoch_end(self) -> None:
        self._refuse_nan(self.trainer.callback_metrics["train/loss"])  # before it is saved

    def on_validation_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, "validation"))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        loss = self(batch[0])
        self.log("val/loss", loss, batch_size=len(batch[0]), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(parameter_groups(self.net, self.weight_decay))
        num_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler(optimizer, num_steps=num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _refuse_nan(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise LeanvitError(
                f"the training loss became {float(loss)} in epoch {self.current_epoch + 1}: lower "
                "optimizer.lr, or train in float32 with trainer.precision=32-true"
            )
