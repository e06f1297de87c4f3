"""Which parameters are decayed, and how fast each learns."""

from typing import Any

from torch import nn

from leanvit.contracts import plain_net
from leanvit.models.order import parameters_in_order


def parameter_groups(
    net: nn.Module,
    weight_decay: float,
    layer_decay: float = 1.0,
    backbone_lr: float = 1.0,
    beside: nn.Module | None = None,
) -> list[dict[str, Any]]:
    """Optimizer groups: weights are decayed; norms, biases, positions and tokens are not.

    Decay pulls towards zero, which regularises a product of matrices; a norm's scale, a bias or an
    embedding that is added has no such reason (Loshchilov & Hutter 2019; DeiT, Touvron et al. 2021
    spare the same). Spared are vectors and scalars, and bare parameters whose own name says
    "position" or "token".

    Args:
        layer_decay: from the head down, each block learns this much slower than the one after it,
            and what comes before the first block slowest (layer-wise decay as in BEiT, Bao et al.
            2022, https://arxiv.org/abs/2106.08254). The factor is the group's ``lr_scale``; groups
            go from the head down.
        backbone_lr: everything but the head, and but what a lightweighting method adds, learns at
            this share of the rate; it multiplies ``lr_scale`` too.
        beside: what is trained beside the net; it learns as fast as the head.

    Raises:
        LeanvitError: ``layer_decay`` is not 1 and the net does not say its steps.
    """
    plain = plain_net(net)
    order = [] if layer_decay == 1.0 else parameters_in_order(plain)
    depths = {id(p): depth for depth, part in enumerate(order) for p in part}
    backbone = {id(p) for p in plain.parameters()} - _of_head(plain)
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    own = beside.named_parameters() if beside else ()
    for name, parameter in (*net.named_parameters(), *own):
        if parameter.requires_grad:
            is_spared = parameter.ndim <= 1 or _is_embedding(name)
            is_slow = backbone_lr != 1.0 and id(parameter) in backbone
            below = len(order) - 1 - depths[id(parameter)] if id(parameter) in depths else 0
            key = (is_slow, below, is_spared)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": groups[is_slow, below, is_spared],
            "weight_decay": 0.0 if is_spared else weight_decay,
            "lr_scale": layer_decay**below * (backbone_lr if is_slow else 1.0),
        }
        for is_slow, below, is_spared in sorted(groups)
    ]


def hidden_matrices(net: nn.Module) -> list[nn.Parameter]:
    """Matrices and dense filters that take features to features, as Muon wants them.

    Not those are the first layer (a patch embedding, a stem), which takes pixels; the head, which
    gives logits; embeddings; depthwise and grouped filters, which are no product with one matrix;
    and what a lightweighting method adds.
    """
    plain = plain_net(net)
    head = _of_head(plain)
    grouped = {id(m.weight) for m in plain.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    matrices = [
        parameter
        for name, parameter in plain.named_parameters()
        if parameter.ndim in (2, 4) and not _is_embedding(name) and id(parameter) not in grouped
    ]
    return [parameter for parameter in matrices[1:] if id(parameter) not in head]


def _of_head(net: nn.Module) -> set[int]:
    head = getattr(net, "head", None)
    return {id(p) for p in head.parameters()} if isinstance(head, nn.Module) else set()


def _is_embedding(name: str) -> bool:
    own_name = name.rsplit(".", 1)[-1]
    return "position" in own_name or "token" in own_name
