"""ConvMixer: patches, mixed by large depthwise and by 1x1 convolutions.

Source: Trockman & Kolter, "Patches Are All You Need?", 2022 (https://arxiv.org/abs/2201.09792).

- Patch embedding by a strided convolution; the map keeps its size and width to the end.
- A block mixes places by a depthwise convolution with a large kernel, skipped by a residual, and
  then channels by a 1x1 convolution without one; after each, GELU and BatchNorm.
- The mean over the map goes through one linear layer.

Deviations: none is known.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Channels
from leanvit.errors import LeanvitError
from leanvit.values import Count


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GELU(), nn.BatchNorm2d(convolution.out_channels))


class Block(nn.Module):
    """One depthwise convolution with a residual, one 1x1 convolution without."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(dim, dim, kernel_size, groups=dim, padding="same")
        self.places = _activated(depthwise)
        self.channels = _activated(nn.Conv2d(dim, dim, 1))

    def forward(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch new_dim rows columns"]:
        return self.channels(self.places(features) + features)


class ConvMixer(nn.Module):
    """ConvMixer: square images to logits.

    Args:
        image_size: height and width of the images in pixels.
        num_classes: number of logits.
        patch_size: height and width of a patch in pixels; divides ``image_size``.
        dim: channels of the map.
        depth: number of blocks.
        kernel_size: of the depthwise convolutions, in patches.
        in_channels: channels of the images.

    Raises:
        LeanvitError: if ``patch_size`` does not divide ``image_size``.
    """

    def __init__(
        self,
        image_size: Count,
        num_classes: Count,
        patch_size: Count,
        dim: Count,
        depth: Count,
        kernel_size: Count,
        in_channels: Count = 3,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise LeanvitError(
                f"ConvMixer: patch_size {patch_size} does not divide image_size {image_size}."
            )
        self.stem = _activated(nn.Conv2d(in_channels, dim, patch_size, stride=patch_size))
        self.blocks = nn.ModuleList(Block(dim, kernel_size) for _ in range(depth))
        self.head = nn.Linear(dim, num_classes)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.blocks)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        return self.stem(images)

    def end(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch classes"]:
        return self.head(self.pool(features))

    def pool(self, features: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim"]:
        return features.mean(dim=(2, 3))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)

    def units(self) -> list[Channels]:
        """The width of the map between two 1x1 convolutions, of every second one: so no layer both
        makes and reads."""
        blocks: list[Any] = self.steps
        layers: list[Any] = [self.stem, *(block.channels for block in blocks)]
        found = []
        for place in range(0, len(layers), 2):
            maker, _, norm = layers[place]
            if place == len(blocks):
                found.append(Channels(maker, [norm], self.head))
            else:
                depthwise, _, second_norm = blocks[place].places
                reader = blocks[place].channels[0]
                found.append(Channels(maker, [norm, depthwise, second_norm], reader))
        return found
