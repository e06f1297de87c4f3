"""CoAtNet: convolution stages first, attention stages after.

Source: Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", NeurIPS 2021
(https://arxiv.org/abs/2106.04803).

- A stem of two 3x3 convolutions, then stages that halve the image: MBConv while the map is large,
  self-attention once it is small.
- MBConv (pre-norm): 1x1 expansion, depthwise convolution, squeeze-excitation, 1x1 projection.
- Transformer block (pre-norm): attention with a learned bias for each head and each offset
  between two positions (relative attention), then a two-layer MLP with GELU.
- Global average pooling and one linear layer.

Deviations. The layout is the one whose parameters and MACs equal the published table that the
experiments ``coatnet_v0.*`` repeat, and it is made for images of 32 pixels:

- The first stage keeps the stem's resolution, so 32 pixels end as a 2x2 map and not as 1x1.
- A transformer stage is entered through a strided 3x3 convolution and BatchNorm; the paper pools,
  and shortcuts its first attention with a pooled projection.
- An MBConv block that changes the shape has no shortcut; the paper's has a pooled projection.
- MBConv expands the block's input width, and its projection is followed by BatchNorm, both as in
  MobileNetV2; its activation is SiLU as in EfficientNet.
- One LayerNorm before the pooling closes the pre-norm residual stream.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend, join_heads, split_heads
from leanvit.models.convolution_parts import DepthwiseConv2d, SqueezeExcitation, StochasticDepth
from leanvit.models.dense_conv import DenseConv2d
from leanvit.models.readout import Readout
from leanvit.models.relative_position import relative_position_bias, relative_position_index
from leanvit.values import Count, Positive, ShareBelowOne

BlockType = Literal["mbconv", "transformer"]


class MBConv(nn.Module):
    """Inverted bottleneck with squeeze-excitation; ``stride`` sits in the depthwise convolution."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        stride: int,
        expand_ratio: int,
        kernel_size: int,
        se_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        hidden = in_dim * expand_ratio
        self.has_shortcut = stride == 1 and in_dim == out_dim
        self.layers = nn.Sequential(
            nn.BatchNorm2d(in_dim),
            nn.Conv2d(in_dim, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
            DepthwiseConv2d(hidden, kernel_size, stride, bias=False),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
            SqueezeExcitation(hidden, int(hidden * se_ratio), activation=nn.SiLU),
            nn.Conv2d(hidden, out_dim, 1, bias=False),
            nn.BatchNorm2d(out_dim),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, features: Float[Tensor, "batch in_dim height width"]
    ) -> Float[Tensor, "batch out_dim new_height new_width"]:
        if not self.has_shortcut:
            return self.layers(features)
        return features + self.drop_path(self.layers(features))


class RelativeAttention(nn.Module):
    """Multi-head self-attention whose scores get a learned bias for the offset of two positions."""

    relative_position_index: Tensor

    def __init__(
        self, dim: int, map_size: int, heads: int, dim_head: int, dropout: float, attention: Kernel
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.out = nn.Linear(heads * dim_head, dim)
        self.dropout = nn.Dropout(dropout)
        self.relative_position_table = nn.Parameter(torch.empty((2 * map_size - 1) ** 2, heads))
        index = relative_position_index(map_size, map_size)
        self.register_buffer("relative_position_index", index, persistent=False)

    def position_bias(self) -> Float[Tensor, "heads tokens tokens"]:
        return relative_position_bias(self.relative_position_table, self.relative_position_index)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = split_heads(self.qkv(tokens), self.heads)
        attended = attend(query, key, value, bias=self.position_bias(), kernel=self.kernel)
        return self.dropout(self.out(join_heads(attended)))

    def units(self) -> list[Heads]:
        return [Heads(self, makers=[self.qkv], reader=self.out, tables=["relative_position_table"])]


class TransformerBlock(nn.Module):
    """Pre-norm block: relative attention and an MLP four times as wide, each with a residual."""

    def __init__(
        self,
        dim: int,
        map_size: int,
        heads: int,
        dim_head: int,
        dropout: float,
        attention: Kernel,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, map_size, heads, dim_head, dropout, attention)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, dim),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


def _mbconv_stage(
    in_dim: int,
    dim: int,
    stride: int,
    expand_ratio: int,
    kernel_size: int,
    se_ratio: float,
    drop_path_rates: Sequence[float],
) -> nn.Sequential:
    return nn.Sequential(
        *(
            MBConv(
                dim if i else in_dim,
                dim,
                1 if i else stride,
                expand_ratio,
                kernel_size,
                se_ratio,
                rate,
            )
            for i, rate in enumerate(drop_path_rates)
        )
    )


def _transformer_stage(
    in_dim: int,
    dim: int,
    map_size: int,
    heads: int,
    dim_head: int,
    dropout: float,
    attention: Kernel,
    drop_path_rates: Sequence[float],
) -> nn.Sequential:
    return nn.Sequential(
        DenseConv2d(in_dim, dim, stride=2),
        nn.BatchNorm2d(dim),
        Rearrange("batch dim height width -> batch (height width) dim"),
        *(
            TransformerBlock(dim, map_size, heads, dim_head, dropout, attention, rate)
            for rate in drop_path_rates
        ),
        Rearrange("batch (height width) dim -> batch dim height width", height=map_size),
    )


class CoAtNet(nn.Module):
    """Convolution stages, then attention stages: square images to logits.

    The stem halves the image and each stage halves it again, except a first stage of MBConv. The
    sizes are by default CoAtNet-0's, but for the heads: the paper's fill their stage's channels.

    Args:
        image_size: height and width of the images in pixels; a multiple of all the halvings.
        num_classes: number of logits.
        block_types: ``"mbconv"`` or ``"transformer"`` for each stage, convolutions first.
        dims: channels of each stage; the stem has those of the first.
        depths: blocks of each stage.
        transformer_heads: attention heads of a transformer block.
        transformer_dim_head: channels of one head.
        mbconv_expand_ratios: for each MBConv stage, hidden channels over input channels.
        mbconv_kernel_sizes: for each MBConv stage, the depthwise kernel in pixels; odd.
        se_ratio: squeeze-excitation channels over hidden channels.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each linear layer of a transformer block,
            except after the query, key and value projections.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        readout: of the last map; see :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if the lists disagree in length, a block type is unknown, a convolution stage
            follows an attention stage, ``image_size`` does not suit the halvings, or there is no
            such readout or attention.
    """

    def __init__(
        self,
        image_size: Count = 224,
        num_classes: Count = 1000,
        block_types: Sequence[BlockType] = ("mbconv", "mbconv", "transformer", "transformer"),
        dims: Sequence[Count] = (96, 192, 384, 768),
        depths: Sequence[Count] = (2, 3, 5, 2),
        transformer_heads: Count = 8,
        transformer_dim_head: Count = 32,
        mbconv_expand_ratios: Sequence[Count] = (4, 4),
        mbconv_kernel_sizes: Sequence[Count] = (3, 3),
        se_ratio: Positive = 0.25,
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        readout: str = "mean",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_stages(block_types, dims, depths, mbconv_expand_ratios, mbconv_kernel_sizes)
        strides = [1 if i == 0 and kind == "mbconv" else 2 for i, kind in enumerate(block_types)]
        _check_image_size(image_size, 2 ** (1 + strides.count(2)))
        rates = iter(drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths)))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, dims[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(dims[0]),
            nn.SiLU(),
            nn.Conv2d(dims[0], dims[0], 3, padding=1, bias=False),
        )
        stages: list[nn.Sequential] = []
        in_dim, map_size = dims[0], image_size // 2
        for i, (dim, depth, stride) in enumerate(zip(dims, depths, strides, strict=True)):
            map_size //= stride
            stage_rates = list(itertools.islice(rates, depth))
            if block_types[i] == "mbconv":
                mbconv = (mbconv_expand_ratios[i], mbconv_kernel_sizes[i], se_ratio)
                stages.append(_mbconv_stage(in_dim, dim, stride, *mbconv, stage_rates))
            else:
                heads = (transformer_heads, transformer_dim_head, dropout, attention)
                stages.append(_transformer_stage(in_dim, dim, map_size, *heads, stage_rates))
            in_dim = dim
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(in_dim)
        self.readout = Readout(readout, map_size**2, has_cls=False)
        self.head = nn.Linear(in_dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Linear layers and positions as in DeiT; BatchNorm makes the convolutions' scale moot."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, RelativeAttention):
                nn.init.trunc_normal_(module.relative_position_table, std=0.02)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.stages)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim new_height new_width"]:
        return self.stem(images)

    def end(
        self, features: Float[Tensor, "batch dim height width"]
    ) -> Float[Tensor, "batch classes"]:
        tokens = rearrange(features, "batch dim height width -> batch (height width) dim")
        return self.head(self.readout(self.norm(tokens)))

    def pool(self, features: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim"]:
        return features.mean(dim=(2, 3))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)


