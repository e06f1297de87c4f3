"""Cross-entropy with label smoothing (Szegedy et al., 2015)."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.errors import LeanvitError


class CrossEntropy(nn.Module):
    """Mean of -log p(target), class indices or soft targets alike.

    Args:
        class_counts: training images per class; not used, every loss is built alike.
        label_smoothing: share of the target spread evenly over all classes.

    Raises:
        LeanvitError: ``label_smoothing`` is not in [0, 1].
    """

    soft_targets = True

    def __init__(
        self, class_counts: Int64[Tensor, " classes"], label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise LeanvitError(f"loss.label_smoothing={label_smoothing} must lie between 0 and 1")
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: Float[Tensor, "batch classes"],
        targets: Int64[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        return cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
