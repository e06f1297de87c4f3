"""Operations of a training step against the closed form: six for each MAC, two without gradient."""

import nets
import pytest
import torch
from torch import nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.a_vit import AViT
from leanvit.lightweight.deit_lt import DeiTLT
from leanvit.lightweight.distill import Distill
from leanvit.lightweight.dynamic_vit import DynamicViT
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.qat import QAT
from leanvit.training.flops import training_flops

SIZE = 16


def macs(net: nn.Module) -> int:
    return cost(net, SIZE).macs


@pytest.mark.parametrize("name", ["vit", "cct", "linformer_vit", "vit_conv", "coatnet", "swin"])
def test_six_for_each_mac(name: str) -> None:
    net = getattr(nets, name)()
    assert training_flops(net, SIZE) == 6 * macs(net)
    assert training_flops(net.bfloat16(), SIZE) == 6 * macs(net)  # as precision=bf16-true leaves it


def test_what_gets_no_gradient_runs_forward_only() -> None:
    net = nets.vit()
    net.requires_grad_(False)
    net.head.requires_grad_(True)
    head = net.head.weight.numel()
    assert training_flops(net, SIZE) == 2 * (macs(net) - head) + 6 * head


def test_methods_by_what_their_training_computes() -> None:
    whole, teacher = macs(nets.vit()), nets.coatnet()
    assert training_flops(Distill(nets.vit(), teacher), SIZE) == 6 * whole + 2 * macs(teacher)
    with_token = DeiTLT(nets.vit(), teacher)
    assert macs(with_token) > whole
    assert training_flops(with_token, SIZE) == 6 * macs(with_token) + 2 * macs(teacher)
    exits = EarlyExit(nets.vit(), SIZE, after=[1, 3])
    assert training_flops(exits, SIZE) == 6 * macs(exits)
    assert training_flops(AViT(nets.vit()), SIZE) == 6 * whole  # masked: nobody has left
    pruned = DynamicViT(nets.vit(), ratios=[0.5], teacher=True)
    masked = training_flops(pruned, SIZE) - 8 * whole  # its own teacher is a ViT, too
    predictors = sum(p.numel() for p in pruned.predictors.parameters() if p.ndim == 2)
    assert 0 < masked <= 6 * 16 * predictors
    assert training_flops(QAT(nets.vit()), SIZE) == 6 * whole


def test_leaves_net_and_random_numbers_alone() -> None:
    net = nets.scattered(nets.coatnet())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    training_flops(net.eval(), SIZE)
    assert torch.equal(torch.get_rng_state(), state) and not net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
