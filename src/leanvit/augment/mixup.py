"""mixup (Zhang et al., 2018): convex combinations of image pairs and of their labels.

- lambda ~ Beta(alpha, alpha), its own for every image (the paper draws one per batch).
- Partners are the batch in reverse order: the batch is shuffled already.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.values import Count, Positive, Share


class MixUp:
    """Mix each image with its partner; targets become soft (batch, classes).

    Args:
        alpha: of the Beta distribution; larger mixes more evenly.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    soft_targets = True
    partners = None

    def __init__(self, num_classes: Count, alpha: Positive = 0.8, probability: Share = 1.0) -> None:
        self.num_classes, self.alpha, self.probability = num_classes, alpha, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        targets = one_hot(labels, self.num_classes).to(images.dtype)
        if torch.rand(()) >= self.probability:
            return images, targets
        own = self.own_shares(images)
        mixed = torch.lerp(images.flip(0), images, own[:, None, None, None])
        label_shares = self.label_shares(own, labels)
        return mixed, torch.lerp(targets.flip(0), targets, label_shares[:, None])

    def own_shares(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """lambda of each image: what it keeps of itself beside its partner."""
        alpha = torch.full((len(images),), self.alpha, device=images.device)
        return torch.distributions.Beta(alpha, alpha).sample().to(images.dtype)

    def label_shares(
        self, own: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """What an image's label counts beside its partner's, ``own`` being the image's share."""
        return own
