"""ViT-Conv: a vision transformer without [CLS] whose tokens stay a map of 1x1 convolutions.

Source: a variant made for courses, with no paper of its own, of Dosovitskiy et al., "An Image is
Worth 16x16 Words", ICLR 2021 (https://arxiv.org/abs/2010.11929); where this file is silent, it
does as :mod:`leanvit.models.vit`.

- No [CLS] token: the patches are a map from the first layer to the last, a learned position map is
  added to it, and every linear layer of a block is a 1x1 convolution.
- BatchNorm in place of LayerNorm: a position is scaled by statistics of the whole batch.
- Scores are scaled by ``dim ** -0.5``, the width of the map, and not by that of a head: with h
  heads the softmax starts sqrt(h) times flatter.
- Attention dropout masks scores before the softmax: what is left is normalised to one again, where
  the usual dropout of the weights after it leaves sums that vary.
- The query, key and value projections start Xavier-uniform, each for itself, without bias.
- The head reads the whole map: flattened, then two linear layers.

Deviations:

- A query whose every score is masked attends to nothing; the plain formula gives it NaN.
- All other layers of the blocks and the head start as linear layers do there; so does stochastic
  depth (``drop_path_rate``).
"""

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend
from leanvit.models.convolution_parts import StochasticDepth
from leanvit.values import Count, Share, ShareBelowOne


class Attention(nn.Module):
    """Multi-head self-attention over all positions of a map."""

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        scale: str,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.scale = (dim if scale == "dim" else dim // heads) ** -0.5
        self.attention_dropout = attention_dropout
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.out = nn.Conv2d(dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        query, key, value = rearrange(
            self.qkv(features),
            "batch (three heads dim_head) rows columns"
            " -> three batch heads (rows columns) dim_head",
            three=3,
            heads=self.heads,
        )
        mask = self._draw_mask(query)
        attended = attend(query, key, value, bias=mask, scale=self.scale, kernel=self.kernel)
        attended = rearrange(
            attended,
            "batch heads (rows columns) dim_head -> batch (heads dim_head) rows columns",
            rows=features.shape[2],
        )
        return self.dropout(self.out(attended))

    def _draw_mask(
        self, query: Float[Tensor, "batch heads tokens dim_head"]
    ) -> Float[Tensor, "batch heads tokens tokens"] | None:
        """-inf for each score that is dropped in this step, 0 for the others."""
        if not self.training or self.attention_dropout == 0:
            return None
        zeros = query.new_zeros(*query.shape[:-1], query.shape[-2])
        # float32: bfloat16 has too few values between 0 and 1 to hit a probability
        dropped = torch.rand_like(zeros, dtype=torch.float32) < self.attention_dropout
        return zeros.masked_fill(dropped, -torch.inf)

    def units(self) -> list[Heads]:
        return [Heads(self, makers=[self.qkv], reader=self.out)]


class Block(nn.Module):
    """One pre-norm encoder block: attention and MLP, each skipped by a residual connection."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
        attention_dropout: float,
        drop_path_rate: float,
        scale: str,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.BatchNorm2d(dim)
        self.attention = Attention(dim, heads, dropout, attention_dropout, scale, attention)
        self.mlp_norm = nn.BatchNorm2d(dim)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, mlp_dim, 1),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(mlp_dim, dim, 1),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        features = features + self.drop_path(self.attention(self.attention_norm(features)))
        return features + self.drop_path(self.mlp(self.mlp_norm(features)))


class ViTConv(nn.Module):
    """Vision transformer on a map of patches: square images to logits.

    Args:
        image_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; divides ``image_size``.
        num_classes: number of logits.
        dim: channels of the map; divisible by ``heads``.
        depth: number of encoder blocks.
        heads: attention heads of a block.
        mlp_dim: channels of the hidden layers, in each block's MLP and in the head.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each convolution of a block, except after
            the query, key and value projections.
        attention_dropout: probability of masking a score before the softmax.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        scale: of the scores: ``"dim"``, ``dim ** -0.5``; ``"head_dim"``, the usual
            ``(dim // heads) ** -0.5``.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if ``patch_size`` does not divide ``image_size``, or ``heads`` not ``dim``; no
            such scale or attention.
    """

    def __init__(
        self,
        image_size: Count,
        patch_size: Count,
        num_classes: Count,
        dim: Count,
        depth: Count,
        heads: Count,
        mlp_dim: Count,
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        attention_dropout: Share = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        scale: Literal["dim", "head_dim"] = "dim",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_sizes(image_size, patch_size, dim, heads)
        map_size = image_size // patch_size
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.position_embedding = nn.Parameter(torch.empty(1, dim, map_size, map_size))
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_dim, dropout, attention_dropout, rate, scale, attention)
            for rate in rates
        )
        self.norm = nn.BatchNorm2d(dim)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(dim * map_size**2, mlp_dim),
            nn.GELU(),
            nn.Linear(mlp_dim, num_classes),
        )
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module is not self.patch_embedding:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Attention):
                for projection in module.qkv.weight.chunk(3):
                    nn.init.xavier_uniform_(projection)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.blocks)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch dim rows columns"]:
        """Images to the map of their patches; positions added."""
        return self.patch_embedding(images) + self.position_embedding

    def end(
        self, features: Float[Tensor, "batch dim rows columns"]
    ) -> Float[Tensor, "batch classes"]:
        return self.head(self.norm(features))

    def pool(self, features: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim"]:
        return features.mean(dim=(2, 3))

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)


def _check_sizes(image_size: int, patch_size: int, dim: int, heads: int) -> None:
    if image_size % patch_size != 0:
        divisors = [size for size in range(1, image_size + 1) if image_size % size == 0]
        raise LeanvitError(
            f"ViTConv: patch_size {patch_size} does not divide image_size {image_size}; "
            f"take a patch_size from {', '.join(map(str, divisors))}."
        )
    if dim % heads != 0:
        raise LeanvitError(
            f"ViTConv: dim {dim} is not divisible by heads {heads}; "
            f"take heads that divide it, or a dim such as {(dim // heads + 1) * heads}."
        )
