"""One LightningModule around every pretraining: it learns from images alone."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from leanvit.augment.normalise import normalise
from leanvit.seeds import derive_seed
from leanvit.training.flops import reconstruct
from leanvit.training.trainable import Trainable


class Pretrainer(Trainable):
    """Normalise, reconstruct, compare with the image.

    The net is called with (normalised images, images in 0..1) and gives the loss; it stands around
    an ``encoder``, whose weights are ``net.encoder.<name>`` in the checkpoint. An epoch's draws
    (masks, dropout) come from (seed, epoch, rank), those of the validation from the seed alone:
    epochs are compared on the same masks.
    """

    step = staticmethod(reconstruct)

    def forward(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, ""]:
        return self.net(normalise(images, self.mean, self.std), images.float() / 255)

    def reconstruct(self, images: UInt8[Tensor, "batch 3 height width"]) -> dict[str, Tensor]:
        """What the net sees and makes of images, by name, in 0..1."""
        return self.net.reconstruct(normalise(images, self.mean, self.std), images.float() / 255)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, "train", self.current_epoch, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        loss = self(batch[0])
        self.log_training_loss(loss, batch_index, num_images=len(batch[0]))
        return loss

    def on_validation_epoch_start(self) -> None:
        torch.manual_seed(derive_seed(self.seed, "validation"))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        loss = self(batch[0])
        self.log("val/loss", loss, batch_size=len(batch[0]), prog_bar=True, sync_dist=True)
