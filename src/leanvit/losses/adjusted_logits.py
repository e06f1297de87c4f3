"""Cross-entropy of logits that are scaled and shifted by class, which three losses are."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leanvit.losses.soft_targets import Logits, Scalar, Targets, shares, smooth


class AdjustedLogits(nn.Module):
    """Cross-entropy of ``scale * logits + shift``, in training only.

    Args:
        scale, shift: of each class.
        spread: how label smoothing is shared among the classes, of sum 1.
        label_smoothing: share of the target that is spread.
    """

    soft_targets = True
    scale: Tensor
    shift: Tensor
    spread: Tensor

    def __init__(
        self, scale: Tensor, shift: Tensor, spread: Tensor, label_smoothing: float
    ) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        smoothed = smooth(shares(targets, logits), self.label_smoothing, self.spread)
        return cross_entropy(logits * self.scale + self.shift, smoothed)
