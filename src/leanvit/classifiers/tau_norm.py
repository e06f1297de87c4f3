"""tau-normalisation: a classifier whose classes reach equally far, without training.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020 (https://arxiv.org/abs/1910.09217).

- Frequent classes grow weights of larger norm, and win by it. Each w_c becomes
  w_c / |w_c|^tau: tau 0 leaves the directions and norms, tau 1 makes all norms equal.
- The bias is left out, as in the paper.
- tau is chosen on the validation images, from 0 to 2 in steps of 0.1.

Deviations:

- Chosen by the balanced accuracy of the validation split, which is as imbalanced as the training
  images; the paper's is balanced.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from leanvit.balanced_accuracy import balanced_accuracy
from leanvit.classifiers.linear import last_linear
from leanvit.values import NonNegative

TAUS = tuple(i / 10 for i in range(21))


class TauNorm:
    """Rescale the last layer of a trained net, by the tau that is best on validation.

    Args:
        tau: take this one instead.
    """

    keeps_head = True

    def __init__(self, tau: NonNegative | None = None) -> None:
        self.tau = tau

    def __call__(self, net: nn.Module) -> None:
        last_linear(net)  # refuses a net that has none
        net.requires_grad_(False)

    @torch.no_grad()
    def rescale(
        self,
        net: nn.Module,
        features: Float[Tensor, "n dim"],
        labels: Int64[Tensor, " n"],
    ) -> float:
        """Rescale the last linear layer of ``net``; the tau that was taken.

        Args:
            features: what that layer sees of the validation images.
        """
        layer = last_linear(net)[2]
        tau = choose_tau(layer.weight, features, labels) if self.tau is None else self.tau
        layer.weight.copy_(normalised(layer.weight, tau))
        if layer.bias is not None:
            layer.bias.zero_()
        return tau


def normalised(weight: Float[Tensor, "classes dim"], tau: float) -> Float[Tensor, "classes dim"]:
    """w_c / |w_c|^tau."""
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau


def choose_tau(
    weight: Float[Tensor, "classes dim"],
    features: Float[Tensor, "n dim"],
    labels: Int64[Tensor, " n"],
) -> float:
    """The tau of ``TAUS`` with the best balanced accuracy; of equals the smallest."""
    num_classes = len(weight)

    def balanced(tau: float) -> float:
        answers = (features @ normalised(weight, tau).T).argmax(1)
        cells = torch.bincount(labels * num_classes + answers, minlength=num_classes**2)
        return balanced_accuracy(cells.view(num_classes, num_classes).double())

    return max(TAUS, key=balanced)
