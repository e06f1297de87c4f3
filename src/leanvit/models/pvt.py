"""PVT: the pyramid vision transformer, in its second version.

Source: Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", CVMJ 2022
(https://arxiv.org/abs/2106.13797); the first version is https://arxiv.org/abs/2102.12122.

- Four stages of attention blocks on ever smaller maps, as in a CNN; every block is pre-norm.
- Overlapping patch embedding: a stage is entered through a convolution of stride S, kernel 2S - 1
  and padding S - 1, then LayerNorm.
- Spatial-reduction attention: every position asks, but the keys and values come from a map that a
  strided convolution and LayerNorm made ``sr_ratio`` times smaller in height and width.
- The MLP has a 3x3 depthwise convolution before its GELU. Its zero padding tells a position where
  it is: there is no position embedding.
- LayerNorm closes every stage; the mean over the last map goes through one linear layer.

Deviations:

- Keys and values are reduced by a convolution, as in b0 to b5, and not by the pooling of the
  paper's linear attention.
- One epsilon for all LayerNorms; the official code takes 1e-5 after the strided convolutions and
  1e-6 elsewhere.
- The attention weights are not dropped out; the official trainings do not use it either.
"""

import itertools
import math
from collections.abc import Sequence

from einops import rearrange, repeat
from einops.layers.torch import Rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend
from leanvit.models.convolution_parts import DepthwiseConv2d, StochasticDepth
from leanvit.models.readout import Readout
from leanvit.values import Count, Positive, ShareBelowOne


