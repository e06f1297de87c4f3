"""Early exit: images that are easy leave the net before its end.

Source: Teerapittayanon et al., "BranchyNet: Fast Inference via Early Exiting from Deep Neural
Networks", ICPR 2016 (https://arxiv.org/abs/1709.01686); all exits trained together as in Huang et
al., "Multi-Scale Dense Networks", ICLR 2018 (https://arxiv.org/abs/1703.09844).

- After chosen blocks, or stages of a pyramid, a LayerNorm and a linear layer classify what the net
  would read there; of a map its mean.
- All exits train together, each with its weight. The last exit may teach the others
  (self-distillation, Zhang et al. 2019, https://arxiv.org/abs/1905.08094).
- In evaluation an image that an exit is sure of leaves the batch: what comes after computes on the
  others only.
- Sure is a probability that is high, an entropy that is low, or exits in a row that agree
  (patience, Zhou et al. 2020, https://arxiv.org/abs/2006.04152); from where on, validation images
  say: :func:`leanvit.lightweight.exit_threshold.pick_threshold`.

Deviations:

- The exits are one linear layer each; BranchyNet's and MSDNet's have convolutions of their own.
- One threshold for all exits.
- The entropy is turned into a confidence from 0 to 1, one less its share of the largest possible,
  so that for every criterion the greater value is the surer one.
"""

import copy
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from leanvit.contracts import Method, NetOfSteps
from leanvit.errors import LeanvitError
from leanvit.lightweight.distill import soft_distillation
from leanvit.lightweight.exit_threshold import Criterion, confidences, read_target
from leanvit.models.order import is_pyramid
from leanvit.values import Count, NonNegative, Positive


