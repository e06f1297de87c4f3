"""GLMC: each image in two mixtures, a global and a local one, of which the net is to say the same.

Source: Du et al., "Global and Local Mixture Consistency Cumulative Learning for Long-tailed Visual
Recognitions", CVPR 2023 (https://arxiv.org/abs/2305.08661); projector, predictor and stopped
gradient as in SimSiam, Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021
(https://arxiv.org/abs/2011.10566).

- The views of a batch are its mixup and its CutMix, of each image with the same partner. The net
  sees both; the loss is the mean of both mixed-label losses.
- What the head reads of a view goes through a projector to h and on through a predictor to u.
  -(cos(u_global, stop(h_local)) + cos(u_local, stop(h_global))) / 2 is added.
- The loss moves from a plain to a class-balanced one: ``loss@late.loss=class_balanced
  late.gradual=true`` (:mod:`leanvit.losses.cumulative`), which fits every other mixing, too.

A step costs two: the net computes both views, and the history counts both as images. Projector and
predictor are no part of the net: a finished one costs nothing more.

Deviations:

- Shares and boxes are drawn for each image and each view, as with mix=mixup and mix=cutmix.
- One pass takes both views, so that a net's BatchNorm has the statistics of both; projector and
  predictor normalise each view by its own.
- Both views are of the image as ``augment=`` gave it; the authors' code crops and flips each apart.
- One head learns the plain and the balanced loss; the authors' code has a head for each, and raises
  class weights to the power 1.2 on CIFAR-10.
- Projector and predictor are as wide as ``dim``, in SimSiam's shape for CIFAR: two layers each.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from leanvit.augment.cutmix import CutMix
from leanvit.augment.mixup import MixUp
from leanvit.values import Count, NonNegative, Positive


class GLMC:
    """All images by mixup, then all by CutMix, with soft targets (twice the batch, classes).

    Args:
        alpha: of the Beta distributions of both.
        weight: of the consistency of the views, beside a weight of 1 for the loss.
        dim: of what the projector gives.
    """

    soft_targets = True
    partners = None
    num_views = 2

    def __init__(
        self,
        num_classes: Count,
        alpha: Positive = 1.0,
        weight: NonNegative = 1.0,
        dim: Count = 256,
    ) -> None:
        self.views = MixUp(num_classes, alpha, 1.0), CutMix(num_classes, alpha, 1.0)
        self.weight, self.dim = weight, dim

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], labels: Int64[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "2*batch 3 height width"], Float[Tensor, "2*batch classes"]]:
        mixed, targets = zip(*(view(images, labels) for view in self.views), strict=True)
        return torch.cat(mixed), torch.cat(targets)

    def beside(self, num_features: int) -> nn.Module:
        """What is trained beside a net whose head reads so many features."""
        return Consistency(num_features, self.dim, self.weight)


class Consistency(nn.Module):
    """What the features of two views (2 batch, features) lack in agreement, from -weight to weight.

    Args:
        num_features: of an image.
        dim: of what the projector gives; a quarter of it is the predictor's bottleneck.
        weight: of the mean cosine.
    """

    def __init__(self, num_features: Count, dim: Count, weight: NonNegative) -> None:
        super().__init__()
        narrow, self.weight = max(1, dim // 4), weight
        last = nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim, affine=False)
        self.projector = nn.Sequential(*_hidden(num_features, dim), *last)
        self.predictor = nn.Sequential(*_hidden(dim, narrow), nn.Linear(narrow, dim))

    def forward(self, features: Float[Tensor, "both features"]) -> Float[Tensor, ""]:
        projected = [self.projector(view) for view in features.chunk(2)]
        predicted = [self.predictor(view).float() for view in projected]
        cosines = [cosine_similarity(ours, theirs.detach().float())
                   for ours, theirs in zip(predicted, projected[::-1], strict=True)]  # fmt: skip
        return -self.weight * torch.stack(cosines).mean()


def _hidden(in_dim: int, dim: int) -> list[nn.Module]:
    return [nn.Linear(in_dim, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU()]
