"""LWS: learnable weight scaling.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition",
ICLR 2020 (https://arxiv.org/abs/1910.09217).

- The directions of the trained classifier stay, only how far each class's weights reach is learnt:
  z_c = f_c (w_c x + b_c), one number f_c a class, from 1, on class-balanced batches.
- Backbone and weights are frozen, as with classifier=retrain.

Deviations:

- f_c scales the bias too, which the paper's formula leaves out.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leanvit.classifiers.linear import last_linear


class LWS:
    """Put a :class:`ScaledLinear` in the place of a net's last linear layer; train its scale."""

    keeps_head = True

    def __call__(self, net: nn.Module) -> None:
        holder, name, layer = last_linear(net)
        net.requires_grad_(False)
        setattr(holder, name, ScaledLinear(layer))


class ScaledLinear(nn.Module):
    """Each output of a linear layer times a learnt number.

    Args:
        layer: is left as it is, with its bias.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.scale = nn.Parameter(torch.ones(layer.out_features))

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        return self.layer(features) * self.scale


def folded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a net, where scaled layers become plain ones that give the same logits."""
    scales = {name.removesuffix("scale"): name for name in weights if name.endswith(".scale")
              and f"{name.removesuffix('scale')}layer.weight" in weights}  # fmt: skip
    plain = {name: value for name, value in weights.items() if name not in scales.values()}
    for holder, scale in scales.items():
        for kind in ("weight", "bias"):
            if (value := plain.pop(f"{holder}layer.{kind}", None)) is not None:
                factor = weights[scale]
                plain[holder + kind] = value * (factor[:, None] if value.ndim == 2 else factor)
    return plain
