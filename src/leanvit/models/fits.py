"""Which nets a method fits that takes tokens out, merges or hides them."""

from typing import Any

from torch import nn

from leanvit.contracts import NetOfTokens
from leanvit.errors import LeanvitError


def check_fits(net: nn.Module, choice: str, reason: str, fits: str, wants_cls: bool = True) -> Any:
    """The net, a :class:`NetOfTokens`, where any number of its tokens will do.

    Args:
        choice: the method's, such as ``lightweight=tome``.
        reason: why another net does not do, to stand after its name.
        fits: what the method fits.
        wants_cls: [CLS] must stand before the patches.

    Raises:
        LeanvitError: another net, or one whose attention wants all tokens (Linformer's).
    """
    name = type(net).__name__
    if not isinstance(net, NetOfTokens) or (wants_cls and not net.num_prefix):
        raise LeanvitError(f"{choice} does not fit {name}, {reason}: it fits {fits}")
    if getattr(net, "fixed_length", False):
        raise LeanvitError(
            f"{choice} does not fit {name}, whose attention wants all tokens: it fits {fits}"
        )
    return net
