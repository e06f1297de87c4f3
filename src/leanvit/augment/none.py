"""No augmentation, no mixing: what evaluation uses, and the baseline of every comparison."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor


class NoAugment:
    """Gather images as they are."""

    def prepare(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n height width 3"]:
        """The images in the memory order that gathers fastest: one contiguous block each."""
        return images.permute(0, 2, 3, 1).contiguous()

    def __call__(
        self,
        prepared: UInt8[Tensor, "n height width 3"],
        index: Int64[Tensor, " batch"],
        generator: torch.Generator,
    ) -> UInt8[Tensor, "batch 3 height width"]:
        return prepared.index_select(0, index).permute(0, 3, 1, 2)


class NoMix:
    """Images and labels unchanged."""

    soft_targets = False
    partners = None

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Int64[Tensor, " batch"]]:
        return images, labels
