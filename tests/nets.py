"""Small nets for tests: five classes, images of 16 pixels, weights away from their start."""

import torch
from torch import Tensor, nn

from leanvit.models.cct import CCT
from leanvit.models.coatnet import CoAtNet
from leanvit.models.convmixer import ConvMixer
from leanvit.models.linformer_vit import LinformerViT
from leanvit.models.pvt import PVT
from leanvit.models.swin import Swin
from leanvit.models.vit import ViT
from leanvit.models.vit_conv import ViTConv

ROW = {"image_size": 16, "num_classes": 5, "dim": 24, "depth": 4, "heads": 4, "mlp_dim": 40}
HEADS = {"transformer_heads": 2, "transformer_dim_head": 8}


def vit(**changes: object) -> ViT:
    """16 patches and [CLS]."""
    return ViT(**{**ROW, "patch_size": 4, **changes})


def cct(**changes: object) -> CCT:
    """16 tokens."""
    return CCT(**{**ROW, "num_convolutions": 2, "kernel_size": 3, **changes})


def linformer_vit(**changes: object) -> LinformerViT:
    return LinformerViT(**{**ROW, "patch_size": 4, "num_projected": 4, **changes})


def vit_conv(**changes: object) -> ViTConv:
    return ViTConv(**{**ROW, "patch_size": 4, **changes})


def coatnet(**changes: object) -> CoAtNet:
    """Two stages of MBConv on maps of 8 and 4, and one of attention over 4 tokens."""
    kinds = {"block_types": ["mbconv", "mbconv", "transformer"], **HEADS}
    mbconv = {"mbconv_expand_ratios": [2, 2], "mbconv_kernel_sizes": [3, 3], "se_ratio": 0.25}
    sizes = {"dims": [8, 12, 16], "depths": [1, 2, 1]}
    return CoAtNet(**{"image_size": 16, "num_classes": 5, **kinds, **mbconv, **sizes, **changes})


def convmixer(**changes: object) -> ConvMixer:
    sizes = {"image_size": 16, "num_classes": 5, "patch_size": 2, "dim": 12, "depth": 3}
    return ConvMixer(**{**sizes, "kernel_size": 3, **changes})


def swin(**changes: object) -> Swin:
    """Maps of 8, 4 and 2 in windows of 2; the second block shifts its windows."""
    stages = {"patch_size": 2, "dim": 8, "depths": [1, 2, 1], "heads": [1, 2, 2]}
    return Swin(**{"image_size": 16, "num_classes": 5, **stages, "window_size": 2, **changes})


def pvt(**changes: object) -> PVT:
    """Maps of 8, 4 and 2; the keys of the first are 4 x 4."""
    stages = {"dims": [8, 12, 16], "depths": [1, 1, 1], "heads": [1, 2, 2]}
    lists = {"mlp_ratios": [2, 2, 2], "sr_ratios": [2, 1, 1], "patch_strides": [2, 2, 2]}
    return PVT(**{"image_size": 16, "num_classes": 5, **stages, **lists, **changes})


def scattered(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights away from what the initialisation hides, also those of BatchNorm's statistics."""
    torch.manual_seed(seed)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return net


def images_of(batch: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 16, 16, generator=draws, dtype=dtype)
