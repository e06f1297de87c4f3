"""No augmentation waits for its device: each runs where no value can be asked for."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leanvit.augment.course import Course
from leanvit.augment.cutout import Cutout
from leanvit.augment.light import Light
from leanvit.augment.resized_crop import ResizedCrop
from leanvit.augment.strong import Strong
from leanvit.augment.trivial import Trivial

# Launches for one call, views left out: times some microseconds they are what a GPU needs at least.
LIMITS = {Light: 25, ResizedCrop: 130, Course: 600, Trivial: 300, Strong: 350, Cutout: 60}
VIEWS = {"view", "select", "slice", "unbind", "permute", "expand", "unsqueeze", "squeeze", "split"}


class Meta(TorchDispatchMode):
    """Draws become tensors without values, as all other tensors here; operations are counted, and
    tensors of the CPU noticed."""

    count, copied = 0, False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not None:  # of which this device has none
            kwargs |= {"generator": None, "device": torch.device("meta")}
        self.count += function.overloadpacket.__name__ not in VIEWS
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self.copied |= any(each.ndim > 0 and not each.is_meta for each in tensors)
        return function(*args, **kwargs)


@pytest.mark.parametrize("choice", LIMITS)
def test_nothing_is_asked_of_the_device(choice: Any) -> None:
    augment = choice()
    images = torch.zeros(10, 3, 32, 32, dtype=torch.uint8, device="meta")
    prepared: Tensor = augment.prepare(images)
    index = torch.zeros(64, dtype=torch.int64, device="meta")
    with Meta():
        augment(prepared, index, torch.Generator())  # tables of magnitudes are copied once
    with Meta() as mode:
        out = augment(prepared, index, torch.Generator())
    assert out.shape == (64, 3, 32, 32) and out.is_meta
    assert not mode.copied
    assert mode.count <= LIMITS[choice]


def test_the_check_can_fail() -> None:
    with Meta() as mode:
        torch.tensor([1, 2]).to("meta")
    assert mode.copied
    with pytest.raises(Exception, match="meta"):
        bool((torch.zeros(3, device="meta") > 0).any())
    with pytest.raises(NotImplementedError):
        torch.zeros(3, device="meta").nonzero()
