"""Where and how precisely a net computes."""

from typing import Literal

import torch

from leanvit.errors import LeanvitError

Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


def find_device(accelerator: str) -> torch.device:
    """The kind of device an accelerator name stands for on this machine.

    Raises:
        LeanvitError: it has no GPU.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise LeanvitError("trainer=gpu: this machine has no usable GPU; choose trainer=cpu")
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_precision(device: torch.device) -> str:
    """bfloat16 autocast where the device has the instructions, float32 elsewhere."""
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"
    return "32-true"
