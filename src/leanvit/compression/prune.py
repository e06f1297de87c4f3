"""Structured pruning: the heads and channels that matter least go, and a smaller dense net is left.

Sources: the importance of a channel, Molchanov et al., "Importance Estimation for Neural Network
Pruning", CVPR 2019 (https://arxiv.org/abs/1906.10771); of a head, Michel et al., "Are Sixteen Heads
Really Better than One?", NeurIPS 2019 (https://arxiv.org/abs/1905.10650).

- What can go is listed by :func:`leanvit.compression.resize.prunable`: whole heads, hidden channels
  of MLPs and of MBConvs, channels in the middle of stems, tokenisers and heads of two layers.
- The Taylor importance of a unit is the slope of the loss along a factor of 1 before the unit, its
  absolute value averaged over batches.
- All units of the net stand in one list, by importance for each multiply-accumulate that they cost,
  and leave from its bottom until the wanted share of the MACs is left. So the loss decides where
  the net gets narrow, and a head competes with all the channels that cost as much.
- Channels leave in eights, in which kernels compute: odd widths run slower at the same MACs.
- In steps, with fine-tuning after each: what is left takes over before the next is judged.

Deviations:

- The absolute slope of each batch is averaged; Molchanov et al. average its square.
- Michel et al. scale the importances of each layer to norm 1; here the loss compares the layers.
"""

import copy
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from leanvit.compression.importance import magnitude, num_spare, taylor, weakest
from leanvit.compression.resize import HeadUnits, Units, prunable
from leanvit.errors import LeanvitError
from leanvit.values import Between, Count, Positive, Whole

Losses = Callable[[nn.Module], Iterable[Tensor]]
Importance = Literal["taylor", "magnitude"]


@dataclass(frozen=True)
class Prune:
    """Pruning in steps, each followed by fine-tuning.

    Attributes:
        macs: share of the net's MACs that is left at the end, attention products included.
        steps: how often pruning and fine-tuning take turns; the share falls by the same factor in
            each.
        epochs: of fine-tuning, in all steps together.
        lr_scale: fine-tuning begins at this share of the learning rate that the net was trained at.
        teach: the net as it was before teaches the pruned one in fine-tuning.
        importance: ``taylor``, or ``magnitude``: the squared norm of the weights that read a unit,
            over that layer's mean. It needs no images and does not know the loss.
        batches: training batches that the Taylor importance is averaged over, in each step.
        multiple: channels leave until a multiple of this number is left, and no fewer than this.
    """

    macs: Between = 0.5
    steps: Count = 3
    epochs: Whole = 30
    lr_scale: Positive = 0.3
    teach: bool = True
    importance: Importance = "taylor"
    batches: Count = 32
    multiple: Count = 8

    @property
    def schedule(self) -> list[tuple[float, int]]:
        """Of each step, the share of the first net's MACs that it leaves, and its epochs."""
        ends = [round(self.epochs * step / self.steps) for step in range(self.steps + 1)]
        epochs = [after - before for before, after in itertools.pairwise(ends)]
        return [(self.macs ** (step / self.steps), n) for step, n in enumerate(epochs, start=1)]

    def __call__(
        self,
        net: nn.Module,
        image_size: int,
        loss_on_batches: Losses | None,
        fine_tune: Callable[[nn.Module, int], object],
    ) -> None:
        """Prune ``net`` in place, in steps.

        Args:
            loss_on_batches: see :func:`prune`.
            fine_tune: trains the net it is given for as many epochs as it is told, in place.

        Raises:
            LeanvitError: as :func:`prune`, and before anything is changed.
        """
        whole = _survey(net, image_size, self.macs, self.multiple).macs
        for share, epochs in self.schedule:
            step = share * whole / count_macs(net, image_size)
            if step < 1:  # else the last step's last head took this one's share with it
                choice = (self.importance, self.batches, self.multiple)
                prune(net, image_size, step, loss_on_batches, *choice)
            if epochs > 0:
                fine_tune(net, epochs)


