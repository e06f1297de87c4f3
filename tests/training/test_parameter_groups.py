"""Layer-wise learning rates against the formula."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn

from leanvit.augment.none import NoMix
from leanvit.errors import LeanvitError
from leanvit.models.pretrained import freeze
from leanvit.models.vit import ViT
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.parameter_groups import parameter_groups


def small_vit() -> ViT:
    return ViT(8, 4, 3, dim=8, depth=3, heads=2, mlp_dim=8, readout="weighted")


def scales(net: nn.Module, layer_decay: float) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = parameter_groups(net, 0.05, layer_decay)
    assert sum(len(group["params"]) for group in groups) == len(
        [p for p in net.parameters() if p.requires_grad]
    )
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}


def test_each_block_learns_slower_than_the_next() -> None:
    expected = {
        "cls_token": 0.5**4, "position_embedding": 0.5**4, "patch_embedding.weight": 0.5**4,
        "blocks.0.attention.qkv.weight": 0.5**3, "blocks.1.mlp.0.bias": 0.5**2,
        "blocks.2.attention_norm.weight": 0.5, "norm.weight": 1.0, "head.bias": 1.0,
        "readout.token_weights": 1.0,
    }  # fmt: skip
    found = scales(small_vit(), 0.5)
    assert {name: found[name] for name in expected} == expected
    assert set(scales(small_vit(), 1.0).values()) == {1.0}


def test_the_head_comes_first_and_frozen_parts_not_at_all() -> None:
    net = small_vit()
    freeze(net, "last_1")
    groups = parameter_groups(net, 0.05, 0.5)
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0, 0.5, 0.5]
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0, 0.05, 0.0]


class Stages(nn.Module):
    steps = property(lambda self: list(self.stages))
    begin = end = pool = nn.Module.forward


def test_stages_are_ordered_too_and_a_net_without_order_is_refused() -> None:
    net = Stages()
    net.stem = nn.Linear(2, 2)
    block = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.stages = nn.Sequential(
        nn.Sequential(block), nn.Sequential(nn.Conv2d(2, 2, 1), deepcopy(block), nn.LayerNorm(2))
    )
    net.head = nn.Linear(2, 2)
    found = scales(net, 0.1)
    names = ("stem", "stages.0.0.0", "stages.1.0", "stages.1.1.0", "stages.1.2", "head")
    assert [found[f"{name}.weight"] for name in names] == pytest.approx(
        [1e-3, 1e-2, 1e-1, 1e-1, 1e-1, 1]
    )
    with pytest.raises(LeanvitError, match="Linear does not say its steps"):
        parameter_groups(nn.Linear(2, 2), 0.0, 0.5)


def test_the_optimizer_learns_at_the_scaled_rates() -> None:
    module = Classifier(
        small_vit(),
        nn.CrossEntropyLoss(),
        NoMix(),
        partial(torch.optim.AdamW, lr=0.1),
        partial(Cosine, warmup_fraction=0.1),
        torch.full((3,), 0.5),
        torch.full((3,), 0.25),
        classes=("a", "b", "c"),
        layer_decay=0.5,
    )
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 100})()
    configured = module.configure_optimizers()
    scheduler = configured["lr_scheduler"]["scheduler"]
    peaks = sorted({group["initial_lr"] for group in configured["optimizer"].param_groups})
    assert peaks == pytest.approx([0.1 * 0.5**k for k in (4, 3, 2, 1, 0)])
    assert len(scheduler.get_last_lr()) == len(configured["optimizer"].param_groups)
