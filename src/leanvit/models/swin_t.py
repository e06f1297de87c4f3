"""Swin-T with torchvision's ImageNet weights, for fine-tuning.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
ICCV 2021 (https://arxiv.org/abs/2103.14030); weights: torchvision's
``Swin_T_Weights.IMAGENET1K_V1``.

- The net is leanvit's Swin at the paper's tiny size, so that every readout and attention kernel of
  a Swin works on it.
- Images are enlarged inside the net, on the device: data stay small in memory.

Deviations: images are enlarged bilinearly and not cropped; torchvision's own preparation cuts 224
pixels out of 232.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from leanvit.models.attention import Kernel
from leanvit.models.pretrained import (
    IMAGENET_STATISTICS,
    check_input_size,
    find_weights,
    freeze,
    load_weights,
)
from leanvit.models.swin import Swin, from_torchvision
from leanvit.values import Count, ShareBelowOne

WEIGHTS = "https://download.pytorch.org/models/swin_t-704ceda3.pth"  # torchvision's IMAGENET1K_V1


class SwinT(Swin):
    """Swin-T: images of any one size to logits.

    Args:
        image_size: height and width of the images in pixels; enlarged to ``input_size``.
        num_classes: number of logits.
        weights: "imagenet", the path of a state dict in torchvision's names, or ``None``.
        finetune: what is trained, see :func:`leanvit.models.pretrained.freeze`.
        input_size: height and width in pixels that the patches of 4 are cut from.
        window_size: see :class:`leanvit.models.swin.Swin`; the weights are for 7.
        dropout, drop_path_rate, readout, attention: see the same.

    Raises:
        LeanvitError: no weights, weights of another net, or a value that cannot be.
    """

    def __init__(
        self,
        image_size: Count,
        num_classes: Count,
        weights: str | None = "imagenet",
        finetune: str = "all",
        input_size: Count = 224,
        window_size: Count = 7,
        dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        readout: str = "mean",
        attention: Kernel = "sdpa",
    ) -> None:
        check_input_size(input_size, 32)
        super().__init__(
            input_size,
            patch_size=4,
            num_classes=num_classes,
            dim=96,
            depths=(2, 2, 6, 2),
            heads=(3, 6, 12, 24),
            window_size=window_size,
            dropout=dropout,
            drop_path_rate=drop_path_rate,
            readout=readout,
            attention=attention,
        )
        self.image_size, self.input_size = image_size, input_size
        if weights:
            self.statistics = IMAGENET_STATISTICS  # of the normalisation, in place of the data's
            path = find_weights(weights, WEIGHTS)
            load_weights(self, path, from_torchvision)
        freeze(self, finetune)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch new_height new_width dim"]:
        size = (self.input_size, self.input_size)
        return super().begin(F.interpolate(images, size, mode="bilinear", antialias=True))
