"""The net that a pretraining teaches: what it must be, and how to find it in a checkpoint."""

import math
from typing import Any

from torch import Tensor, nn

from leanvit.contracts import NetOfTokens
from leanvit.errors import LeanvitError


def encoder_weights(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """The weights of the net itself, by its own names, in the checkpoint of any run.

    Args:
        state: the ``state_dict`` of a checkpoint: ``net.encoder.<name>`` are the weights where a
            pretraining left it, ``net.net.<name>`` where a lightweighting method did, and
            ``net.<name>`` where a plain classification did.
        net: one of these names, which may begin with ``net.`` themselves.
    """
    prefixes, own = ("net.encoder.", "net.net.", "net."), list(net.state_dict())
    prefix = max(prefixes, key=lambda each: sum(f"{each}{name}" in state for name in own))
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def patch_grid(encoder: nn.Module, image_size: int, method: str) -> tuple[int, int]:
    """Patches along a side of the image, and the pixels along a side of each.

    Args:
        encoder: the net to be pretrained.
        image_size: height and width of the images in pixels.
        method: who asks, for the message.

    Raises:
        LeanvitError: the net has no tokens, or they do not lie on a grid that divides the image.
    """
    name = type(encoder).__name__
    if not isinstance(encoder, NetOfTokens):
        raise LeanvitError(
            f"pretrain={method} does not fit {name}, which has no row of tokens: choose "
            "model=vit, or another net of tokens at one resolution"
        )
    num_patches = encoder.position_embedding.shape[1] - encoder.num_prefix
    grid = math.isqrt(num_patches)
    if grid**2 != num_patches or image_size % grid:
        raise LeanvitError(
            f"pretrain={method}: the {num_patches} tokens of {name} do not divide {image_size} x "
            f"{image_size} pixels: take a data.image_size that is a multiple of {grid}"
        )
    return grid, image_size // grid


def freeze_unused(encoder: Any) -> None:
    """Leave out of the training what a pretraining does not pass through: they get no gradient."""
    for part in (encoder.readout, encoder.head):
        part.requires_grad_(False)
