"""What every training has: a net, its optimizer, the normalisation, and a guard against NaN."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leanvit.errors import LeanvitError
from leanvit.training.flops import classify
from leanvit.training.parameter_groups import hidden_matrices, parameter_groups
from leanvit.values import NonNegative, PositiveShare, Whole, offered

CHECK_EVERY = 50  # steps between looks at the loss: each look waits for the device


class Trainable(L.LightningModule):
    """A net with all that does not depend on what it learns.

    Args:
        optimizer: called with parameter groups; and with ``hidden``, the matrices within the net,
            if it names them.
        scheduler: called with (optimizer, num_steps), stepped after each step.
        mean, std: of the training images, per channel, in 0..1; kept in the checkpoint.
        seed: of every draw of every epoch.
        weight_decay, layer_decay, backbone_lr: see
            :func:`leanvit.training.parameter_groups.parameter_groups`.
        gradient_clip: largest norm of the gradient, or ``None``.
        compile_net: compile what a step calls when training starts, and evaluation where it takes
            the same steps for each image.

    Attributes:
        beside: weights that are trained with the net and are no part of it, or ``None``.
        num_passes: forward and backward, over each image of a step.
        num_images: that the net saw in the last training step, on this rank.
        schedule_step: after a step of the optimizer, where of ``num_steps`` the schedule stands, if
            that is not the number of steps.
        num_steps: of the schedule; None: as many as the trainer expects.
        step: what a step computes, see :func:`leanvit.training.flops.training_flops`.
    """

    num_passes = 1
    num_images = 0
    num_steps: int | None = None
    schedule_step: Callable[[], int] | None = None
    step = staticmethod(classify)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        mean: Float32[Tensor, "3"],
        std: Float32[Tensor, "3"],
        seed: Whole = 0,
        weight_decay: NonNegative = 0.0,
        layer_decay: PositiveShare = 1.0,
        backbone_lr: PositiveShare = 1.0,
        gradient_clip: NonNegative | None = None,
        compile_net: bool = False,
    ) -> None:
        super().__init__()
        # conv nets run faster channels last, and images arrive so; others do not mind
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.beside: nn.Module | None = None
        self.optimizer, self.scheduler = optimizer, scheduler
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.seed, self.gradient_clip, self.compile_net = seed, gradient_clip, compile_net
        self.weight_decay, self.layer_decay = weight_decay, layer_decay
        self.backbone_lr = backbone_lr

    def log(self, *args: Any, **options: Any) -> None:
        """As Lightning's, but loggers have it from the history, which is told again on resuming."""
        super().log(*args, **{**options, "logger": False})

    def on_fit_start(self) -> None:
        if self.compile_net and getattr(self.net, "fixed_steps", True):
            self.net.compile()

    def backward(self, loss: Tensor, *args: Any, **options: Any) -> None:
        """Of a batch's share in a step, whose gradient is the mean over all its images.

        Batches are equally large. The trainer has divided by ``accumulate``; the last step of an
        epoch may have fewer batches.
        """
        whole = self.trainer.accumulate_grad_batches
        before = self.trainer.fit_loop.batch_idx // whole * whole
        num_batches = min(whole, int(self.trainer.num_training_batches) - before)
        if num_batches < whole:
            loss = loss * (whole / num_batches)
        super().backward(loss, *args, **options)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # not left to the trainer, which refuses to clip for fused optimizers
        if self.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.gradient_clip)

    def on_train_epoch_end(self) -> None:
        self.refuse_nan(self.trainer.callback_metrics["train/loss"])  # before it is saved

    def configure_optimizers(self) -> Any:
        values = self.weight_decay, self.layer_decay, self.backbone_lr
        groups = parameter_groups(self.net, *values, self.beside)
        optimizer = self.optimizer(
            groups, **offered(self.optimizer, hidden=hidden_matrices(self.net))
        )
        for group in optimizer.param_groups:  # before the scheduler takes them as what it scales
            group["lr"] *= group["lr_scale"]
        num_steps = self.num_steps or int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler(optimizer, num_steps=num_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.schedule_step:
            scheduler.last_epoch = self.schedule_step() - 1
        scheduler.step()

    def log_training_loss(self, loss: Tensor, batch_index: int, num_images: int) -> None:
        """Log the loss of a step, and now and then look at it.

        Args:
            num_images: that the net saw in it; a batch may hold more.
        """
        self.num_images = num_images
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True)
        if batch_index % CHECK_EVERY == 0:
            self.refuse_nan(loss)

    def refuse_nan(self, loss: Tensor) -> None:
        """Stop where the loss is no number.

        Raises:
            LeanvitError: it is not.
        """
        if not torch.isfinite(loss):
            raise LeanvitError(
                f"the training loss became {float(loss)} in epoch {self.current_epoch + 1}: lower "
                "optimizer.lr, or train in float32 with trainer.precision=32-true"
            )
