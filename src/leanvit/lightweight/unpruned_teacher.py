"""The unpruned net teaches the pruned one its logits and its patch tokens.

Source: Rao et al., "DynamicViT", NeurIPS 2021 (https://arxiv.org/abs/2106.02034), section 3.3.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.lightweight.distill import Teacher


class UnprunedTeacher(Teacher):
    """A frozen copy of the net as it is before anything is pruned."""

    net: Any  # a NetOfTokens

    def __init__(self, net: nn.Module) -> None:
        super().__init__(copy.deepcopy(net))

    @torch.no_grad()
    def logits_and_patches(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch patches dim"]]:
        """Its logits, and its patch tokens after the last norm."""
        net = self.net.to(images)  # of the same device and type
        tokens = net.begin(images)
        for block in net.blocks:
            tokens = block(tokens)
        tokens = net.norm(tokens)
        return net.head(net.readout(tokens)), tokens[:, 1:]


def token_distillation(
    patches: Float[Tensor, "batch patches dim"],
    teacher: Float[Tensor, "batch patches dim"],
    kept: Float[Tensor, "batch patches"],
) -> Float[Tensor, ""]:
    """Mean square error of the patch tokens that are kept to the end, all images together."""
    errors = (patches - teacher).float().square().mean(dim=2)
    return (errors * kept).sum() / kept.sum().clamp(min=1)