def prune(
    net: nn.Module,
    image_size: int,
    macs_share: float,
    loss_on_batches: Losses | None = None,
    importance: Importance = "taylor",
    batches: int = 32,
    multiple: int = 8,
) -> None:
    """Take the least important heads and channels out of ``net``, in place.

    Parameters are replaced: an optimizer of the net must be built anew. The net stays in training
    or evaluation as it is, and what was frozen stays so.

    Args:
        image_size: height and width of the images in pixels.
        macs_share: of the MACs that the net has now, what is left; met within one head or
            ``multiple`` channels, and not exceeded.
        loss_on_batches: takes the net, which is in evaluation, and yields the mean loss of one
            training batch after the other. For ``taylor`` only; at most ``batches`` are drawn.
        importance, batches, multiple: see :class:`Prune`.

    Raises:
        LeanvitError: a net that cannot be pruned, or not so far.
    """
    units, costs, multiples, macs = _survey(net, image_size, macs_share, multiple)
    with _traceable(net):
        if importance == "magnitude":
            scores = magnitude(units)
        elif loss_on_batches is None:
            raise LeanvitError(
                "method.importance=taylor wants the loss on batches: give it, or take magnitude"
            )
        else:
            scores = taylor(units, itertools.islice(loss_on_batches(net), batches))
        chosen = weakest(scores, costs, multiples, (1 - macs_share) * macs)
        for each, gone in zip(units, map(set, chosen), strict=True):
            if gone:
                each.keep([place for place in range(each.num) if place not in gone])


class _Survey(NamedTuple):
    """What can go of a net, for each part: the MACs of one unit, and the multiple in which units
    go; the MACs of the net."""

    units: list[Units]
    costs: list[int]
    multiples: list[int]
    macs: int


def _survey(net: nn.Module, image_size: int, macs_share: float, multiple: int) -> _Survey:
    """All that pruning must know of ``net``.

    Raises:
        LeanvitError: ``net`` cannot be pruned, or not to ``macs_share`` of its MACs.
    """
    units = prunable(net)
    macs_of = _macs_of(net, image_size)
    costs = [each.macs(macs_of) // each.num for each in units]
    multiples = [1 if isinstance(each, HeadUnits) else multiple for each in units]
    spare = (num_spare(each.num, least) for each, least in zip(units, multiples, strict=True))
    least = 1 - sum(map(operator.mul, spare, costs)) / macs_of[""]
    if not least <= macs_share < 1:
        raise LeanvitError(
            f"method.macs={macs_share:.3g} is out of reach: this {type(net).__name__} keeps its "
            f"width, one head and {multiple} channels in every part, which take {least:.3f} of its "
            f"MACs; give a share from {math.ceil(1000 * least) / 1000:.3f} to below 1"
        )
    return _Survey(units, costs, multiples, macs_of[""])


def count_macs(net: nn.Module, image_size: int) -> int:
    """Multiply-accumulates of all matrix products and convolutions for one image."""
    return _macs_of(net, image_size)[""]


@torch.no_grad()
def _macs_of(net: nn.Module, image_size: int) -> dict[str, int]:
    """MACs of each module that has any, by its name; of the net under ""."""
    shadow = copy.deepcopy(net).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        weight = next(shadow.parameters())
        shadow(weight.new_zeros(1, 3, image_size, image_size))
    counts = counter.get_flop_counts()
    # names begin with the net's class
    return {name.partition(".")[2]: sum(each.values()) // 2 for name, each in counts.items()}


@contextmanager
def _traceable(net: nn.Module) -> Iterator[None]:
    """Within the block ``net`` evaluates, and all its parameters have gradients."""
    modes = {module: module.training for module in net.modules()}
    trained = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    net.eval().requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for name, parameter in net.named_parameters():  # other objects than before, as many
            parameter.requires_grad_(trained[name])
