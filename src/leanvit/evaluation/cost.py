"""What a net costs: parameters, bytes and multiply-accumulates for one image.

Two countings stand side by side, because published tables use the second:

- ``macs`` are half the floating-point operations that PyTorch's own counter sees in every matrix
  product and convolution, the two products of attention included. They equal the closed form.
- ``thop_params`` and ``thop_macs`` are what thop (https://github.com/Lyken17/pytorch-OpCounter)
  reports: no attention products and no bare ``nn.Parameter``, but four operations for each value
  that an affine normalisation reads.

Both run once on a copy without storage (the meta device): the figures do not depend on where the
net lives, fused attention is counted as its plain products, and a large net costs no memory.
"""

import copy
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

with warnings.catch_warnings():
    # thop compares versions with distutils, which Python 3.11 warns about.
    warnings.simplefilter("ignore", DeprecationWarning)
    import thop


@dataclass(frozen=True)
class Cost:
    """What one net costs; MACs are for one image, in evaluation mode.

    Attributes:
        params: values in all parameters, a shared parameter counted once.
        trainable_params: those of them that get a gradient.
        weight_bytes: bytes of the weights as a checkpoint holds them: parameters and persistent
            buffers, such as BatchNorm's running statistics.
        macs: multiply-accumulates of all matrix products and convolutions.
        thop_params: parameters as thop counts them.
        thop_macs: multiply-accumulates as thop counts them.
    """

    params: int
    trainable_params: int
    weight_bytes: int
    macs: int
    thop_params: int
    thop_macs: int


def cost(net: nn.Module, image_size: int, in_channels: int = 3) -> Cost:
    """Count what ``net`` costs for one image of ``image_size`` x ``image_size`` pixels.

    The net may live on any device, train or evaluate, and be compiled with ``net.compile()``; it
    is not changed. Its forward pass must not depend on the values of an image: the cost of a net
    whose work differs from image to image is an average, and the net's own method reports it.
    """
    # keep_vars gives the tensors themselves, so that a shared one is recognised by its identity.
    saved = net.state_dict(keep_vars=True).values()
    weights = {id(weight): weight for weight in saved if isinstance(weight, Tensor)}
    shadow = _meta_copy(net)
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    images = torch.empty(1, in_channels, image_size, image_size, dtype=dtype, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(images)
    # thop keeps its sums in buffers, and reads them: those need storage even where the caller
    # builds its nets on the meta device.
    with torch.device("cpu"):
        thop_macs, thop_params = thop.profile(shadow, (images,), verbose=False)
    return Cost(
        params=sum(p.numel() for p in net.parameters()),
        trainable_params=sum(p.numel() for p in net.parameters() if p.requires_grad),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights.values()),
        macs=counter.get_total_flops() // 2,
        thop_params=int(thop_params),
        thop_macs=int(thop_macs),
    )


def _meta_copy(net: nn.Module) -> nn.Module:
    """A copy of ``net`` in evaluation mode whose tensors have shapes and no storage."""
    # deepcopy takes what the memo holds for a copy made already: no weight is ever copied.
    memo: dict[int, object] = {}
    for parameter in net.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
    for buffer in net.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(net, memo).eval()
