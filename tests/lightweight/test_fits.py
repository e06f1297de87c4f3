"""Methods and pretrainings on a net of tokens that none of them knows."""

import pytest
import torch
from torch import Tensor, nn

from leanvit.lightweight.a_vit import AViT
from leanvit.lightweight.deit_lt import DeiTLT
from leanvit.lightweight.distill import Distill
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.evit import EViT
from leanvit.lightweight.tome import ToMe
from leanvit.models.readout import Readout
from leanvit.models.vit import Attention
from leanvit.pretraining.autoencoder import Autoencoder
from leanvit.pretraining.mae import MAE


class Block(nn.Module):
    """RMSNorm, and an MLP that is one layer with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.gate_norm = nn.RMSNorm(8), nn.RMSNorm(8)
        self.attention = Attention(8, 2, 0.0, qkv_bias=True, attention="math")
        self.gated, self.drop_path = nn.Linear(8, 16), nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.feed_forward(tokens + self.attention(self.attention_norm(tokens)))

    def feed_forward(self, tokens: Tensor) -> Tensor:
        return tokens + nn.functional.glu(self.gated(self.gate_norm(tokens)))


class Own(nn.Module):
    """No ViT, but [CLS], 16 patches of 2 x 2 pixels, and three blocks."""

    num_prefix = 1

    def __init__(self) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, 8, 2, 2)
        self.position_embedding = nn.Parameter(torch.randn(1, 17, 8))
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm, self.readout, self.head = nn.LayerNorm(8), Readout("cls", 16, True), Linear4()

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.blocks)

    def begin(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        return nn.functional.pad(patches, (0, 0, 1, 0)) + self.position_embedding

    def read(self, tokens: Tensor, sizes: Tensor | None = None) -> Tensor:
        return self.norm(self.readout(tokens, sizes))

    def end(self, tokens: Tensor) -> Tensor:
        return self.head(self.read(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        return self.readout(tokens)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.begin(images)
        for block in self.steps:
            tokens = block(tokens)
        return self.end(tokens)


class Linear4(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 4)


IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
IDLE = {  # set to take out nothing
    "tome": lambda net: ToMe(net, r=0),
    "evit": lambda net: EViT(net, keep_rate=1),
    "dynamic_vit": lambda net: DynamicViT(net, ratios=[1.0, 1.0]),
}
BUSY = {
    "tome": lambda net: ToMe(net, r=4),
    "evit": lambda net: EViT(net, keep_rate=0.5),
    "dynamic_vit": lambda net: DynamicViT(net, ratios=[0.5, 0.5], keep="threshold", teacher=True),
    "a_vit": lambda net: AViT(net, beta=0.0),
    "deit_lt": lambda net: DeiTLT(net, Own()),
    "distill": lambda net: Distill(net, Own(), kind="token"),
}


@pytest.mark.parametrize("method", IDLE)
def test_what_takes_out_nothing_is_the_net(method: str) -> None:
    torch.manual_seed(0)
    net = Own().eval()
    torch.testing.assert_close(IDLE[method](net).eval()(IMAGES), net(IMAGES))


@pytest.mark.parametrize("method", BUSY)
def test_trains_and_evaluates_each_image_alone(method: str) -> None:
    torch.manual_seed(0)
    net = BUSY[method](Own())
    if hasattr(net, "loss_terms"):
        terms = net.loss_terms(IMAGES, torch.arange(6) % 4, nn.CrossEntropyLoss())
        sum(terms.values()).backward()
    else:
        net(IMAGES).square().sum().backward()
    assert all(p.grad is not None for p in net.net.blocks.parameters())
    with torch.no_grad():
        together, alone = net.eval()(IMAGES), torch.cat([net(each) for each in IMAGES.split(1)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, net.net(IMAGES))


@pytest.mark.parametrize("pretraining", [MAE, Autoencoder])
def test_pretrains(pretraining: type[nn.Module]) -> None:
    torch.manual_seed(0)
    sizes = {"decoder_dim": 16}
    net = pretraining(Own(), 8, **sizes)
    net(IMAGES, IMAGES).backward()
    assert all(p.grad is not None for p in net.encoder.blocks.parameters())
