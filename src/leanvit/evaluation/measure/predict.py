"""Probabilities of a trained net."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from leanvit.augment.none import NoAugment
from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageSet
from leanvit.data.loader import InOrder, make_loader
from leanvit.data.pixels import Fit
from leanvit.evaluation.measure.tta import TTA, views
from leanvit.models.attention import fastest_attention

BATCH = 500  # images


@dataclass(frozen=True)
class Trained:
    """A trained net with what it needs to classify images."""

    net: nn.Module
    mean: Float32[Tensor, "3"]  # of the normalisation it was trained with, in 0..1
    std: Float32[Tensor, "3"]
    classes: tuple[str, ...]
    image_size: int  # in pixels
    bfloat16: bool  # compute in bfloat16 autocast, as the training did
    fit: Fit = "stretch"  # how images of another shape become squares

    def inputs(
        self, images: UInt8[Tensor, "batch 3 height width"], device: torch.device
    ) -> Float[Tensor, "batch 3 height width"]:
        """Images as the net takes them, on the device."""
        return normalise(images.to(device), self.mean.to(device), self.std.to(device))


@contextmanager
def as_in_prediction(net: nn.Module, device: torch.device, bfloat16: bool) -> Iterator[None]:
    """Inference in evaluation mode: channels last, bfloat16 autocast or not, and the device's
    fastest attention. The net is moved to the device and stays there."""
    net.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    with torch.inference_mode(), autocast, fastest_attention(device, bfloat16):
        yield


def predict(
    trained: Trained,
    data: ImageSet,
    device: torch.device,
    memory_gib: float | None = None,
    told: Mapping[str, list[Tensor]] | None = None,
    tta: TTA = "none",
) -> Float32[Tensor, "n classes"]:
    """Softmax probabilities of every image, in order, on the CPU.

    Args:
        memory_gib: see :func:`leanvit.data.loader.make_loader`.
        told: gets what the net tells of the images, batch by batch, where it has such an attribute:
            ``macs_used``, ``exits``, ``kept``. Of several views it is the sum.
        tta: see :mod:`leanvit.evaluation.measure.tta`.
    """
    net: Any = trained.net
    told = told or {}
    probabilities = []
    with as_in_prediction(net, device, trained.bfloat16):
        loader = make_loader(data, InOrder(len(data)), NoAugment(), BATCH, device, memory_gib)
        for images, _ in loader:
            logits, seen = [], []
            for weight, view in views(trained.inputs(images, device), tta):
                logits.append(weight * net(view).float())
                seen.append({name: getattr(net, name).cpu() for name in told if hasattr(net, name)})
            probabilities.append(sum(logits[1:], logits[0]).softmax(1).cpu())
            for name, first in seen[0].items():
                told[name].append(sum((each[name] for each in seen[1:]), first))
    return torch.cat(probabilities)


def predict_exits(
    trained: Trained, data: ImageSet, device: torch.device, memory_gib: float | None = None
) -> Float32[Tensor, "exits n classes"]:
    """Softmax probabilities of every exit of a net with early exits, see :func:`predict`."""
    net: Any = trained.net
    with as_in_prediction(net, device, trained.bfloat16):
        loader = make_loader(data, InOrder(len(data)), NoAugment(), BATCH, device, memory_gib)
        logits = (net.exit_logits(trained.inputs(images, device)) for images, _ in loader)
        return torch.cat([each.float().softmax(2).cpu() for each in logits], dim=1)