def _check_stages(
    block_types: Sequence[str],
    dims: Sequence[int],
    depths: Sequence[int],
    expand_ratios: Sequence[int],
    kernel_sizes: Sequence[int],
) -> None:
    if not len(block_types) == len(dims) == len(depths) > 0:
        raise LeanvitError(
            f"CoAtNet: block_types has {len(block_types)} entries, dims {len(dims)} and depths "
            f"{len(depths)}; give each one entry per stage."
        )
    num_mbconv = list(block_types).count("mbconv")
    num_transformer = len(block_types) - num_mbconv
    if list(block_types) != ["mbconv"] * num_mbconv + ["transformer"] * num_transformer:
        raise LeanvitError(
            f"CoAtNet: block_types {list(block_types)} cannot be built; "
            "give mbconv stages first and transformer stages after, and no others."
        )
    if not len(expand_ratios) == len(kernel_sizes) == num_mbconv:
        raise LeanvitError(
            f"CoAtNet: mbconv_expand_ratios has {len(expand_ratios)} entries and "
            f"mbconv_kernel_sizes {len(kernel_sizes)}; give each {num_mbconv}, one per such stage."
        )


def _check_image_size(image_size: int, multiple: int) -> None:
    if image_size % multiple != 0:
        above = (image_size // multiple + 1) * multiple
        raise LeanvitError(
            f"CoAtNet: image_size {image_size} cannot be halved by the stem and all stages; "
            f"take a multiple of {multiple}, such as {above}, or fewer stages."
        )
