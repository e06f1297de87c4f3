"""MAE: the masked autoencoder, which learns by completing images of which it sees a quarter.

Source: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022
(https://arxiv.org/abs/2111.06377); details as in the official code
(https://github.com/facebookresearch/mae).

- Each image has its own random patches masked, three quarters of them.
- The encoder sees [CLS] and the visible patches only, and so its blocks cost about a quarter.
- A light decoder sees them at their places among copies of one learnable mask token, with positions
  of sines and cosines, and says the pixels of every patch.
- Targets are the pixels of a patch less their mean, over their deviation; the loss is the mean
  square error over masked patches.

Deviations:

- Targets are made of pixels in 0..1; the official code's are normalised by channel before. The
  difference is how much each channel counts.
- The encoder is a net of leanvit as it is configured: learnable positions, where the official one
  has sines and cosines, its own initialisation, and stochastic depth unless
  ``model.drop_path_rate=0``. The decoder is initialised as published.
- Pixels within a patch go row by row, as in the official code; visible patches go row by row too,
  not shuffled, which no block can tell.
"""

from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.cct import sinusoidal_positions
from leanvit.models.fits import check_fits
from leanvit.models.vit import Block
from leanvit.pretraining.encoder import freeze_unused, patch_grid
from leanvit.values import Between, Count, Whole


