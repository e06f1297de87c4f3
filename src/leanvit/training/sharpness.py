"""SAM, sharpness-aware minimisation: the gradient from where the loss nearby is about the highest.

Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR
2021 (https://arxiv.org/abs/2010.01412).

- The weights w go uphill to w + rho g / |g|, g the batch's gradient over all weights. The gradient
  there is the step's; clipping, accumulation and whatever optimizer then have it for that of w.
- Each process, and each batch of an accumulated step, goes uphill by its own gradient: the paper's
  m-sharpness, with m images at once, which generalised better than that of larger batches.
- Both passes see the same images, mixing and draws of dropout, and what a net keeps of the images,
  as BatchNorm its statistics, is what the first pass left.

A step costs two: forward and backward pass are done twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


class SharpnessAware:
    """The weights of a net, and of what is trained beside it, between the two passes.

    Args:
        rho: how far they go uphill, as a Euclidean norm over all weights that are trained.
    """

    def __init__(self, net: nn.Module, rho: float) -> None:
        self.net, self.rho = net, rho
        self.places: list[Tensor] = []  # of weights and buffers; empty where these are their own
        self.before: list[Tensor] = []  # what is to stand in them again

    @contextmanager
    def first_pass(self) -> Iterator[None]:
        """What is drawn within the block is drawn again after it."""
        device = next(self.net.parameters()).device
        sources = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
        states = [source.get_rng_state() for source in sources]
        yield
        for source, state in zip(sources, states, strict=True):
            source.set_rng_state(state)

    def uphill(self, loss: Tensor) -> None:
        """Let the weights go uphill from where ``loss`` was computed, until :meth:`back`."""
        weights: list[Tensor] = [each for each in self.net.parameters() if each.requires_grad]
        with torch.autocast(loss.device.type, enabled=False):  # of the forward pass alone
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        self.places = [*weights, *self.net.buffers()]
        self.before = [each.detach().clone() for each in self.places]
        rate = self.rho / get_total_norm(gradients).clamp_min(1e-12)  # of no gradient, no step
        with torch.no_grad():
            torch._foreach_add_(weights, list(torch._foreach_mul(gradients, rate)))
        torch.clear_autocast_cache()  # or the second pass would take the first one's weights

    @torch.no_grad()
    def back(self) -> None:
        """Let weights and buffers be what they were before :meth:`uphill`."""
        torch._foreach_copy_(self.places, self.before)
        self.places, self.before = [], []
