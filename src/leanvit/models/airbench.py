"""Airbench's net: dense 3x3 convolutions behind a whitened stem, made to learn in a few epochs.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024
(https://arxiv.org/abs/2404.00498).

- The stem's 2x2 filters whiten: they are the principal axes of patches of training images, each
  scaled to variance one, and their negatives. They stay as they are; the biases learn.
- A stage is a 3x3 convolution, max-pooling and a second 3x3 convolution, each with BatchNorm and
  GELU: 32 pixels become maps of 31, 15, 7 and 3.
- Filters begin as the identity on as many channels as they take, so that all layers learn at once.
- With three convolutions a stage, as in the paper's nets for 96 %, the last two are a branch beside
  a skip connection.
- The largest value of each channel goes through one linear layer, whose logits are scaled down.

Deviations:

- BatchNorm's scales learn, too; its statistics move by torch's usual tenth a step.
- Filters begin with values of the same mean square, which is where Muon and weight decay keep them;
  the paper's are scaled to a norm in every step.
- ``attention_depth`` blocks of CoAtNet (relative attention and an MLP) can follow the second stage,
  on the map of 7.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu

from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel
from leanvit.models.coatnet import RelativeAttention, TransformerBlock
from leanvit.models.dense_conv import DenseConv2d
from leanvit.values import Count, Whole

FILTER_SIZE = 0.03  # root mean square of the filters' first values
LOGIT_SCALE = 1 / 9  # the paper's


class WhitenedPatches(nn.Module):
    """2x2 filters that are given, not learnt, and biases that are."""

    weight: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        num_values = 4 * in_channels
        axes = torch.eye(num_values).view(num_values, in_channels, 2, 2)
        self.register_buffer("weight", torch.cat([axes, -axes]))
        self.bias = nn.Parameter(torch.zeros(2 * num_values))

    @torch.no_grad()
    def whiten(self, images: Float[Tensor, "n channels height width"]) -> None:
        """Take the principal axes of all patches of these images."""
        patches = rearrange(
            images.double().unfold(2, 2, 1).unfold(3, 2, 1), "n c y x dy dx -> (n y x) (c dy dx)"
        )
        variances, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
        # the paper's 5e-4: what hardly varies is noise, and stays small
        filters = (axes / (variances + 5e-4).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        return conv2d(images, self.weight, self.bias)


def _convolution(in_dim: int, dim: int) -> DenseConv2d:
    """The identity and, beyond it, drawn filters."""
    layer = DenseConv2d(in_dim, dim)
    with torch.no_grad():
        nn.init.dirac_(layer.weight[:in_dim])
        layer.weight.mul_(FILTER_SIZE / layer.weight.square().mean().sqrt())
    return layer


class Residual(nn.Sequential):
    """The layers' output, added to what they take."""

    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)


def _stage(in_dim: int, dim: int, stage_depth: int) -> list[nn.Module]:
    first = [_convolution(in_dim, dim), nn.MaxPool2d(2), nn.BatchNorm2d(dim), nn.GELU()]
    second = [_convolution(dim, dim), nn.BatchNorm2d(dim)]
    if stage_depth == 3:
        third = [nn.GELU(), _convolution(dim, dim), nn.BatchNorm2d(dim)]
        second = [Residual(*second, *third)]
    return [*first, *second, nn.GELU()]


class Airbench(nn.Module):
    """Airbench: square images to logits. The sizes are by default the paper's, on CIFAR-10.

    Args:
        image_size: height and width of the images in pixels.
        num_classes: number of logits.
        dims: channels of each stage.
        stage_depth: convolutions of each stage.
        attention_depth: blocks of attention after the second stage.
        dim_head: channels of one of their heads.
        in_channels: channels of the images.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if the image is too small to be halved so often, there is no second stage to
            attend after, or ``dim_head`` does not divide its channels.
    """

    def __init__(
        self,
        image_size: Count = 32,
        num_classes: Count = 10,
        dims: Sequence[Count] = (64, 256, 256),
        stage_depth: Literal[2, 3] = 2,
        attention_depth: Whole = 0,
        dim_head: Count = 32,
        in_channels: Count = 3,
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        if (image_size - 1) >> len(dims) < 1:
            raise LeanvitError(
                f"Airbench: image_size {image_size} cannot be halved by {len(dims)} stages."
            )
        if attention_depth and (len(dims) < 2 or dims[1] % dim_head):
            raise LeanvitError(
                f"Airbench: attention_depth {attention_depth} wants a second stage whose channels "
                f"dim_head {dim_head} divides; dims is {list(dims)}."
            )
        self.stem = WhitenedPatches(in_channels)
        widths = [8 * in_channels, *dims]
        stages = [_stage(*pair, stage_depth) for pair in pairwise(widths)]
        if attention_depth:
            map_size, heads = (image_size - 1) // 4, dims[1] // dim_head
            stages[1] += [
                Rearrange("batch dim height width -> batch (height width) dim"),
                *(
                    TransformerBlock(dims[1], map_size, heads, dim_head, 0.0, attention, 0.0)
                    for _ in range(attention_depth)
                ),
                Rearrange("batch (height width) dim -> batch dim height width", height=map_size),
            ]
        self.stages = nn.Sequential(*(nn.Sequential(*stage) for stage in stages))
        self.head = nn.Linear(widths[-1], num_classes, bias=False)
        nn.init.normal_(self.head.weight)
        for module in self.modules():
            if isinstance(module, RelativeAttention):
                nn.init.trunc_normal_(module.relative_position_table, std=0.02)

    def initialise(self, images: Float[Tensor, "n channels height width"]) -> None:
        self.stem.whiten(images)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.stages)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        return gelu(self.stem(images))

    def end(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch classes"]:
        return self.head(self.pool(features)) * LOGIT_SCALE

    def pool(self, features: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim"]:
        return features.amax(dim=(2, 3))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)
