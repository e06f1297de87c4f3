"""CCT: the compact convolutional transformer.

Source: Hassani et al., "Escaping the Big Data Paradigm with Compact Transformers", 2021
(https://arxiv.org/abs/2104.05704); order of layers, sizes and initialisation are those of the
official code (https://github.com/SHI-Labs/Compact-Transformers).

- Convolutional tokeniser: convolution, ReLU and max pooling, once or twice. Its tokens overlap, and
  it brings the locality that a small set cannot teach.
- Learnable or sinusoidal positions are added to the tokens; there is no [CLS] token.
- Encoder blocks whose stream is normalised in its middle: the second LayerNorm reads the sum of the
  attention's residual, and the MLP's residual starts from what it gives.
- Sequence pooling: one linear layer scores each token, a softmax over the tokens makes weights of
  the scores, and the weighted sum goes through one linear layer to the logits.

Deviations:

- The attention weights are not dropped out; the official code drops a tenth of them.
- Of the official code's positions the choice of none is left out.
"""

import itertools
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel
from leanvit.models.convolution_parts import StochasticDepth
from leanvit.models.readout import Readout
from leanvit.models.vit import Attention
from leanvit.values import Count, ShareBelowOne


class Block(nn.Module):
    """One encoder block: pre-norm attention, then LayerNorm of the stream itself, then the MLP."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_dim: int,
        dropout: float,
        drop_path_rate: float,
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout, qkv_bias=False, attention=attention)
        self.mlp_norm = nn.LayerNorm(dim)
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

    def feed_forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """What follows the attention."""
        tokens = self.mlp_norm(tokens)  # as published: no sum from before the norm goes on
        return tokens + self.drop_path(self.mlp(tokens))


class SequencePool(nn.Module):
    """Weighted sum of the tokens; the weights are a softmax over a linear score of each token.

    Its names are those of :class:`leanvit.models.readout.Readout`.
    """

    kind, reads_cls, reads_merged = "sequence_pool", False, True
    tokens_read = slice(0, None)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        sizes: Float[Tensor, "batch tokens 1"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        scores = self.score(tokens)
        if sizes is not None:  # each as often as the patches that it stands for
            scores = scores + sizes.to(tokens.dtype).log()
        weights = scores.squeeze(2).softmax(dim=1).to(tokens.dtype)
        return torch.einsum("bt,btd->bd", weights, tokens)


def sinusoidal_positions(num_tokens: int, dim: int) -> Float[Tensor, "tokens dim"]:
    """sin(place / 10000^(channel / dim)) in even channels, the cosine beside it in odd ones
    (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""
    even = torch.arange(dim) // 2 * 2
    angles = torch.arange(num_tokens)[:, None] / 10000 ** (even / dim)
    return torch.where(torch.arange(dim) % 2 == 0, angles.sin(), angles.cos())


class CCT(nn.Module):
    """Compact convolutional transformer: square images to logits. The sizes are by default those
    of CCT-7/3x1 on CIFAR-10.

    Args:
        image_size: height and width of the images in pixels.
        num_classes: number of logits.
        num_convolutions: layers of the tokeniser; each pools the map to half its size.
        kernel_size: of the tokeniser's convolutions in pixels. Their stride is
            ``kernel_size // 2 - 1`` (at least 1).
        dim: channels of a token; divisible by ``heads``.
        depth: number of encoder blocks.
        heads: attention heads of a block.
        mlp_dim: channels of the MLP's hidden layer.
        positions: ``learnable``, or ``sinusoidal`` over the tokens row by row, without parameters.
        in_channels: channels of the images.
        dropout: probability of dropping a value after each linear layer of a block, except after
            the query, key and value projections.
        emb_dropout: the same for the tokens, just after the positions are added.
        drop_path_rate: probability of skipping a residual branch of the last block for one image;
            it grows linearly from 0 at the first block.
        readout: ``sequence_pool``, or one of :class:`leanvit.models.readout.Readout`.
        attention: see :func:`leanvit.models.attention.attend`.

    Raises:
        LeanvitError: if the tokeniser leaves no two tokens, ``heads`` does not divide ``dim``, or
            there are no such positions, readout or attention.
    """

    num_prefix = 0
    position_embedding: Tensor

    def __init__(
        self,
        image_size: Count = 32,
        num_classes: Count = 10,
        num_convolutions: Count = 1,
        kernel_size: Count = 3,
        dim: Count = 256,
        depth: Count = 7,
        heads: Count = 4,
        mlp_dim: Count = 512,
        positions: Literal["learnable", "sinusoidal"] = "learnable",
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        emb_dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        readout: str = "sequence_pool",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__()
        _check_sizes(image_size, num_convolutions, kernel_size, dim, heads)
        num_tokens = _map_size(image_size, num_convolutions, kernel_size) ** 2
        self.tokeniser = _tokeniser(in_channels, dim, num_convolutions, kernel_size)
        if positions == "learnable":
            self.position_embedding = nn.Parameter(torch.empty(1, num_tokens, dim))
            nn.init.trunc_normal_(self.position_embedding, std=0.2)  # the official code's, not 0.02
        else:
            fixed = sinusoidal_positions(num_tokens, dim)[None]
            self.register_buffer("position_embedding", fixed, persistent=False)
        self.emb_dropout = nn.Dropout(emb_dropout)
        rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_dim, dropout, rate, attention) for rate in rates
        )
        self.norm = nn.LayerNorm(dim)
        self.readout = _readout(readout, dim, num_tokens)
        self.head = nn.Linear(dim, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.blocks)

    def begin(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Images to tokens: the tokeniser's map row by row; positions added."""
        tokens = rearrange(
            self.tokeniser(images), "batch dim rows columns -> batch (rows columns) dim"
        )
        return self.emb_dropout(tokens + self.position_embedding)

    def read(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        sizes: Float[Tensor, "batch tokens 1"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
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


def _tokeniser(
    in_channels: int, dim: int, num_convolutions: int, kernel_size: int
) -> nn.Sequential:
    stride, padding = _stride_and_padding(kernel_size)
    widths = [in_channels, *[64] * (num_convolutions - 1), dim]
    layers: list[nn.Module] = []
    for in_dim, out_dim in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
    return nn.Sequential(*layers)


def _stride_and_padding(kernel_size: int) -> tuple[int, int]:
    return max(1, kernel_size // 2 - 1), max(1, kernel_size // 2)


def _map_size(image_size: int, num_convolutions: int, kernel_size: int) -> int:
    """Height and width of the tokeniser's map in tokens."""
    stride, padding = _stride_and_padding(kernel_size)
    size = image_size
    for _ in range(num_convolutions):
        size = (size + 2 * padding - kernel_size) // stride + 1
        size = (size - 1) // 2 + 1  # the pooling
    return size


def _readout(readout: str, dim: int, num_tokens: int) -> nn.Module:
    if readout == "sequence_pool":
        return SequencePool(dim)
    try:
        return Readout(readout, num_tokens, has_cls=False)
    except LeanvitError as error:
        raise LeanvitError(f"{error}, or sequence_pool") from None


def _check_sizes(
    image_size: int, num_convolutions: int, kernel_size: int, dim: int, heads: int
) -> None:
    if _map_size(image_size, num_convolutions, kernel_size) < 2:
        large_enough = next(
            size
            for size in itertools.count(image_size)
            if _map_size(size, num_convolutions, kernel_size) > 1
        )
        raise LeanvitError(
            f"CCT: image_size {image_size} leaves one token, which has no other to attend to; "
            f"take {large_enough} or more, or fewer num_convolutions than {num_convolutions}."
        )
    if dim % heads != 0:
        raise LeanvitError(
            f"CCT: dim {dim} is not divisible by heads {heads}; "
            f"take heads that divide it, or a dim such as {(dim // heads + 1) * heads}."
        )
