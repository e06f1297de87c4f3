"""The steps of a net as a graph, for what runs nets without their Python."""

import copy
import warnings

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from leanvit.contracts import Method
from leanvit.errors import LeanvitError


def copy_of(net: nn.Module) -> nn.Module:
    """What is deployed of the net, in evaluation, in float32 on the CPU.

    Raises:
        LeanvitError: :func:`trace` would find no graph, as its steps are others for each image.
    """
    if isinstance(net, Method):
        net = net.deployed()
    if not getattr(net, "fixed_steps", True):
        raise LeanvitError(
            f"{type(net).__name__} takes other steps for each image, which no fixed graph holds: "
            "quantize and export want a net whose images all take the same (dynamic_vit: with "
            "keep=top_k)"
        )
    return copy.deepcopy(net).to("cpu", torch.float32).eval()


def trace(net: nn.Module, image_size: int) -> ExportedProgram:
    """What ``net`` computes: normalised images, any number of them -> logits.

    Args:
        image_size: height and width of the images in pixels.
    """
    from torch._dynamo.exc import UserError  # imports for seconds

    images = torch.zeros(2, 3, image_size, image_size)  # of one, torch.export takes the 1 as fixed
    batch = ({0: Dim.DYNAMIC},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its own parts will lose in future versions
        try:
            return export(net, (images,), dynamic_shapes=batch, strict=False)
        except UserError:
            # a size went through Python's len(), or a part keeps a result: only reading the
            # bytecode sees through these, which takes several times as long
            return export(net, (images,), dynamic_shapes=batch, strict=True)