class SpatialReductionAttention(nn.Module):
    """Multi-head attention from all positions of a map to a map ``sr_ratio`` times smaller."""

    def __init__(
        self,
        dim: int,
        map_size: int,
        heads: int,
        sr_ratio: int,
        dropout: float,
        norm_eps: float,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.map_size, self.sr_ratio = map_size, sr_ratio
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        if sr_ratio > 1:
            self.reduction = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.reduction_norm = nn.LayerNorm(dim, norm_eps)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query = rearrange(
            self.query(tokens),
            "batch tokens (heads dim_head) -> batch heads tokens dim_head",
            heads=self.heads,
        )
        key, value = rearrange(
            self.key_value(self.reduce(tokens)),
            "batch keys (two heads dim_head) -> two batch heads keys dim_head",
            two=2,
            heads=self.heads,
        )
        attended = attend(query, key, value, kernel=self.kernel)
        attended = rearrange(
            attended, "batch heads tokens dim_head -> batch tokens (heads dim_head)"
        )
        return self.dropout(self.out(attended))

    def reduce(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch keys dim"]:
        """One token for each patch of ``sr_ratio`` x ``sr_ratio`` positions."""
        if self.sr_ratio == 1:
            return tokens
        features = rearrange(
            tokens, "batch (height width) dim -> batch dim height width", height=self.map_size
        )
        reduced = rearrange(
            self.reduction(features), "batch dim height width -> batch (height width) dim"
        )
        return self.reduction_norm(reduced)

    def over_tokens(
        self, weights: Float[Tensor, "batch heads tokens keys"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """Attention weights over the whole map: a key's is spread evenly over its patch."""
        spread = repeat(
            weights,
            "batch heads tokens (rows columns) -> batch heads tokens (rows down columns across)",
            rows=self.map_size // self.sr_ratio,
            down=self.sr_ratio,
            across=self.sr_ratio,
        )
        return spread / self.sr_ratio**2

    def units(self) -> list[Heads]:
        reduction = [self.reduction] if self.sr_ratio > 1 else []  # for all heads together
        return [Heads(self, [self.query, self.key_value], self.out, unpruned=reduction)]


class Block(nn.Module):
    """Pre-norm block: spatial-reduction attention and a convolutional MLP, each with a residual."""

    def __init__(
        self,
        dim: int,
        map_size: int,
        heads: int,
        mlp_ratio: float,
        sr_ratio: int,
        dropout: float,
        norm_eps: float,
        attention: Kernel,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.attention_norm = nn.LayerNorm(dim, norm_eps)
        self.attention = SpatialReductionAttention(
            dim, map_size, heads, sr_ratio, dropout, norm_eps, attention
        )
        self.mlp_norm = nn.LayerNorm(dim, norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            Rearrange("batch (height width) dim -> batch dim height width", height=map_size),
            DepthwiseConv2d(hidden, 3),
            Rearrange("batch dim height width -> batch (height width) dim"),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


def _stage(
    in_dim: int, dim: int, stride: int, map_size: int, layers: Sequence[nn.Module]
) -> nn.Sequential:
    """A strided convolution from map to tokens, ``layers`` on the tokens, and back to a map."""
    return nn.Sequential(
        nn.Conv2d(in_dim, dim, 2 * stride - 1, stride, stride - 1),
        Rearrange("batch dim height width -> batch (height width) dim"),
        *layers,
        Rearrange("batch (height width) dim -> batch dim height width", height=map_size),
    )


class PVT(nn.Module):
    """Pyramid vision transformer v2: square images to logits. The sizes are by default b0's.

    Args:
        image_size: height and width of the images in pixels; a multiple of all strides' product.
        num_classes: number of logits.
        dims: channels of each stage, divisible by its ``heads``.
        depths: blocks of each stage.
        heads: attention heads of each stage's blocks.
        mlp_ratios: for each stage, hidden channels of the MLP over the stage's channels.
        sr_ratios: for each stage, how many times smaller in height and width the map of keys and
            values is; divides the stage's map.
        patch_strides: for each stage, how many times its patch embedding shrinks height and width.
        in_channels: channels of the images.
        dropout: probability of dropping a value after the attention's output and in the MLP.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        norm_eps: added to the variance in every LayerNorm.
        readout: of the last map; see :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if the lists disagree in length, the strides do not divide the image, an
            ``sr_ratio`` not its map or ``heads`` not its ``dim``; no such readout or attention.
    """

    def __init__(
        self,
        image_size: Count = 224,
        num_classes: Count = 1000,
        dims: Sequence[Count] = (32, 64, 160, 256),
        depths: Sequence[Count] = (2, 2, 2, 2),
        heads: Sequence[Count] = (1, 2, 5, 8),
        mlp_ratios: Sequence[Positive] = (8, 8, 4, 4),
        sr_ratios: Sequence[Count] = (8, 4, 2, 1),
        patch_strides: Sequence[Count] = (4, 2, 2, 2),
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        norm_eps: Positive = 1e-5,
        readout: str = "mean",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_stages(dims, depths, heads, mlp_ratios, sr_ratios, patch_strides)
        map_sizes = _map_sizes(image_size, patch_strides, sr_ratios)
        num_blocks = sum(depths)
        rates = iter(drop_path_rate * i / max(num_blocks - 1, 1) for i in range(num_blocks))
        stages: list[nn.Sequential] = []
        in_dim = in_channels
        for i, (dim, map_size) in enumerate(zip(dims, map_sizes, strict=True)):
            sizes = (dim, map_size, heads[i], mlp_ratios[i], sr_ratios[i])
            blocks = [
                Block(*sizes, dropout, norm_eps, attention, rate)
                for rate in itertools.islice(rates, depths[i])
            ]
            layers = [nn.LayerNorm(dim, norm_eps), *blocks]
            if i < len(dims) - 1:  # the norm that closes the last stage is the net's
                layers.append(nn.LayerNorm(dim, norm_eps))
            stages.append(_stage(in_dim, dim, patch_strides[i], map_size, layers))
            in_dim = dim
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(in_dim, norm_eps)
        self.readout = Readout(readout, map_sizes[-1] ** 2, has_cls=False)
        self.head = nn.Linear(in_dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """As the official code: linear layers as in DeiT, convolutions by their fan-out."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.stages)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        return images  # each stage begins with a patch embedding, the first one too

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
    dims: Sequence[int],
    depths: Sequence[int],
    heads: Sequence[int],
    mlp_ratios: Sequence[float],
    sr_ratios: Sequence[int],
    patch_strides: Sequence[int],
) -> None:
    lengths = [len(each) for each in (dims, depths, heads, mlp_ratios, sr_ratios, patch_strides)]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise LeanvitError(
            "PVT: dims, depths, heads, mlp_ratios, sr_ratios and patch_strides have "
            f"{', '.join(map(str, lengths))} entries; give each one entry per stage."
        )
    for stage, (dim, num_heads) in enumerate(zip(dims, heads, strict=True)):
        if dim % num_heads != 0:
            raise LeanvitError(
                f"PVT: dim {dim} of stage {stage} is not divisible by its heads {num_heads}; "
                f"take heads that divide it, or a dim such as {(dim // num_heads + 1) * num_heads}."
            )


def _map_sizes(
    image_size: int, patch_strides: Sequence[int], sr_ratios: Sequence[int]
) -> list[int]:
    """Height and width of each stage's map in positions."""
    multiple = math.prod(patch_strides)
    if image_size % multiple != 0:
        raise LeanvitError(
            f"PVT: patch_strides {list(patch_strides)} do not divide image_size {image_size}; "
            f"take a multiple of {multiple}, such as {(image_size // multiple + 1) * multiple}, "
            "or smaller strides."
        )
    shrunk = itertools.accumulate(patch_strides, int.__mul__)
    map_sizes = [image_size // times for times in shrunk]
    for stage, (map_size, sr_ratio) in enumerate(zip(map_sizes, sr_ratios, strict=True)):
        if map_size % sr_ratio != 0:
            divisors = [size for size in range(1, map_size + 1) if map_size % size == 0]
            raise LeanvitError(
                f"PVT: sr_ratio {sr_ratio} does not divide the {map_size} x {map_size} map of "
                f"stage {stage}; take one from {', '.join(map(str, divisors))}."
            )
    return map_sizes
