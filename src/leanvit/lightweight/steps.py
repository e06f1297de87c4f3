"""A net of leanvit in steps: what its first block or stage gets, each of these, and what its head
makes of the last. One after the other they are the net's own forward pass."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.models.cct import CCT
from leanvit.models.coatnet import CoAtNet
from leanvit.models.pvt import PVT
from leanvit.models.swin import Swin
from leanvit.models.swin_t import SwinT
from leanvit.models.vit import ViT
from leanvit.models.vit_conv import ViTConv

IN_STEPS = (ViT, CCT, ViTConv, CoAtNet, Swin, PVT)  # and what is derived from them


def steps(net: nn.Module) -> list[nn.Module]:
    """Its stages, or the blocks of a net of one resolution."""
    return list(net.stages if hasattr(net, "stages") else net.blocks)  # type: ignore[arg-type]


def begin(net: nn.Module, images: Tensor) -> Tensor:
    """What the first block or stage gets."""
    if isinstance(net, SwinT):
        size = (net.input_size, net.input_size)
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    if isinstance(net, Swin):
        return net.patch_embedding(images)
    if isinstance(net, CoAtNet):
        return net.stem(images)
    return images if isinstance(net, PVT) else net.embed(images)  # type: ignore[operator]


def end(net: nn.Module, features: Tensor) -> Tensor:
    """Logits of what the last block or stage gives, as the net's own forward pass computes them."""
    if isinstance(net, ViT) and net.readout.reads_one_token:
        return net.head(net.norm(net.readout(features)))
    if isinstance(net, CoAtNet | PVT):
        features = rearrange(features, "batch dim height width -> batch (height width) dim")
    features = net.norm(features)  # type: ignore[operator]
    if isinstance(net, ViTConv):
        return net.head(features)
    if isinstance(net, Swin):
        features = rearrange(features, "batch height width dim -> batch (height width) dim")
    return net.head(net.readout(features))  # type: ignore[operator]


def pool(net: nn.Module, features: Tensor) -> Float[Tensor, "batch dim"]:
    """The one vector of each image that an exit classifies."""
    if features.ndim == 3:
        return net.readout(features)  # type: ignore[operator]
    return features.mean(dim=(1, 2) if isinstance(net, Swin) else (2, 3))


def channels(part: nn.Module) -> int:
    """Those that a block, a stage or a head gives: its last linear layer's or convolution's."""
    last = [each for each in part.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels
