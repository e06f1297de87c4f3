"""What a part must bring. Whoever has these names is used by everything that knows them: no part is
asked for its class, and none is entered in a list.

- What a part needs to be told it names among its constructor's arguments: ``num_classes``,
  ``class_counts``, ``labels``. Whoever builds it offers all of them, and it gets those it names
  (:func:`leanvit.values.offered`).
- What a part can take of the values that a user gives stands in the annotations of its constructor
  (:mod:`leanvit.values`).
- What a part cannot do stands in an attribute of its class.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn


@runtime_checkable
class NetOfSteps(Protocol):
    """A net (``net(images) -> logits``, in training and evaluation alike) that says its steps.

    ``forward`` is ``begin``, each of ``steps`` in turn, and ``end``. With them a net can leave
    early, be fine-tuned by layers, be pruned, and be drawn. All other names are free.

    Children are registered in the order in which an image passes them: what stands before the
    steps belongs to ``begin``, what stands after them to ``end``. A step that is an
    ``nn.Sequential`` is a stage of a pyramid, and its members are the blocks (a single layer among
    them belongs to the block that it leads to); any other step is a block.

    Attributes:
        head: the classifier; its last linear layer has a row for each class.
    """

    if TYPE_CHECKING:  # isinstance looks for methods only: from Python 3.12 on it sees no submodule
        head: nn.Module

        @property
        def steps(self) -> Sequence[nn.Module]: ...

    def begin(self, images: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to what the first step takes."""

    def end(self, features: Tensor) -> Tensor:
        """What the last step gives to logits (batch, classes)."""

    def pool(self, features: Tensor) -> Tensor:
        """What any step gives to one vector (batch, dim) of each image, to classify it by."""


@runtime_checkable
class NetOfTokens(NetOfSteps, Protocol):
    """A net whose steps are blocks over one row of tokens, of which any may be left out or merged.

    A block is ``tokens + drop_path(attention(attention_norm(tokens)))`` and then its
    ``feed_forward(tokens)``. Its ``attention`` has the layers ``qkv``, ``out`` and ``dropout``, and
    says its ``heads`` and ``kernel``.

    Attributes:
        num_prefix: tokens before those of the patches: 1, which is [CLS], or 0.
        patch_embedding: the one convolution that makes the patches' tokens, where it is one.
        position_embedding: (1, num_prefix + patches, dim).
        norm: after the last block.
        readout: has the names of :class:`leanvit.models.readout.Readout`.
        fixed_length: of the class, where all tokens are wanted after all.
    """

    if TYPE_CHECKING:
        num_prefix: int
        patch_embedding: nn.Module
        position_embedding: Tensor
        norm: nn.Module
        readout: Any
        blocks: Any

    def read(self, tokens: Tensor, sizes: Tensor | None = None) -> Tensor:
        """What the last block gives to the vector (batch, dim) that the head reads. ``sizes``
        (batch, tokens, 1): each token counts as so many patches."""


@runtime_checkable
class InitialisedByImages(Protocol):
    """A net whose first weights are made of training images, which it is shown once, normalised;
    they stand in its state dict."""

    def initialise(self, images: Tensor) -> None: ...


class Method(nn.Module):
    """What ``lightweight=`` puts around a net; its weights are ``net.<name>`` there.

    ``loss_terms(images, targets, criterion) -> dict[str, Tensor]``, where it has one, is what
    training minimises the sum of. Every weight takes part in every training step: processes that
    train together wait for its gradient. Draws are from torch's global generator.
    Where it has ``is_late``, training sets it: whether ``late.start`` of the epochs are over.

    Attributes:
        net: the net within, which may be another method.
        fixed_steps: every image takes the same steps, as a graph (ONNX, int8) wants.
    """

    net: nn.Module
    fixed_steps: bool = True

    def parts(self) -> Mapping[str, Hashable]:
        """What each of its own weights is for, by the beginning of their names, in resolved values:
        ``"heads.0"`` -> ``("exit", 2)``. Weights are taken over where this is equal."""
        return {}

    def taught_by(self, whole: nn.Module, teach: bool) -> nn.Module:
        """The net to train after a part of it was pruned, where it has ``loss_terms``; by default
        itself. ``whole`` is what it was before, and teaches it if ``teach`` is set."""
        return self

    def deployed(self) -> nn.Module:
        """What compress.py makes ONNX or int8 of; by default itself."""
        return self


def plain_net(net: nn.Module) -> nn.Module:
    """The net that methods stand around, or the net itself."""
    while isinstance(net, Method):
        net = net.net
    return net


@dataclass(frozen=True)
class Heads:
    """The heads of an attention, which can be taken out one by one.

    Attributes:
        attention: its ``heads`` is their number.
        makers: layers whose rows are one or more times (heads dim_head).
        reader: the layer whose columns are (heads dim_head).
        tables: names of its parameters whose last axis is the heads.
        unpruned: layers within it that work for all heads together, however many there are.
    """

    attention: Any
    makers: Sequence[nn.Module]
    reader: nn.Module
    tables: Sequence[str] = ()
    unpruned: Sequence[nn.Module] = ()


@dataclass(frozen=True)
class Channels:
    """Channels that one layer makes and one reads, which can be taken out one by one.

    Attributes:
        maker: the linear layer or convolution whose rows make them.
        carriers: what has a weight for each of them on the way, or is one to them: BatchNorm, a
            depthwise convolution, squeeze-excitation.
        reader: the linear layer or convolution whose columns read them.
    """

    maker: nn.Module
    carriers: Sequence[nn.Module]
    reader: nn.Module


@runtime_checkable
class Prunable(Protocol):
    """A module that says what can be taken out of it: an attention its heads, a net its channels.

    Channels between two layers of an ``nn.Sequential`` are found without that.
    """

    def units(self) -> Sequence[Heads | Channels]: ...


@runtime_checkable
class Loss(Protocol):
    """``loss(logits (batch, classes), targets) -> scalar``.

    Attributes:
        soft_targets: of the class: targets may be shares (batch, classes), not class indices
            (batch,) alone.
    """

    @property
    def soft_targets(self) -> bool: ...
    def __call__(self, logits: Tensor, targets: Tensor) -> Float[Tensor, ""]: ...


@runtime_checkable
class Order(Protocol):
    """``sampler=``: which image comes next. Built with (labels, seed, rank, num_ranks)."""

    epoch: int

    def set_epoch(self, epoch: int) -> None: ...
    def __len__(self) -> int:
        """Indices of an epoch on this rank; the same in every epoch."""

    def indices(self) -> Int64[Tensor, " n"]:
        """This epoch's, from (seed, epoch) alone."""


@runtime_checkable
class Augment(Protocol):
    """``augment=``: batches of uint8 images, gathered and changed on the device.

    ``set_epoch(epoch)``, where it has one, is called before each epoch.
    """

    def prepare(self, images: UInt8[Tensor, "n 3 height width"]) -> Tensor:
        """All images, once, laid out as they are gathered fastest."""

    def __call__(
        self, prepared: Tensor, index: Int64[Tensor, " batch"], generator: torch.Generator
    ) -> UInt8[Tensor, "batch 3 height width"]: ...


@runtime_checkable
class Mix(Protocol):
    """``mix=``: (images (batch, 3, height, width), labels (batch,)) -> images, targets.

    Attributes:
        soft_targets: of the class: the targets are shares (batch, classes).
        partners: how likely each training image is to be drawn as a partner, from its label;
            ``None``: it mixes within the batch. With it the mixing is called with twice the batch:
            the images, then as many partners.
        num_views: of the class, where it is more than one: it gives the first view of all images,
            then the second of all.
        beside: where it has one, ``beside(features) -> module`` is trained beside the net, called
            with what the head reads of the images, (batch, features); its value is added to the
            loss. Then it mixes from the first step to the last.
    """

    @property
    def soft_targets(self) -> bool: ...
    @property
    def partners(self) -> Callable[[Int64[Tensor, " n"]], Float[Tensor, " n"]] | None: ...
    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]: ...
