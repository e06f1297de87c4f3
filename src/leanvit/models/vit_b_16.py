"""ViT-B/16 with torchvision's ImageNet weights, for fine-tuning.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021
(https://arxiv.org/abs/2010.11929); weights: torchvision's ``ViT_B_16_Weights.IMAGENET1K_V1``.

- The net is leanvit's ViT with the sizes, biases and epsilons of torchvision's, so that every
  readout, attention kernel and lightweighting of a ViT works on it.
- Images are enlarged inside the net, on the device: data stay small in memory.
- Positions are interpolated (bicubic) where the net runs at another size than its weights.

Deviations: images are enlarged bilinearly and not cropped; torchvision's own preparation cuts 224
pixels out of 256.
"""

import re

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
from leanvit.models.vit import ViT
from leanvit.values import Count, ShareBelowOne

WEIGHTS = "https://download.pytorch.org/models/vit_b_16-c867db91.pth"  # torchvision's IMAGENET1K_V1
# torchvision's names of modules, and ours
NAMES = {
    r"^class_token$": "cls_token",
    r"^conv_proj\.": "patch_embedding.",
    r"^encoder\.pos_embedding$": "position_embedding",
    r"^encoder\.ln\.": "norm.",
    r"^heads\.head\.": "head.",
    r"^encoder\.layers\.encoder_layer_(\d+)\.": r"blocks.\1.",
    r"\.ln_1\.": ".attention_norm.",
    r"\.ln_2\.": ".mlp_norm.",
    r"\.self_attention\.in_proj_": ".attention.qkv.",
    r"\.self_attention\.out_proj\.": ".attention.out.",
    r"\.mlp\.linear_1\.": ".mlp.0.",  # as in files of older torchvision
    r"\.mlp\.linear_2\.": ".mlp.3.",
}


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's ViT state dict in the names of leanvit's ViT."""
    renamed = {}
    for name, value in state.items():
        for theirs, ours in NAMES.items():
            name = re.sub(theirs, ours, name)
        renamed[name] = value
    return renamed


class ViTB16(ViT):
    """ViT-B/16: images of any one size to logits.

    Args:
        image_size: height and width of the images in pixels; enlarged to ``input_size``.
        num_classes: number of logits.
        weights: "imagenet", the path of a state dict in torchvision's names, or ``None``.
        finetune: what is trained, see :func:`leanvit.models.pretrained.freeze`.
        input_size: height and width in pixels that the patches are cut from; a multiple of 16.
        dropout, drop_path_rate, readout, attention: see :class:`leanvit.models.vit.ViT`.

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
        dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        readout: str = "cls",
        attention: Kernel = "sdpa",
    ) -> None:
        check_input_size(input_size, 16)
        super().__init__(
            input_size,
            patch_size=16,
            num_classes=num_classes,
            dim=768,
            depth=12,
            heads=12,
            mlp_dim=3072,
            dropout=dropout,
            drop_path_rate=drop_path_rate,
            qkv_bias=True,
            norm_eps=1e-6,
            readout=readout,
            attention=attention,
        )
        self.image_size, self.input_size = image_size, input_size
        if weights:
            self.statistics = IMAGENET_STATISTICS  # of the normalisation, in place of the data's
            path = find_weights(weights, WEIGHTS)
            load_weights(self, path, self._rename)
        freeze(self, finetune)

    def _rename(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if "encoder.pos_embedding" in state:  # else they are another net's, which is told later
            from torchvision.models.vision_transformer import interpolate_embeddings

            state = interpolate_embeddings(self.input_size, 16, state)
        return from_torchvision(state)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Enlarged images to tokens: [CLS] first, then the patches row by row."""
        size = (self.input_size, self.input_size)
        return super().begin(F.interpolate(images, size, mode="bilinear", antialias=True))
