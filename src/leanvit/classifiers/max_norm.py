"""MaxNorm: a head whose classes reach no further than a given radius.

Source: Alshammari et al., "Long-Tailed Recognition via Weight Balancing", CVPR 2022
(https://arxiv.org/abs/2203.14197).

- Frequent classes grow weights of larger norm, and win by it. In this stage, after each step of the
  optimizer, a class's weights w_c become min(1, radius / |w_c|) w_c: large ones are held, small
  ones may grow.
- It goes on with the head of the first stage, on a frozen backbone, with loss=class_balanced
  (conf/classifier/max_norm.yaml chooses it). The paper's other half is weight decay, which shrinks
  large weights most: optimizer.weight_decay=, tuned in both stages.
- The radius lies between the norms that the first stage left, ``threshold`` of the way from the
  smallest to the largest, as in the authors' code. Theirs is 0.1; 0 holds all at the smallest norm,
  and a radius that no class reaches is plain training of the head.

Deviations:

- The bias is not held, as in the code.
- All of the backbone is read as in evaluation, with the statistics of the first stage.
"""

from torch import nn

from leanvit.classifiers.linear import last_linear
from leanvit.values import NonNegative


class MaxNorm:
    """Leave a net's last linear layer to be trained within a radius, which the net then says.

    Args:
        threshold: of the radius, see above; above 1 it lies beyond the largest norm.
    """

    keeps_head = True

    def __init__(self, threshold: NonNegative = 0.1) -> None:
        self.threshold = threshold

    def __call__(self, net: nn.Module) -> None:
        layer = last_linear(net)[2]
        net.requires_grad_(False)
        layer.requires_grad_(True)
        norms = layer.weight.detach().norm(dim=1)
        radius = norms.min() + self.threshold * (norms.max() - norms.min())
        net.max_norm = float(radius)  # type: ignore[assignment]
