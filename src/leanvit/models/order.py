"""The blocks of a net in the order in which an image passes them."""

from torch import nn

from leanvit.errors import LeanvitError


def blocks_in_order(net: nn.Module) -> list[nn.Module]:
    """``net.blocks``, or what has weights in the stages of ``net.stages``, first to last.

    Raises:
        LeanvitError: the net has neither.
    """
    if isinstance(blocks := getattr(net, "blocks", None), nn.ModuleList):
        return list(blocks)
    if isinstance(stages := getattr(net, "stages", None), nn.Sequential):
        return [each for stage in stages for each in stage.children() if list(each.parameters())]
    raise LeanvitError(f"{type(net).__name__} has neither blocks nor stages, and so no order")
