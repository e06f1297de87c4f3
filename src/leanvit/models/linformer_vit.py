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

- Everything but the attention is :class:`leanvit.models.vit.ViT`: pre-norm blocks, [CLS] or another
  readout, no biases of query, key and value. The paper's encoder is RoBERTa's.
- E and F start normal with a deviation of n^-0.5, so that the k keys and values start at the scale
  of the tokens' own. Neither the sharing across layers nor a k that falls with depth is here.
"""

from jaxtyping import Float
from torch import Tensor, nn

from leanvit.contracts import Heads
from leanvit.errors import LeanvitError
from leanvit.models.attention import Kernel, attend, join_heads, split_heads
from leanvit.models.vit import ViT
from leanvit.values import Count, ShareBelowOne


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
        attention: Kernel,
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.key_projection = nn.Linear(num_tokens, num_projected, bias=False)  # the paper's E
        self.value_projection = (  # the paper's F
            self.key_projection if share_kv else nn.Linear(num_tokens, num_projected, bias=False)
        )
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        for projection in (self.key_projection, self.value_projection):
            nn.init.normal_(projection.weight, std=num_tokens**-0.5)
        for linear in (self.qkv, self.out):
            nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = split_heads(self.qkv(tokens), self.heads)
        key = self.key_projection(key.transpose(-2, -1)).transpose(-2, -1)
        value = self.value_projection(value.transpose(-2, -1)).transpose(-2, -1)
        attended = attend(query, key, value, kernel=self.kernel)
        return self.dropout(self.out(join_heads(attended)))

    def over_tokens(
        self, weights: Float[Tensor, "batch heads tokens projected"]
    ) -> Float[Tensor, "batch heads tokens tokens"]:
        """What each token's value counts in each query's output: ``weights @ F``.

        F is any matrix: entries may be negative, and a row does not sum to 1 as the weights of a
        softmax do. Nothing is clipped or normalised here, since that would be another map.
        """
        return weights @ self.value_projection.weight.to(weights.dtype)

    def units(self) -> list[Heads]:
        return [Heads(self, makers=[self.qkv], reader=self.out)]


class LinformerViT(ViT):
    """Vision transformer with linear attention: square images to logits.

    Args:
        num_projected: keys and values that a query attends to, the paper's k; at most the tokens
            of an image, [CLS] included.
        share_kv: one projection for the keys and the values of a block, E = F.
        others: see :class:`leanvit.models.vit.ViT`.

    Raises:
        LeanvitError: ``num_projected`` below 1 or above the tokens; or as a ViT's.
    """

    fixed_length = True

    def __init__(
        self,
        image_size: Count,
        patch_size: Count,
        num_classes: Count,
        dim: Count,
        depth: Count,
        heads: Count,
        mlp_dim: Count,
        num_projected: Count,
        share_kv: bool = False,
        in_channels: Count = 3,
        dropout: ShareBelowOne = 0.0,
        emb_dropout: ShareBelowOne = 0.0,
        drop_path_rate: ShareBelowOne = 0.0,
        readout: str = "cls",
        attention: Kernel = "sdpa",
    ) -> None:
        super().__init__(
            image_size,
            patch_size,
            num_classes,
            dim,
            depth,
            heads,
            mlp_dim,
            in_channels=in_channels,
            dropout=dropout,
            emb_dropout=emb_dropout,
            drop_path_rate=drop_path_rate,
            readout=readout,
            attention=attention,
        )
        num_tokens = self.position_embedding.shape[1]
        if num_projected > num_tokens:
            raise LeanvitError(
                f"LinformerViT: num_projected {num_projected} does not suit the {num_tokens} "
                f"tokens of an image; take 1 to {num_tokens}, and less than half of them to save "
                "any compute."
            )
        lengths = (num_tokens, num_projected, share_kv)
        for block in self.blocks:
            block.attention = Attention(dim, *lengths, heads, dropout, attention)
