"""CMO: context-rich minority oversampling (Park et al., CVPR 2022,
https://arxiv.org/abs/2112.00412).

- CutMix whose two images are drawn apart. The background is the ordinary batch; the foreground,
  from which the box comes, is drawn from the whole training set with weights in favour of rare
  classes. So rare classes are seen more often, on ever new backgrounds, mostly of frequent ones.
- The foreground's class is c with probability (1 / n_c^r) / sum_k (1 / n_k^r), n_c the training
  images of class c; within the class every image alike. r = ``exponent`` is 1.
- As in CutMix, a box has the area 1 - lambda with lambda ~ Beta(1, 1), and labels are shared by
  the area pasted.
- Half of the batches are mixed. The official code mixes none in the first four epochs and the last
  three; here mixing ends where the training says so.

Foregrounds are the mixing's ``partners``: whoever builds the batches draws as many images again by
them and appends these, augmented alike, to the ordinary ones.

Deviations:

- Of paper and official code (https://github.com/naver-ai/cmo), which differ, this is the paper.
  The code takes 1 / n_c^r, r = 1, for the weight of an image, not of a class, so that its classes
  come equally often: that is ``exponent`` 0 here, r - 1 in general.
- Each image has its own box (the paper: one per batch).
- Of the paper's distributions, the one by effective numbers is left out.
"""

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.augment.cutmix import CutMix
from leanvit.values import Count, Positive, Share


class CMO:
    """Paste a box of a minority-weighted draw into each image; targets become soft.

    Args:
        alpha: of the Beta distribution; 1 draws the area uniformly.
        exponent: r of the foreground's classes, 1 / n_c^r: 1 is the paper's, 0 draws every class
            alike, -1 the images as they are.
        probability: of mixing a batch at all; an unmixed batch has one-hot targets.
    """

    soft_targets = True

    def __init__(
        self,
        num_classes: Count,
        alpha: Positive = 1.0,
        exponent: float = 1.0,
        probability: Share = 0.5,
    ) -> None:
        self.cutmix, self.exponent = CutMix(num_classes, alpha, probability), exponent

    def partners(self, labels: Int64[Tensor, " n"]) -> Float64[Tensor, " n"]:
        """How likely each training image is to be a foreground; all of them sum to 1."""
        counts = torch.bincount(labels, minlength=self.cutmix.num_classes).double()
        weights = (counts.clamp(min=1) / counts.max()) ** -self.exponent * counts.gt(0)
        return (weights / weights.sum() / counts)[labels]

    def __call__(
        self, images: Float[Tensor, "both 3 height width"], labels: Int64[Tensor, " both"]
    ) -> tuple[Float[Tensor, "both//2 3 height width"], Float[Tensor, "both//2 classes"]]:
        """The ordinary images, which come first, with boxes of the foregrounds, which follow."""
        background, foreground = images.chunk(2)
        targets = one_hot(labels, self.cutmix.num_classes).to(images.dtype)
        background_targets, foreground_targets = targets.chunk(2)
        if torch.rand(()) >= self.cutmix.probability:
            return background, background_targets
        return self.cutmix.paste(foreground, foreground_targets, background, background_targets)
