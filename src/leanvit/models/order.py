"""The blocks of a net in the order in which an image passes them."""

from torch import nn

from leanvit.errors import LeanvitError


def blocks_in_order(net: nn.Module) -> list[list[nn.Module]]:
    """Each of ``net.blocks``, or of what stands in the stages of ``net.stages``, first to last.

    In a stage, a single layer (a convolution, a norm) belongs to the block that it leads to, and
    after the last block to that one.

    Raises:
        LeanvitError: the net has neither.
    """
    if isinstance(blocks := getattr(net, "blocks", None), nn.ModuleList):
        return [[block] for block in blocks]
    if not isinstance(stages := getattr(net, "stages", None), nn.Sequential):
        raise LeanvitError(f"{type(net).__name__} has neither blocks nor stages, and so no order")
    ordered: list[list[nn.Module]] = []
    for stage in stages:
        waiting: list[nn.Module] = []
        for module in stage.children():
            waiting.append(module)
            if list(module.children()):
                ordered.append(waiting)
                waiting = []
        if waiting and ordered:
            ordered[-1] += waiting
    return ordered