class EarlyExit(Method):
    """Exits inside a net of blocks or stages.

    After an evaluation forward pass ``exits`` says where each image left: 0 is the first exit, and
    the last number the net's own head.

    Args:
        net: a net of steps (:class:`leanvit.contracts.NetOfSteps`); its own head is the last exit.
        image_size: height and width of the images in pixels.
        after: how many blocks, or stages, have run at each exit but the last; ``None``: a quarter,
            half and three quarters of the blocks, or each stage but the last.
        exit_weights: of the loss of each exit but the last, whose weight is 1; ``None``: 1 each.
        distillation: weight of what the last exit teaches the others.
        temperature: divides the logits of both in that.
        criterion: what makes sure: ``"max_probability"``; ``"entropy"``, see above; ``"patience"``,
            how many exits in a row said the same class as the one before them.
        threshold: from which value on an image leaves. It is a buffer of the state dict: what
            validation picked travels with the weights. Above 1 (with patience, above the number of
            exits) none leaves.
        target: what the threshold is to be picked for when training is over, see
            :func:`leanvit.lightweight.exit_threshold.pick_threshold`; ``None``: it stays.

    Raises:
        LeanvitError: a net or places that it does not fit, or no such target.
    """

    net: Any  # a net of steps
    threshold: Tensor
    fixed_steps = False

    def __init__(
        self,
        net: nn.Module,
        image_size: Count,
        after: Sequence[Count] | None = None,
        exit_weights: Sequence[NonNegative] | None = None,
        distillation: NonNegative = 0.0,
        temperature: Positive = 3.0,
        criterion: Criterion = "max_probability",
        threshold: float = 0.9,
        target: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(net, NetOfSteps):
            raise LeanvitError(
                f"lightweight=early_exit does not fit {type(net).__name__}, which has no steps "
                "(begin, steps, end, pool) after which an image could leave"
            )
        self.net = net
        depth = len(net.steps)
        if after is None:
            quarters = sorted({round(depth * quarter / 4) for quarter in (1, 2, 3)} - {0, depth})
            after = list(range(1, depth)) if is_pyramid(net) else quarters
        weights = [1.0] * len(after) if exit_weights is None else list(exit_weights)
        _check_places(after, weights, depth)
        if target is not None:
            read_target(target)
        self.target = target
        self.after, self.exit_weights = list(after), weights
        self.distillation, self.temperature, self.criterion = distillation, temperature, criterion
        dims, num_classes = _dims(net, image_size)
        self.heads = nn.ModuleList(_exit_head(dims[place - 1], num_classes) for place in after)
        # float32 and finite: what averages weights averages it too
        self.register_buffer("threshold", torch.tensor(float(threshold)))
        self.exits: Int64[Tensor, " batch"] = torch.empty(0, dtype=torch.int64)
        self._image_size = 0
        self._macs: dict[int, Tensor] = {}

    def parts(self) -> dict[str, Hashable]:
        exits = {f"heads.{index}": ("exit", place) for index, place in enumerate(self.after)}
        return {"threshold": ("threshold", self.criterion), **exits}

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        if self.training:
            return self.net(images)
        if images.is_meta:  # nothing to be sure of: all layers are counted
            return self.exit_logits(images)[-1]
        return self._evaluate(images)

    def loss_terms(
        self,
        images: Float[Tensor, "batch channels height width"],
        targets: Tensor,
        criterion: nn.Module,
    ) -> dict[str, Float[Tensor, ""]]:
        """What training minimises the sum of."""
        *early, last = self.exit_logits(images).float()
        terms = {"classification": criterion(last, targets)}
        for place, weight, logits in zip(self.after, self.exit_weights, early, strict=True):
            terms[f"exit_after_{place}"] = weight * criterion(logits, targets)
        if self.distillation:
            teacher = last.detach()  # which learns nothing from it
            taught = [soft_distillation(logits, teacher, self.temperature) for logits in early]
            terms["distillation"] = self.distillation * torch.stack(taught).mean()
        return terms

    def exit_logits(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "exits batch classes"]:
        """What every exit says of every image, the last one last; nothing leaves."""
        return torch.stack(list(self._walk(images)))

    def _walk(self, images: Tensor) -> Iterator[Tensor]:
        features = self.net.begin(images)
        for place, step in enumerate(self.net.steps, start=1):
            features = step(features)
            if place in self.after:
                yield self._classify(place, features)
        yield self.net.end(features)

    def _evaluate(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        features = self.net.begin(images)
        waiting = torch.arange(len(images), device=images.device)  # who is still in the batch
        heard: list[Tensor] = []  # what the exits so far said of them
        left: list[tuple[Tensor, Tensor, Tensor]] = []  # who, what is said of them, at which exit
        for place, step in enumerate(self.net.steps, start=1):
            features = step(features)
            if place not in self.after:
                continue
            logits = self._classify(place, features)
            heard.append(logits.float().softmax(dim=1))
            is_sure = confidences(torch.stack(heard), self.criterion)[-1] >= self.threshold
            sure, unsure = is_sure.nonzero()[:, 0], (~is_sure).nonzero()[:, 0]
            if len(sure):
                exits = torch.full_like(sure, self.after.index(place))
                left.append((waiting[sure], logits[sure], exits))
                features, waiting = features[unsure], waiting[unsure]
                heard = [each[unsure] for each in heard]
            if not len(unsure):
                break
        else:
            exits = torch.full_like(waiting, len(self.after))
            left.append((waiting, self.net.end(features), exits))
        who, logits, exits = (torch.cat(parts) for parts in zip(*left, strict=True))
        back = who.argsort()
        self.exits, self._image_size = exits[back], images.shape[-1]
        return logits[back]

    @property
    def macs_used(self) -> Float64[Tensor, " batch"]:
        """MACs of each image of the last evaluation batch."""
        if not len(self.exits):
            return torch.empty(0, dtype=torch.float64)
        return self.exit_macs(self._image_size)[self.exits.cpu()]

    def exit_macs(self, image_size: int) -> Float64[Tensor, " exits"]:
        """MACs of an image that leaves at each exit, those of the exits that it passed included."""
        if image_size not in self._macs:
            with torch.inference_mode(False), torch.no_grad():
                shadow, images = _without_storage(self, image_size)
                with FlopCounterMode(display=False) as counter:
                    macs = [counter.get_total_flops() // 2 for _ in shadow._walk(images)]
                self._macs[image_size] = torch.tensor(macs, dtype=torch.float64, device="cpu")
        return self._macs[image_size]

    def _classify(self, place: int, features: Tensor) -> Tensor:
        return self.heads[self.after.index(place)](self.net.pool(features))


def _exit_head(dim: int, num_classes: int) -> nn.Sequential:
    linear = nn.Linear(dim, num_classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(dim), linear)


@torch.no_grad()
def _dims(net: NetOfSteps, image_size: int) -> tuple[list[int], int]:
    """Channels of what is classified after each step, and the number of classes."""
    shadow, features = _without_storage(net, image_size)
    features, dims = shadow.begin(features), []
    for step in shadow.steps:
        features = step(features)
        dims.append(shadow.pool(features).shape[1])
    return dims, shadow.end(features).shape[1]


def _without_storage(module: Any, image_size: int) -> tuple[Any, Tensor]:
    """A copy in evaluation mode whose tensors have shapes only, and an image for it."""
    memo: dict[int, object] = {  # what deepcopy takes for copied already
        id(each): each.detach().to("meta") for each in (*module.parameters(), *module.buffers())
    }
    dtype = next(module.parameters()).dtype
    images = torch.empty(1, 3, image_size, image_size, dtype=dtype, device="meta")
    return copy.deepcopy(module, memo).eval(), images


def _check_places(after: Sequence[int], weights: Sequence[float], depth: int) -> None:
    if depth < 2:
        raise LeanvitError(
            "lightweight=early_exit wants two blocks or stages at least: this net has one"
        )
    if not after or list(after) != sorted({place for place in after if 0 < place < depth}):
        raise LeanvitError(
            f"lightweight.after={list(after)}: give ascending numbers from 1 to {depth - 1}; after "
            f"the last of its {depth} blocks or stages the net has its own head"
        )
    if len(weights) != len(after):
        raise LeanvitError(
            f"lightweight.exit_weights={list(weights)}: give one for each of the {len(after)} "
            "exits before the last"
        )
