"""The weights of a net in the order in which an image passes them."""

from torch import nn

from leanvit.contracts import NetOfSteps
from leanvit.errors import LeanvitError

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm2d)


def is_pyramid(net: NetOfSteps) -> bool:
    """Whether its steps are stages, which are rows of blocks, and not blocks."""
    return all(isinstance(step, nn.Sequential) for step in net.steps)


def parameters_in_order(net: nn.Module) -> list[list[nn.Parameter]]:
    """Those before the steps, those of each block, and those after the steps: each once.

    In a stage, a single layer (a convolution, a norm) belongs to the block that it leads to, and
    after the last block to that one. Bare parameters of the net itself belong before the steps.

    Raises:
        LeanvitError: the net does not say its steps.
    """
    if not isinstance(net, NetOfSteps):
        raise LeanvitError(
            f"{type(net).__name__} does not say its steps (begin, steps, end, pool), and so has no "
            "order of blocks"
        )
    blocks = [block for step in net.steps for block in _blocks(step)]
    depth_of = {
        id(parameter): depth
        for depth, block in enumerate(blocks, start=1)
        for module in block
        for parameter in module.parameters()
    }
    order: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 2)]
    passed = False
    for parameter in net.parameters():
        depth = depth_of.get(id(parameter))
        passed = passed or depth is not None
        order[len(blocks) + 1 if depth is None and passed else depth or 0].append(parameter)
    return order


def _blocks(step: nn.Module) -> list[list[nn.Module]]:
    if not isinstance(step, nn.Sequential):
        return [[step]]
    blocks: list[list[nn.Module]] = []
    waiting: list[nn.Module] = []
    for module in step:
        waiting.append(module)
        if list(module.children()):
            blocks.append(waiting)
            waiting = []
    if not blocks:  # single layers only: they are one block
        return [waiting]
    blocks[-1] += waiting
    return blocks


def head_parameters(net: nn.Module) -> list[nn.Parameter]:
    """Those of the head, and what stands between the steps and it but for norms: a readout's."""
    head = getattr(net, "head", None)
    own = list(head.parameters()) if isinstance(head, nn.Module) else []
    if not isinstance(net, NetOfSteps):
        return own
    known = {id(parameter) for parameter in own}
    for module in net.modules():
        if isinstance(module, NORMS):
            known |= {id(parameter) for parameter in module.parameters()}
    return own + [each for each in parameters_in_order(net)[-1] if id(each) not in known]
