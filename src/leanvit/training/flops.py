"""What a training computes: floating-point operations of its steps, the same on every machine.

A multiply-accumulate of the forward pass is 2 operations. Where it gets a gradient, the backward
pass does it twice more, for its inputs and for its weights: 6 in all (Kaplan et al. 2020,
https://arxiv.org/abs/2001.08361, appendix B). What only runs forward, such as a teacher or a frozen
layer, is 2.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

NUM_IMAGES = 2  # BatchNorm of one image's last map would have nothing to average


def classify(net: Any, images: Tensor, labels: Tensor) -> None:
    """What a step of :class:`leanvit.training.classifier.Classifier` computes."""
    if hasattr(net, "loss_terms"):
        net.loss_terms(images, labels, nn.CrossEntropyLoss())
    else:
        net(images)


def reconstruct(net: Any, images: Tensor, labels: Tensor) -> None:
    """What a step of :class:`leanvit.training.pretrainer.Pretrainer` computes."""
    net(images, images)


def training_flops(
    net: nn.Module, image_size: int, step: Callable[[Any, Tensor, Tensor], None] = classify
) -> int:
    """Operations of one training step for each image that the net is given.

    Counted in a step of random images on a copy, on the CPU; the net and the random numbers of the
    training stay as they are.

    Args:
        image_size: height and width of the images in pixels.
        step: of net, normalised images and labels.
    """
    shadow = copy.deepcopy(net).to("cpu", torch.float32).train()
    with (
        torch.random.fork_rng(),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),  # its products are counted, the fused kernel is not
        Products(_shares) as products,
    ):
        images = torch.rand(NUM_IMAGES, 3, image_size, image_size)
        step(shadow, images, torch.zeros(NUM_IMAGES, dtype=torch.int64))
    return products.flops // NUM_IMAGES


def beside_flops(beside: nn.Module | None) -> int:
    """The same of linear layers that are trained beside the net on a vector of each image."""
    matrices = [each for each in beside.parameters() if each.ndim == 2] if beside else []
    return 6 * sum(each.numel() for each in matrices)


def _shares(tensors: Sequence[Tensor]) -> int:
    """How often the two passes do a product of the forward pass."""
    return 3 if torch.is_grad_enabled() and any(each.requires_grad for each in tensors) else 1


class Products(TorchDispatchMode):
    """Within the block ``flops`` sums the operations of all products and convolutions.

    Args:
        times: how often a product of these tensors counts.
    """

    def __init__(self, times: Callable[[Sequence[Tensor]], int]) -> None:
        super().__init__()
        self.flops, self.times = 0, times

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: torch would import torch._dynamo, for seconds, to mark what nobody compiles."""
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        count = flop_registry.get(operation._overloadpacket)
        if count is not None:
            tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
            self.flops += self.times(tensors) * count(*args, **kwargs, out_val=result)
        return result
