"""Probabilities of a trained net."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from leanvit.augment.none import NoAugment
from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageSet
from leanvit.data.loader import InOrder, make_loader
from leanvit.models.attention import fastest_attention


@dataclass(frozen=True)
class Trained:
    """A trained net with what it needs to classify images.

    Attributes:
        mean, std: the normalisation it was trained with, per channel, in 0..1.
        image_size: in pixels.
        bfloat16: compute in bfloat16 autocast, as the training did.
    """

    net: nn.Module
    mean: Float32[Tensor, "3"]
    std: Float32[Tensor, "3"]
    classes: tuple[str, ...]
    image_size: int
    bfloat16: bool


@torch.inference_mode()
def predict(
    trained: Trained,
    data: ImageSet,
    device: torch.device,
    batch_size: int = 500,
    memory_gib: float | None = None,
    macs: list[Tensor] | None = None,
) -> Float32[Tensor, "n classes"]:
    """Softmax probabilities of every image, in order, on the CPU.

    Args:
        memory_gib: see :func:`leanvit.data.loader.make_loader`.
        macs: gets the multiply-accumulates of every image, batch by batch, where the net's work
            differs from image to image and it tells (``macs_used``).
    """
    probabilities = []
    for images in _batches(trained, data, device, batch_size, memory_gib):
        probabilities.append(trained.net(images).float().softmax(1).cpu())
        if macs is not None and hasattr(trained.net, "macs_used"):
            macs.append(trained.net.macs_used.cpu())  # type: ignore[arg-type]
    return torch.cat(probabilities)


@torch.inference_mode()
def predict_exits(
    trained: Trained,
    data: ImageSet,
    device: torch.device,
    batch_size: int = 500,
    memory_gib: float | None = None,
) -> Float32[Tensor, "exits n classes"]:
    """Softmax probabilities of every exit of a net with early exits, see :func:`predict`."""
    batches = _batches(trained, data, device, batch_size, memory_gib)
    classify: Callable[[Tensor], Tensor] = trained.net.exit_logits  # type: ignore[assignment]
    return torch.cat([classify(images).float().softmax(2).cpu() for images in batches], dim=1)


def _batches(
    trained: Trained,
    data: ImageSet,
    device: torch.device,
    batch_size: int,
    memory_gib: float | None,
) -> Iterator[Float[Tensor, "batch 3 height width"]]:
    """Images as the net takes them, while it computes as it was trained to."""
    net = trained.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.eval()
    mean, std = trained.mean.to(device), trained.std.to(device)
    loader = make_loader(data, InOrder(len(data)), NoAugment(), batch_size, device, memory_gib)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=trained.bfloat16)
    with autocast, fastest_attention(device, trained.bfloat16):
        for images, _ in loader:
            yield normalise(images, mean, std)
