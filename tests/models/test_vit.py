"""ViT, and LinformerViT where nothing is projected, against torchvision's ViT."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from nets import images_of, linformer_vit, scattered, vit
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from leanvit.models.vit_b_16 import from_torchvision

UNPROJECTED = {"num_projected": 17}


def torchvisions() -> VisionTransformer:
    """Of the sizes of ours; torch's epsilon, and no bias of query, key and value."""
    sizes = {"num_layers": 4, "num_heads": 4, "hidden_dim": 24, "mlp_dim": 40, "num_classes": 5}
    net = scattered(VisionTransformer(16, 4, **sizes, norm_layer=nn.LayerNorm))
    for name, parameter in net.named_parameters():
        if name.endswith("in_proj_bias"):
            nn.init.zeros_(parameter)
    return net.double().eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "build",
    [vit, *(partial(linformer_vit, **UNPROJECTED, share_kv=shared) for shared in (False, True))],
    ids=["vit", "linformer_vit", "linformer_vit shared"],
)
def test_logits_equal_torchvisions(build: Callable[[], nn.Module]) -> None:
    net, twin = build().double().eval(), torchvisions()
    weights = from_torchvision(twin.state_dict())
    own = {name: weights[name] for name in net.state_dict() if "projection" not in name}
    assert weights.keys() - own.keys() == {
        f"blocks.{block}.attention.qkv.bias" for block in range(4)
    }
    net.load_state_dict(own, strict=False)
    for name, parameter in net.named_parameters():
        if "projection" in name:
            nn.init.eye_(parameter)
    images = images_of(6, dtype=torch.float64)
    torch.testing.assert_close(net(images), twin(images), rtol=0, atol=1e-6)
