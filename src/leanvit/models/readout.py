"""Token readouts: the one vector that an image is classified by.

- ``cls``: the [CLS] token, as in ViT (https://arxiv.org/abs/2010.11929).
- ``mean``, ``sum``: of the patch tokens; the mean is the usual global average pooling.
- ``weighted``: a learnable weight for each patch token; the weighted sum is added to [CLS], where
  there is one. It starts as the mean.
- ``token:<k>``: the token at place k of the sequence; [CLS], where there is one, is at place 0 and
  the first patch at place 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.errors import LeanvitError


class Readout(nn.Module):
    """Tokens to one vector; ``tokens`` are the patches row by row, after [CLS] if there is one.

    Args:
        readout: ``cls``, ``mean``, ``sum``, ``weighted`` or ``token:<k>``.
        num_patches: patch tokens of an image.
        has_cls: a [CLS] token stands before the patches.

    Attributes:
        kind: the readout without its place.
        reads_one_token: by its place; it can be normed alone.
        reads_cls: [CLS] and nothing else.
        reads_merged: it can read tokens that stand for several patches each.
        tokens_read: those that the vector is made of.

    Raises:
        LeanvitError: no such readout, no [CLS] token to read, or ``k`` beyond the sequence.
    """

    def __init__(self, readout: str, num_patches: int, has_cls: bool) -> None:
        super().__init__()
        self.kind, _, place = str(readout).partition(":")
        self.num_prefix, self.num_patches = int(has_cls), num_patches
        _check(readout, self.kind, place, num_patches, has_cls)
        self.place = int(place or 0)
        self.reads_one_token = self.kind in ("cls", "token")
        self.reads_cls = has_cls and self.reads_one_token and self.place == 0
        self.reads_merged = self.reads_cls or self.kind in ("mean", "sum")
        first = 0 if self.kind == "weighted" else self.num_prefix
        last = self.place + 1 if self.reads_one_token else None
        self.tokens_read = slice(self.place if self.reads_one_token else first, last)
        if self.kind == "weighted":
            # one dimension and "token" in its name: weight decay spares it
            self.token_weights = nn.Parameter(torch.full((num_patches,), 1 / num_patches))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        sizes: Float[Tensor, "batch tokens 1"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """``sizes``: patches that each token stands for; ``None``: one each."""
        patches = tokens[:, self.num_prefix :]
        if self.kind in ("mean", "sum") and sizes is not None:
            sizes = sizes[:, self.num_prefix :]
            summed = (patches * sizes).sum(dim=1)
            read = summed / sizes.sum(dim=1) if self.kind == "mean" else summed
            return read.to(tokens.dtype)
        if self.kind == "mean":
            return patches.mean(dim=1)
        if self.kind == "sum":
            return patches.sum(dim=1)
        if self.kind == "weighted":
            summed = torch.einsum("btd,t->bd", patches, self.token_weights.to(patches.dtype))
            return summed + tokens[:, 0] if self.num_prefix else summed
        return tokens[:, self.place]  # "cls" is at place 0


def _check(readout: str, kind: str, place: str, num_patches: int, has_cls: bool) -> None:
    kinds = [*(["cls"] if has_cls else []), "mean", "sum", "weighted", "token:<k>"]
    if kind == "token" and place.isdecimal():
        last = num_patches - 1 + has_cls
        if int(place) > last:
            raise LeanvitError(
                f"readout={readout} is beyond the sequence of {last + 1} tokens: give 0 to {last}"
                + (" (0 is [CLS])" if has_cls else "")
            )
    elif kind == "token" or readout not in kinds:
        why = " (this net has no [CLS] token)" if kind == "cls" else ""
        raise LeanvitError(f"readout={readout}{why}: choose from {', '.join(kinds)}")
