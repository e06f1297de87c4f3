"""Probabilities of a trained net."""

import contextlib

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from leanvit.augment.none import NoAugment
from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageSet
from leanvit.data.loader import InOrder, make_loader
from leanvit.models.attention import fastest_attention


@torch.inference_mode()
def predict(
    net: nn.Module,
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
    data: ImageSet,
    device: torch.device,
    bfloat16: bool = False,
    batch_size: int = 500,
) -> Float32[Tensor, "n classes"]:
    """Softmax probabilities of every image, in order, on the CPU.

    Args:
        mean, std: the normalisation the net was trained with.
        bfloat16: compute in bfloat16 autocast, as the training did.
    """
    net = net.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    mean, std = mean.to(device), std.to(device)
    loader = make_loader(data, InOrder(len(data)), NoAugment(), batch_size, device)
    autocast = torch.autocast(device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
    probabilities = []
    with autocast, fastest_attention(device, bfloat16):
        for images, _ in loader:
            logits = net(normalise(images, mean, std)).float()
            probabilities.append(logits.softmax(1).cpu())
    return torch.cat(probabilities)
