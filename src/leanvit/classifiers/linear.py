"""The layer of a net whose rows are its classes."""

from torch import nn

from leanvit.errors import LeanvitError


def last_linear(net: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """The module that holds the last linear layer of the head, its name there, and the layer.

    Raises:
        LeanvitError: the head does not end in a linear layer.
    """
    head = net.head
    if isinstance(head, nn.Linear):
        return net, "head", head
    if isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear):
        return head, str(len(head) - 1), head[-1]
    raise LeanvitError(
        f"{type(net).__name__}'s head ends in no linear layer: choose classifier=retrain"
    )
