"""Linformer ViT: attention whose cost grows with the number of tokens, not with its square.

Source: Wang et al., "Linformer: Self-Attention with Linear Complexity", 2020
(https://arxiv.org/abs/2006.04768), its attention in the encoder of Dosovitskiy et al., "An Image is
Worth 16x16 Words", ICLR 2021 (https://arxiv.org/abs/2010.11929).

- The n keys and n values of a head are mixed along the sequence into k each, by learned matrices
  E and F of k x n; each query attends to those k.
- E and F belong to one layer and serve all its heads (the paper's headwise sharing); ``share_kv``
  makes them one matrix (its key-value sharing).
- E and F fix the length of the sequence: a trained net takes no other number of tokens.
- For n tokens of d channels a block pays 2nkd multiply-accumulates for E and F and 2nkd for the
  products of attention, where the ViT pays 2n²d: fewer only where k is below n / 2. At d = 256,
  seven blocks, mlp_dim = 512 and patches of 4, the whole net takes this share of the ViT's MACs:

  =======  ======  ======  ======
  pixels   tokens  k = 32  k = 64
  =======  ======  ======  ======
  32           65   0.999   1.058
  64          257   0.850   0.900
  128        1025   0.532   0.563
  256        4097   0.213   0.225
  =======  ======  ======  ======

Deviations:

- Everything but the attention is :mod:`leanvit.models.vit`: pre-norm blocks, [CLS] or another
  readout, no biases of query, key and value. The paper's encoder is RoBERTa's.
- E and F start normal with a deviation of n^-0.5, so that the k keys and values start at the scale
  of the tokens' own. Neither the sharing across layers nor a k that falls with depth is here.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from leanvit.errors import LeanvitError
from leanvit.models.attention import attend, check_kernel
from leanvit.models.readout import Readout


class Attention(nn.Module):
    """Multi-head attention of all tokens to ``num_projected`` mixtures of them."""

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        num_projected: int,
        share_kv: bool,
        heads: int,
        dropout: float,
        attention: str,
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, check_kernel(attention)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.key_projection = nn.Linear(num_tokens, num_projected, bias=False)  # the paper's E
        self.value_projection = (  # the paper's F
            self.key_projection if share_kv else nn.Linear(num_tokens, num_projected, bias=False)
        )
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = rearrange(
            self.qkv(tokens),
            "batch tokens (three heads dim_head) -> three batch heads tokens dim_head",
            three=3,
            heads=self.heads,
        )
        key = self.key_projection(key.transpose(-2, -1)).transpose(-2, -1)
        value = self.value_projection(value.transpose(-2, -1)).transpose(-2, -1)
        attended = attend(query, key, value, kernel=self.kernel)
        attended = rearrange(
            attended, "batch heads tokens dim_head -> batch tokens (heads dim_head)"
        )
        return self.dropout(self.out(attended))

    def over_tokens(
        self, weights: Float[Tensor, "batch heads tokens projected"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """What each token's value counts in each query's output: ``weights @ F``.

        F is any matrix: entries may be negative, and a row does not sum to 1 as the weights of a
        softmax do. Nothing is clipped or normalised here, since that would be another map.
        """
        return weights @ self.value_projection.weight.to(weights.dtype)


class Block(nn.Module):
    """One pre-norm encoder block: attention and MLP, each skipped by a residual connection."""

    def __init__(
        self,
        dim: int,
        num_tokens: int,
        num_projected: int,
        share_kv: bool,
        heads: int,
        mlp_dim: int,
        dropout: float,
        drop_path_rate: float,
        attention: str,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(
            dim, num_tokens, num_projected, share_kv, heads, dropout, attention
        )
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, dim),
            nn.Dropout(dropout),
        )
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        tokens = tokens + self.drop_path(self.attention(self.attention_norm(tokens)))
        return tokens + self.drop_path(self.mlp(self.mlp_norm(tokens)))


class LinformerViT(nn.Module):
    """Vision transformer with linear attention: square images to logits.

    Args:
        image_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; divides ``image_size``.
        num_classes: number of logits.
        dim: channels of a token; divisible by ``heads``.
        depth: number of encoder blocks.
        heads: attention heads of a block.
        mlp_dim: channels of the MLP's hidden layer.
        num_projected: keys and values that a query attends to, the paper's k; at most the tokens
            of an image, [CLS] included.
        share_kv: one projection for the keys and the values of a block, E = F.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each linear layer of a block, except after
            the query, key and value projections and E and F.
        emb_dropout: the same for the tokens, just after the positions are added.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        readout: see :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if ``patch_size`` does not divide ``image_size``, or ``heads`` not ``dim``;
            ``num_projected`` below 1 or above the tokens; no such readout or attention.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        mlp_dim: int,
        num_projected: int,
        share_kv: bool = False,
        in_channels: int = 3,
        dropout: float = 0.0,
        emb_dropout: float = 0.0,
        drop_path_rate: float = 0.0,
        readout: str = "cls",
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        _check_sizes(image_size, patch_size, dim, heads, num_projected)
        num_patches = (image_size // patch_size) ** 2
        num_tokens = 1 + num_patches
        self.patch_embedding = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.position_embedding = nn.Parameter(torch.empty(1, num_tokens, dim))
        self.emb_dropout = nn.Dropout(emb_dropout)
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        lengths = (num_tokens, num_projected, share_kv)
        self.blocks = nn.ModuleList(
            Block(dim, *lengths, heads, mlp_dim, dropout, rate, attention) for rate in rates
        )
        self.norm = nn.LayerNorm(dim)
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
        for module in self.modules():
            if isinstance(module, Attention):
                for projection in (module.key_projection, module.value_projection):
                    nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    def embed(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Images to tokens: [CLS] first, then the patches row by row; positions added."""
        patches = rearrange(
            self.patch_embedding(images), "batch dim rows columns -> batch (rows columns) dim"
        )
        cls_tokens = self.cls_token.expand(len(images), -1, -1)
        tokens = torch.cat((cls_tokens, patches), dim=1) + self.position_embedding
        return self.emb_dropout(tokens)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        if self.readout.reads_one_token:  # LayerNorm sees one token at a time: norm only that one
            return self.head(self.norm(self.readout(tokens)))
        return self.head(self.readout(self.norm(tokens)))


def _check_sizes(
    image_size: int, patch_size: int, dim: int, heads: int, num_projected: int
) -> None:
    if image_size % patch_size != 0:
        divisors = [size for size in range(1, image_size + 1) if image_size % size == 0]
        raise LeanvitError(
            f"LinformerViT: patch_size {patch_size} does not divide image_size {image_size}; "
            f"take a patch_size from {', '.join(map(str, divisors))}."
        )
    if dim % heads != 0:
        raise LeanvitError(
            f"LinformerViT: dim {dim} is not divisible by heads {heads}; "
            f"take heads that divide it, or a dim such as {(dim // heads + 1) * heads}."
        )
    num_tokens = 1 + (image_size // patch_size) ** 2
    if not 1 <= num_projected <= num_tokens:
        raise LeanvitError(
            f"LinformerViT: num_projected {num_projected} does not suit the {num_tokens} tokens of "
            f"an image; take 1 to {num_tokens}, and less than half of them to save any compute."
        )
