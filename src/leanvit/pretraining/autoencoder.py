"""Autoencoder: a net of tokens learns what it takes to draw the image again.

Source: the course's two-stage training of a ViT, an encoder with a decoder of transposed
convolutions up to the image and a Tanh, the image scaled to -1..1 as the target; the decoder's
layers are those of DCGAN's generator, Radford et al. 2016 (https://arxiv.org/abs/1511.06434).

- The encoder sees the whole image. Its patch tokens, after the last norm, go back to their places
  on the grid; [CLS] is left out.
- Transposed convolutions, each followed by BatchNorm and ReLU, enlarge the grid to the image, a
  patch of 4 pixels in two steps, one of 16 in four. The last one gives the colours.
- Tanh, and the mean square error to the image in -1..1.

Deviations: none is known; the course's widths are not published. They are ``decoder_dim`` after the
first step and half as many after each further one, as in DCGAN.
"""

from typing import Any

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.pretraining.encoder import freeze_unused, patch_grid
from leanvit.values import Count


class Autoencoder(nn.Module):
    """Autoencoder around a net of tokens: ViT, CCT, Linformer.

    Args:
        encoder: the net to be pretrained. Its head and readout are kept and not trained.
        image_size: height and width of the images in pixels.
        decoder_dim: channels after the first transposed convolution; halved by each further one.

    Raises:
        LeanvitError: the encoder has no tokens on a grid, or ``decoder_dim`` is too small.
    """

    # what a figure of `reconstruct` says below
    encoder: Any  # a NetOfTokens
    explanation = "The decoder draws the image from the tokens of its patches."

    def __init__(self, encoder: nn.Module, image_size: Count, decoder_dim: Count = 128) -> None:
        super().__init__()
        self.grid, patch_size = patch_grid(encoder, image_size, "autoencoder")
        self.encoder = encoder
        freeze_unused(self.encoder)
        dim = self.encoder.position_embedding.shape[2]
        self.decoder = _decoder(dim, decoder_dim, _prime_factors(patch_size))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        pixels: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, ""]:
        """The loss of drawing ``images`` again.

        Args:
            images: normalised, as the encoder takes them.
            pixels: the same in 0..1, which the targets are made of.
        """
        return F.mse_loss(self.draw(images).to(pixels.dtype), 2 * pixels - 1)

    def draw(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """The images as the decoder draws them, in -1..1."""
        tokens = self.encoder.begin(images)
        for block in self.encoder.blocks:
            tokens = block(tokens)
        tokens = self.encoder.norm(tokens)[:, self.encoder.num_prefix :]
        features = rearrange(
            tokens, "batch (rows columns) dim -> batch dim rows columns", rows=self.grid
        )
        return self.decoder(features)

    def reconstruct(
        self,
        images: Float[Tensor, "batch 3 height width"],
        pixels: Float[Tensor, "batch 3 height width"],
    ) -> dict[str, Float[Tensor, "batch 3 height width"]]:
        """What is made of the images, in 0..1; arguments as of :meth:`forward`."""
        return {"reconstruction": (self.draw(images).to(pixels.dtype) + 1) / 2}


def _decoder(dim: int, decoder_dim: int, factors: list[int]) -> nn.Sequential:
    """A transposed convolution for each factor that it enlarges the map by."""
    widths = [dim, *(decoder_dim >> step for step in range(len(factors) - 1)), 3]
    if min(widths) < 3:
        raise LeanvitError(
            f"pretrain.decoder_dim={decoder_dim} is too small for {len(factors)} steps, each of "
            f"which halves it: take {3 * 2 ** (len(factors) - 2)} or more"
        )
    layers: list[nn.Module] = []
    for step, factor in enumerate(factors):
        if step:
            layers += [nn.BatchNorm2d(widths[step]), nn.ReLU()]
        # one pixel wider on each side than the stride: neighbours overlap, no seams between them
        is_last = step == len(factors) - 1
        convolution = nn.ConvTranspose2d(
            widths[step], widths[step + 1], factor + 2, stride=factor, padding=1, bias=is_last
        )
        nn.init.normal_(convolution.weight, std=0.02)
        layers.append(convolution)
    return nn.Sequential(*layers, nn.Tanh())


def _prime_factors(number: int) -> list[int]:
    """Ascending; of 1 the 1 itself, so that there is always one step."""
    factors, factor = [], 2
    while number > 1:
        while number % factor == 0:
            factors.append(factor)
            number //= factor
        factor += 1
    return factors or [1]
