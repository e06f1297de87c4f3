"""mixup (Zhang et al., 2018): convex combinations of image pairs and of their labels.

- lambda ~ Beta(alpha, alpha), its own for every image (the paper draws one per batch).
- Partners are the batch in reverse order: the batch is shuffled already.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError


class MixUp:
    """Mix each image with its partner; targets become soft (batch, classes).

    Args:
        class_counts: training images per class; not used, every mixing is built alike.
        alpha: of the Beta distribution; larger mixes more evenly.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.

    Raises:
        LeanvitError: ``alpha`` is not above 0 and finite, or ``probability`` not in [0, 1].
    """

    def __init__(
        self,
        num_classes: int,
        class_counts: Int64[Tensor, " classes"] | None = None,
        alpha: float = 0.8,
        probability: float = 1.0,
    ) -> None:
        if not 0 < alpha < math.inf:
            raise LeanvitError(
                f"mixup's alpha={alpha} must be above 0 and finite: 0.8 is DeiT's, and mix=none "
                "mixes nothing"
            )
        if not 0 <= probability <= 1:
            raise LeanvitError(f"mix.probability={probability} must lie between 0 and 1")
        self.num_classes, self.alpha, self.probability = num_classes, alpha, probability

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch classes"]]:
        targets = one_hot(labels, self.num_classes).to(images.dtype)
        if torch.rand(()) >= self.probability:
            return images, targets
        own = own_shares(images, self.alpha)
        mixed = torch.lerp(images.flip(0), images, own[:, None, None, None])
        return mixed, torch.lerp(targets.flip(0), targets, own[:, None])


def own_shares(
    images: Float[Tensor, "batch 3 height width"], alpha: float
) -> Float[Tensor, " batch"]:
    """lambda of each image: what it keeps of itself beside its partner."""
    alphas = torch.full((len(images),), alpha, device=images.device)
    return torch.distributions.Beta(alphas, alphas).sample().to(images.dtype)
