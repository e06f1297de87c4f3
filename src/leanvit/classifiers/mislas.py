"""MiSLAS: the classifier adapted to balanced batches, and the features' statistics with it.

Source: Zhong et al., "Improving Calibration for Long-Tailed Recognition", CVPR 2021
(https://arxiv.org/abs/2104.00466), and the official code
(https://github.com/dvlab-research/MiSLAS).

- cRT and LWS in one: z_c = f_c (w_c x + b_c), where the scales f_c, from 1, and the weights, from
  those of the first stage, both learn, on class-balanced batches.
- Shifted BatchNorm: balanced batches have other statistics than the images as they are. So in this
  stage BatchNorm normalises by its batches, and its running mean and variance follow them; its
  weights are frozen like the whole backbone. A net without BatchNorm has nothing to shift.
- loss=label_aware_smoothing (conf/classifier/mislas.yaml chooses it); the first stage wants
  mix=mixup, this one no mixing.

Deviations:

- Weights and scales learn at one rate; in the code, on CIFAR, weights learn at 0.2 or 0.5 of the
  scales'.
- f_c scales the bias too, as in the code; the paper's formula has none.
- All but BatchNorm is read as in evaluation: no dropout, which the paper's nets have not.
"""

from torch import nn

from leanvit.classifiers.linear import last_linear
from leanvit.classifiers.lws import LWS


class MiSLAS(LWS):
    """Let a net's last linear layer and a scale of each class be trained.

    Args:
        shift_batch_norm: whether BatchNorm's statistics follow the balanced batches.
    """

    def __init__(self, shift_batch_norm: bool = True) -> None:
        self.shift_batch_norm = shift_batch_norm

    def __call__(self, net: nn.Module) -> None:
        super().__call__(net)
        last_linear(net)[2].requires_grad_(True)
        net.shifts_batch_norm = self.shift_batch_norm  # type: ignore[assignment]
