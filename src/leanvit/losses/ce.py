"""Cross-entropy with label smoothing (Szegedy et al., 2015)."""

from torch import nn
from torch.nn.functional import cross_entropy

from leanvit.losses.soft_targets import Logits, Scalar, Targets
from leanvit.values import Share


class CrossEntropy(nn.Module):
    """Mean of -log p(target), class indices or soft targets alike.

    Args:
        label_smoothing: share of the target spread evenly over all classes.
    """

    soft_targets = True

    def __init__(self, label_smoothing: Share = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Logits, targets: Targets) -> Scalar:
        return cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
