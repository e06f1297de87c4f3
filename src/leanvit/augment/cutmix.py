"""CutMix (Yun et al., 2019): a box of one image pasted into another, labels shared by area.

- Box area 1 - lambda with lambda ~ Beta(alpha, alpha), centre uniform, clipped to the image; the
  label share is the area really pasted. Each image has its own box (the paper: one per batch).
- Partners are the batch in reverse order: the batch is shuffled already.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.values import Count, Positive, Share


class CutMix:
    """Paste a box of its partner into each image; targets become soft (batch, classes).

    Args:
        alpha: of the Beta distribution; 1 draws the area uniformly.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    soft_targets = True
    partners = None

    def __init__(self, num_classes: Count, alpha: Positive = 1.0, probability: Share = 0.5) -> None:
        self.num_classes, self.alpha, self.probability = num_classes, alpha, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        targets = one_hot(labels, self.num_classes).to(images.dtype)
        if torch.rand(()) >= self.probability:
            return images, targets
        return self.paste(images.flip(0), targets.flip(0), images, targets)

    def paste(
        self,
        foreground: Float[Tensor, "batch 3 height width"],
        foreground_targets: Float[Tensor, "batch classes"],
        background: Float[Tensor, "batch 3 height width"],
        background_targets: Float[Tensor, "batch classes"],
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        """A box of each foreground on its background, and their targets by area."""
        pasted = self.boxes(background)
        mixed = torch.where(pasted[:, None], foreground, background)
        own = 1 - pasted.flatten(1).to(background.dtype).mean(1)
        return mixed, torch.lerp(foreground_targets, background_targets, own[:, None])

    def boxes(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Bool[Tensor, "batch height width"]:
        """True where an image takes its partner's pixels."""
        batch, _, height, width = images.shape
        alpha = torch.full((batch,), self.alpha, device=images.device)
        side = (1 - torch.distributions.Beta(alpha, alpha).sample()).sqrt()
        centre = torch.rand(2, batch, device=images.device)
        inside = []
        for size, middle in zip((height, width), centre, strict=True):
            length = (side * size).floor()
            start = (middle * size).floor() - (length / 2).floor()
            place = torch.arange(size, device=images.device)
            low, high = start[:, None], (start + length)[:, None]
            inside.append((place >= low) & (place < high))
        return inside[0][:, :, None] & inside[1][:, None, :]
