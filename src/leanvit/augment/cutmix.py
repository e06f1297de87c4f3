"""CutMix (Yun et al., 2019): a box of one image pasted into another, labels shared by area.

- Box area 1 - lambda with lambda ~ Beta(alpha, alpha), centre uniform, clipped to the image; the
  label share is the area really pasted. Each image has its own box (the paper: one per batch).
- Partners are the batch in reverse order: the batch is shuffled already.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot


class CutMix:
    """Paste a box of its partner into each image; targets become soft (batch, classes).

    Args:
        alpha: of the Beta distribution; 1 draws the area uniformly.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    def __init__(self, num_classes: int, alpha: float = 1.0, probability: float = 0.5) -> None:
        self.num_classes, self.alpha, self.probability = num_classes, alpha, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        targets = one_hot(labels, self.num_classes).to(images.dtype)
        if torch.rand(()) >= self.probability:
            return images, targets
        pasted = self.boxes(images)
        mixed = torch.where(pasted[:, None], images.flip(0), images)
        own = 1 - pasted.flatten(1).to(images.dtype).mean(1)
        return mixed, torch.lerp(targets.flip(0), targets, own[:, None])

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
