"""Which parameters are decayed."""

from typing import Any

from torch import nn


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups: weights are decayed; norms, biases, positions and tokens are not.

    Decay pulls towards zero, which regularises a product of matrices; a norm's scale, a bias or an
    embedding that is added has no such reason (Loshchilov & Hutter 2019; DeiT, Touvron et al. 2021
    spare the same). Spared are vectors and scalars, and bare parameters whose own name says
    "position" or "token".
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        own_name = name.rsplit(".", 1)[-1]
        is_embedding = "position" in own_name or "token" in own_name
        (spared if parameter.ndim <= 1 or is_embedding else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
