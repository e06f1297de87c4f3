"""Which nets a method fits that takes tokens out, merges or hides them."""

from typing import TypeVar

from torch import nn

from leanvit.errors import LeanvitError
from leanvit.models.vit import Attention

Net = TypeVar("Net", bound=nn.Module)


def check_fits(
    net: nn.Module, kinds: tuple[type[Net], ...], choice: str, reason: str, fits: str
) -> Net:
    """The net, where it is of these kinds and its blocks take any number of tokens.

    Args:
        choice: the method's, such as ``lightweight=tome``.
        reason: why another net does not do, to stand after its name.
        fits: what the method fits.

    Raises:
        LeanvitError: another net, or one whose attention wants all tokens (Linformer's).
    """
    name = type(net).__name__
    if not isinstance(net, kinds):
        raise LeanvitError(f"{choice} does not fit {name}, {reason}: it fits {fits}")
    blocks: nn.ModuleList = net.blocks  # type: ignore[assignment]
    if not all(isinstance(block.attention, Attention) for block in blocks):
        raise LeanvitError(
            f"{choice} does not fit {name}, whose attention wants all tokens: it fits {fits}"
        )
    return net
