"""The layer of a net whose rows are its classes."""

from typing import Any

from torch import nn

from leanvit.errors import LeanvitError


def last_linear(net: Any, instead: str = "classifier=retrain") -> tuple[nn.Module, str, nn.Linear]:
    """The module that holds the last linear layer of the head, its name there, and the layer.

    Args:
        instead: what to choose where there is none, for the message.

    Raises:
        LeanvitError: the head does not end in a linear layer.
    """
    *_, last = getattr(net, "head", nn.Identity()).modules()
    if not isinstance(last, nn.Linear):
        raise LeanvitError(f"{type(net).__name__}'s head ends in no linear layer: choose {instead}")
    holders = ((holder, name) for holder in net.modules() for name, each in holder.named_children()
               if each is last)  # fmt: skip
    return *next(holders), last
