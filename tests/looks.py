"""What the tests of pictures look at: nets that are small, and images of noise."""

import torch
from torch import Tensor, nn

from leanvit.evaluation.pictures.look import Look
from leanvit.models.coatnet import CoAtNet
from leanvit.models.vit import ViT


def images(batch: int = 3, size: int = 8) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def look(
    net: nn.Module | None = None, batch: int = 3, size: int = 8, block: int | None = None
) -> Look:
    """Right and wrong predictions in turn."""
    given = images(batch, size)
    return Look(
        net or nn.Identity(),
        (given * 40 + 128).clamp(0, 255).to(torch.uint8),
        given,
        tuple(f"true cat,\npredicted dog 0.{index}" for index in range(batch)),
        tuple(index % 2 == 0 for index in range(batch)),
        torch.full((3,), 0.5),
        torch.full((3,), 0.2),
        block,
    )


def vit(**changes: object) -> ViT:
    """16 patches of 2 pixels, and [CLS]."""
    torch.manual_seed(0)
    sizes = {"patch_size": 2, "num_classes": 3, "dim": 8, "depth": 2, "heads": 2, "mlp_dim": 8}
    return ViT(8, **{**sizes, **changes}).eval()


def pyramid() -> CoAtNet:
    """Of images of 32 pixels: maps of 16, 8 and 4."""
    torch.manual_seed(0)
    kinds = ("mbconv", "transformer", "transformer")
    heads = {"transformer_heads": 2, "transformer_dim_head": 4}
    mbconv = {"mbconv_expand_ratios": (1,), "mbconv_kernel_sizes": (3,), "se_ratio": 0.5}
    return CoAtNet(32, 3, kinds, dims=(16, 6, 4), depths=(1, 1, 2), **heads, **mbconv).eval()
