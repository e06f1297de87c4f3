"""What the losses share: targets as shares of the classes, and classes without images."""

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from leanvit.errors import LeanvitError

Counts = Int64[Tensor, " classes"]  # training images per class
Logits = Float[Tensor, "batch classes"]
Shares = Float[Tensor, "batch classes"]
Targets = Int64[Tensor, " batch"] | Shares
Scalar = Float[Tensor, ""]


def shares(targets: Targets, logits: Logits) -> Shares:
    """Class indices as a share of 1 for one class; shares as they are."""
    if targets.ndim == 1:
        return one_hot(targets, logits.shape[1]).to(logits.dtype)
    return targets


def smooth(targets: Shares, label_smoothing: float, spread: Tensor | None = None) -> Shares:
    """Targets that give a share away.

    Args:
        spread: to whom, for each class or for each image and class; ``None``: evenly.
    """
    kept = targets * (1 - label_smoothing)
    if spread is None:
        return kept + label_smoothing / targets.shape[1]
    return kept + spread * label_smoothing


def needs_every_class(class_counts: Counts) -> None:
    """Refuse a class without images, whose weight, margin or logarithm would be infinite.

    Raises:
        LeanvitError: a class has none.
    """
    if (class_counts == 0).any():
        raise LeanvitError(
            f"class {class_counts.argmin().item()} has no training images, and this loss divides "
            "by their number: add some, or choose loss=ce"
        )
