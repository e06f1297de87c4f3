"""From which confidence on an image leaves a net with early exits; validation images say it.

An exit is sure of an image by the greatest of its probabilities (BranchyNet's authors take the
entropy, MSDNet's the probability), by the entropy, or by exits in a row that agree. Here all three
are confidences: the greater the surer, and an image leaves at the first exit whose confidence is
not below the threshold.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leanvit.errors import LeanvitError

Criterion = Literal["max_probability", "entropy", "patience"]


def confidences(
    probabilities: Float[Tensor, "exits batch classes"], criterion: Criterion
) -> Float[Tensor, "exits batch"]:
    """How sure each exit is of each image; for patience, with the exits before it."""
    if criterion == "max_probability":
        return probabilities.amax(dim=2)
    if criterion == "entropy":
        entropy = torch.special.entr(probabilities).sum(dim=2)
        return 1 - entropy / math.log(probabilities.shape[2])
    classes = probabilities.argmax(dim=2)
    in_a_row = [torch.zeros_like(classes[0])]
    for said, before in zip(classes[1:], classes[:-1], strict=True):
        in_a_row.append((in_a_row[-1] + 1) * (said == before))
    return torch.stack(in_a_row).to(probabilities.dtype)


class Picked(NamedTuple):
    """A threshold, and what it does to validation images beside sending all to the end."""

    threshold: float
    accuracy_gained: float  # of 1; below 0 what is lost
    macs_left: float  # share of those of an image that goes to the end


def pick_threshold(
    probabilities: Float[Tensor, "exits images classes"],
    labels: Int64[Tensor, " images"],
    macs: Float[Tensor, " exits"],
    target: str,
    criterion: Criterion = "max_probability",
) -> Picked:
    """The threshold that serves a target best on validation images.

    Args:
        probabilities: what every exit says of every image, the last one last.
        macs: of an image that leaves at each exit.
        target: ``accuracy_drop:<points>``, the least MACs at no more than so many points of
            accuracy (of 100) below the last exit's; ``macs:<share>``, the best accuracy at no more
            than this share of the MACs of an image that goes to the end.

    Raises:
        LeanvitError: no such target, or one that the first exit's MACs do not allow.
    """
    kind, value = read_target(target)
    thresholds, accuracy, used = trade_offs(probabilities, labels, macs, criterion)
    if kind == "accuracy_drop":
        fits = accuracy[0] - accuracy <= value / 100 + 1e-9
    else:
        fits = used <= value * used[0] * (1 + 1e-9)
        if not fits.any():
            raise LeanvitError(
                f"lightweight.target={target} is out of reach: an image that leaves at the first "
                f"exit has {float(used[-1] / used[0]):.3f} of the MACs; give more or earlier exits"
            )
        fits = fits & (accuracy == accuracy[fits].max())
    best = fits.nonzero()[-1, 0]  # the least MACs
    return Picked(
        threshold=float(thresholds[best]),
        accuracy_gained=float(accuracy[best] - accuracy[0]),
        macs_left=float(used[best] / used[0]),
    )


def trade_offs(
    probabilities: Float[Tensor, "exits images classes"],
    labels: Int64[Tensor, " images"],
    macs: Float[Tensor, " exits"],
    criterion: Criterion = "max_probability",
) -> tuple[
    Float[Tensor, " thresholds"], Float64[Tensor, " thresholds"], Float64[Tensor, " thresholds"]
]:
    """Every threshold that makes a difference, falling: with its accuracy and mean MACs.

    The first is above all confidences: every image goes to the end.
    """
    probabilities, num_images = probabilities.float(), len(labels)  # as confidences are compared
    correct = (probabilities.argmax(dim=2) == labels).double()
    # an image leaves at the first exit that is sure enough: at or before exit e if any of them is
    surest = confidences(probabilities, criterion)[:-1].cummax(dim=0).values.flatten()
    order = surest.argsort(descending=True)
    surest = surest[order]
    # as the threshold falls past that, the image no longer goes on from exit e to the next one
    gained = (correct[:-1] - correct[1:]).flatten()[order].cumsum(0)
    saved = (macs[:-1] - macs[1:]).double()[:, None].expand_as(correct[:-1]).flatten()[order]
    is_last = F.pad(surest[1:] != surest[:-1], (0, 1), value=True)  # of those that are equal
    never = surest.new_tensor([len(macs) + 1.0])
    zero = gained.new_zeros(1)
    return (
        torch.cat((never, surest[is_last])),
        (correct[-1].sum() + torch.cat((zero, gained[is_last]))) / num_images,
        macs[-1].double() + torch.cat((zero, saved.cumsum(0)[is_last])) / num_images,
    )


def read_target(target: str) -> tuple[str, float]:
    """The kind of a target and its number.

    Raises:
        LeanvitError: no such target.
    """
    kind, _, number = str(target).partition(":")  # a number alone comes as one
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if (kind == "accuracy_drop" and 0 <= value < math.inf) or (kind == "macs" and 0 < value <= 1):
        return kind, value
    raise LeanvitError(
        f"lightweight.target={target}: give accuracy_drop:<points>, such as accuracy_drop:0.3, or "
        "macs:<share>, at most 1, such as macs:0.6"
    )