class MAE(nn.Module):
    """Masked autoencoder around a ViT.

    Args:
        encoder: the net to be pretrained. Its head and readout are kept and not trained.
        image_size: height and width of the images in pixels.
        mask_ratio: share of the patches that are masked.
        decoder_dim: channels of a token in the decoder; even, and divisible by ``decoder_heads``.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of such a block.
        decoder_mlp_dim: channels of its MLP's hidden layer.
        norm_pix_loss: normalise the pixels of each patch; otherwise they are targets as they are.

    Raises:
        LeanvitError: the encoder cannot do without some of its patches, or a value that cannot be.
    """

    decoder_position: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        image_size: Count,
        mask_ratio: Between = 0.75,
        decoder_dim: Count = 128,
        decoder_depth: Whole = 2,
        decoder_heads: Count = 4,
        decoder_mlp_dim: Count = 256,
        norm_pix_loss: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = _check_encoder(encoder, image_size)
        grid, self.patch_size = patch_grid(encoder, image_size, "mae")
        _check_values(mask_ratio, grid**2, decoder_dim, decoder_heads)
        self.grid, self.norm_pix_loss = grid, norm_pix_loss
        self.num_visible = grid**2 - round(mask_ratio * grid**2)
        freeze_unused(self.encoder)
        dim = self.encoder.position_embedding.shape[2]
        self.decoder_embedding = nn.Linear(dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, decoder_dim))
        positions = grid_positions(grid, decoder_dim)
        self.register_buffer("decoder_position", positions, persistent=False)
        self.decoder_blocks = nn.ModuleList(
            Block(
                decoder_dim,
                decoder_heads,
                decoder_mlp_dim,
                dropout=0.0,
                drop_path_rate=0.0,
                qkv_bias=True,
                norm_eps=1e-6,
                attention="sdpa",
            )
            for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, 1e-6)
        self.decoder_head = nn.Linear(decoder_dim, 3 * self.patch_size**2)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)
        for part in (self.decoder_embedding, self.decoder_blocks, self.decoder_head):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        pixels: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, ""]:
        """The loss of completing ``images``, drawn masks applied.

        Args:
            images: normalised, as the encoder takes them.
            pixels: the same in 0..1, which the targets are made of.
        """
        visible = self.draw_visible(images)
        predicted = self.decode(self.encode(images, visible), visible)
        targets, _, _ = self.targets(pixels)
        errors = (predicted.to(targets.dtype) - targets).square().mean(dim=2)
        masked = torch.ones_like(errors).scatter(1, visible, 0.0)
        return (errors * masked).sum() / masked.sum()

    def draw_visible(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Int64[Tensor, "batch visible"]:
        """Patches that stay visible, of each image its own, in ascending order."""
        noise = torch.rand(len(images), self.grid**2, device=images.device)
        return noise.argsort(dim=1)[:, : self.num_visible].sort(dim=1).values

    def encode(
        self,
        images: Float[Tensor, "batch 3 height width"],
        visible: Int64[Tensor, "batch visible"],
    ) -> Float[Tensor, "batch 1+visible dim"]:
        """What the encoder makes of [CLS] and the visible patches, which are all it sees."""
        tokens = self.encoder.begin(images)
        index = repeat(visible, "batch visible -> batch visible dim", dim=tokens.shape[2])
        tokens = torch.cat((tokens[:, :1], tokens[:, 1:].gather(1, index)), dim=1)
        for block in self.encoder.blocks:
            tokens = block(tokens)
        return self.encoder.norm(tokens)

    def decode(
        self,
        encoded: Float[Tensor, "batch tokens dim"],
        visible: Int64[Tensor, "batch visible"],
    ) -> Float[Tensor, "batch patches values"]:
        """Normalised pixels of every patch, the visible ones too, which the loss ignores."""
        tokens = self.decoder_embedding(encoded)
        patches = self.mask_token.to(tokens.dtype).expand(len(tokens), self.grid**2, -1)
        index = repeat(visible, "batch visible -> batch visible dim", dim=tokens.shape[2])
        patches = patches.scatter(1, index, tokens[:, 1:]) + self.decoder_position
        tokens = torch.cat(
            (tokens[:, :1], patches), dim=1
        )  # [CLS] has the position 0, as published
        for block in self.decoder_blocks:
            tokens = block(tokens)
        return self.decoder_head(self.decoder_norm(tokens[:, 1:]))

    def targets(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[
        Float[Tensor, "batch patches values"],
        Float[Tensor, "batch patches 1"] | float,
        Float[Tensor, "batch patches 1"] | float,
    ]:
        """What the decoder shall say, and the mean and deviation that make it pixels again."""
        patches = rearrange(
            pixels,
            "batch channels (rows height) (columns width)"
            " -> batch (rows columns) (height width channels)",
            height=self.patch_size,
            width=self.patch_size,
        )
        if not self.norm_pix_loss:
            return patches, 0.0, 1.0
        mean = patches.mean(dim=2, keepdim=True)
        deviation = (patches.var(dim=2, keepdim=True) + 1e-6).sqrt()
        return (patches - mean) / deviation, mean, deviation

    def reconstruct(
        self,
        images: Float[Tensor, "batch 3 height width"],
        pixels: Float[Tensor, "batch 3 height width"],
    ) -> dict[str, Float[Tensor, "batch 3 height width"]]:
        """What is seen, and what is made of it, in 0..1; arguments as of :meth:`forward`.

        Visible patches are pasted into the reconstruction. With ``norm_pix_loss`` the masked ones
        take their mean and deviation from ``pixels``, which the net does not say: as published.
        """
        visible = self.draw_visible(images)
        predicted = self.decode(self.encode(images, visible), visible)
        _, mean, deviation = self.targets(pixels)
        predicted = predicted.to(pixels.dtype) * deviation + mean
        shown = torch.zeros(len(images), self.grid**2, 1, dtype=torch.bool, device=images.device)
        shown = shown.scatter(1, visible[:, :, None], True)
        shown_pixels = self._to_images(shown.expand_as(predicted))
        grey = torch.full_like(pixels, 0.5)
        return {
            "masked": torch.where(shown_pixels, pixels, grey),
            "reconstruction": torch.where(shown_pixels, pixels, self._to_images(predicted)),
        }

    @property
    def explanation(self) -> str:
        """What a figure of :meth:`reconstruct` says below."""
        if not self.norm_pix_loss:
            return "Masked patches are grey, and in the reconstruction what the net says of them."
        return (
            "Masked patches are grey. In the reconstruction they show what the net says of their "
            "pattern; their mean and contrast are the original's."
        )

    def _to_images(self, patches: Tensor) -> Tensor:
        return rearrange(
            patches,
            "batch (rows columns) (height width channels)"
            " -> batch channels (rows height) (columns width)",
            rows=self.grid,
            height=self.patch_size,
            width=self.patch_size,
        )


def grid_positions(grid: int, dim: int) -> Float[Tensor, "patches dim"]:
    """Sines and cosines of the column in half of the channels, of the row in the other half."""
    line = sinusoidal_positions(grid, dim // 2)
    columns = repeat(line, "columns half -> (rows columns) half", rows=grid)
    rows = repeat(line, "rows half -> (rows columns) half", columns=grid)
    return torch.cat((columns, rows), dim=1)


def _check_encoder(encoder: nn.Module, image_size: int) -> Any:
    name = type(encoder).__name__
    fits = "vit, and vit_b_16 on images of its input_size; or choose pretrain=autoencoder"
    grid, patch_size = patch_grid(encoder, image_size, "mae")
    reason = "whose tokens see more than one patch each"
    net = check_fits(encoder, "pretrain=mae", reason, fits)
    kernel_size = net.patch_embedding.kernel_size[0]
    if kernel_size != patch_size:
        raise LeanvitError(
            f"pretrain=mae: {name} enlarges images of {image_size} pixels to "
            f"{grid * kernel_size}, where patches share what they show: it fits {fits}"
        )
    return net


def _check_values(mask_ratio: float, num_patches: int, dim: int, heads: int) -> None:
    if not 0 < round(mask_ratio * num_patches) < num_patches:
        raise LeanvitError(
            f"pretrain.mask_ratio={mask_ratio} of {num_patches} patches leaves none masked or "
            "none visible: give a share between 0 and 1, such as 0.75"
        )
    if dim % heads or dim % 2:
        raise LeanvitError(
            f"pretrain.decoder_dim={dim} must be even and divisible by pretrain.decoder_heads="
            f"{heads}; such as {2 * heads * (dim // (2 * heads) + 1)}"
        )
