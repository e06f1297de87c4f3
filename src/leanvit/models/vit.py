"""ViT: the vision transformer.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021
(https://arxiv.org/abs/2010.11929).

- An image is cut into patches, and each patch becomes one token: one strided convolution.
- A learnable [CLS] token is put before them, learnable positions are added to all of them.
- Pre-norm encoder blocks: self-attention, then a two-layer MLP with GELU, each with a residual.
- After a last LayerNorm the [CLS] token, or another readout of the tokens, goes through one linear
  layer to the logits.

Deviations:

- The query, key and value projections have no bias by default. The published tables of parameters
  that the experiments ``vit_v1.*`` repeat count none; a bias on the keys cannot change a softmax.
- The head is one linear layer from the start; the paper's hidden layer serves its pre-training.
- Stochastic depth (``drop_path_rate``, linear over depth) and the initialisation (truncated normal
  of 0.02) are those of DeiT, Touvron et al. 2021 (https://arxiv.org/abs/2012.12877).
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend, join_heads, split_heads
from leanvit.models.convolution_parts import StochasticDepth
from leanvit.models.readout import Readout
from leanvit.values import Count, Positive, ShareBelowOne


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, with heads of ``dim // heads`` channels."""

    def __init__(
        self, dim: int, heads: int, dropout: float, qkv_bias: bool, attention: Kernel
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = split_heads(self.qkv(tokens), self.heads)
        attended = attend(query, key, value, kernel=self.kernel)
        return self.dropout(self.out(join_heads(attended)))

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
        drop_path_rate: float,
        qkv_bias: bool,
        norm_eps: float,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, norm_eps)
        self.attention = Attention(dim, heads, dropout, qkv_bias, attention)
        self.mlp_norm = nn.LayerNorm(dim, norm_eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, dim),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        return self.feed_forward(
            tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        )

    def feed_forward(self, tokens: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
        """What follows the attention."""
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


class ViT(nn.Module):
    """Vision transformer: square images to logits. The sizes are by default ViT-B/16's.

    Args:
        image_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; divides ``image_size``.
        num_classes: number of logits.
        dim: channels of a token; divisible by ``heads``.
        depth: number of encoder blocks.
        heads: attention heads of a block.
        mlp_dim: channels of the MLP's hidden layer.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each linear layer of a block, except after
            the query, key and value projections (as in the paper).
        emb_dropout: the same for the tokens, just after the positions are added.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        qkv_bias: give the query, key and value projections a bias.
        norm_eps: added to the variance in every LayerNorm.
        readout: see :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if ``patch_size`` does not divide ``image_size``, or ``heads`` not ``dim``; no
            such readout or attention.
    """

    num_prefix = 1  # [CLS]

    def __init__(
        self,
        image_size: Count = 224,
        patch_size: Count = 16,
        num_classes: Count = 1000,
        dim: Count = 768,
        depth: Count = 12,
        heads: Count = 12,
        mlp_dim: Count = 3072,
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        emb_dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        qkv_bias: bool = False,
        norm_eps: Positive = 1e-5,
        readout: str = "cls",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_sizes(image_size, patch_size, dim, heads)
        num_patches = (image_size // patch_size) ** 2
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.position_embedding = nn.Parameter(torch.empty(1, 1 + num_patches, dim))
        self.emb_dropout = nn.Dropout(emb_dropout)
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_dim, dropout, rate, qkv_bias, norm_eps, attention)
            for rate in rates
        )
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.readout = Readout(readout, num_patches, has_cls=True)
        self.head = nn.Linear(dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.blocks)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Images to tokens: [CLS] first, then the patches row by row; positions added."""
        patches = rearrange(
            self.patch_embedding(images), "batch dim rows columns -> batch (rows columns) dim"
        )
        cls_tokens = self.cls_token.expand(images.shape[0], -1, -1)
        tokens = torch.cat((cls_tokens, patches), dim=1) + self.position_embedding
        return self.emb_dropout(tokens)

    def read(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        sizes: Float[Tensor, "batch tokens 1"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        if self.readout.reads_one_token:  # LayerNorm sees one token at a time: norm only that one
            return self.norm(self.readout(tokens))
        return self.readout(self.norm(tokens), sizes)

    def end(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch classes"]:
        return self.head(self.read(tokens))

    def pool(self, tokens: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch dim"]:
        return self.readout(tokens)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        tokens = self.begin(images)
        for step in self.steps:
            tokens = step(tokens)
        return self.end(tokens)


def _check_sizes(image_size: int, patch_size: int, dim: int, heads: int) -> None:
    if image_size % patch_size != 0:
        divisors = [size for size in range(1, image_size + 1) if image_size % size == 0]
        raise LeanvitError(
            f"ViT: patch_size {patch_size} does not divide image_size {image_size}; "
            f"take a patch_size from {', '.join(map(str, divisors))}."
        )
    if dim % heads != 0:
        raise LeanvitError(
            f"ViT: dim {dim} is not divisible by heads {heads}; "
            f"take heads that divide it, or a dim such as {(dim // heads + 1) * heads}."
        )
