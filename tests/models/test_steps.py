"""What every net gets for saying its steps, found through conf/, and a net of other names."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from scripts import ROOT
from test_contracts import GROUPS, net_of, small_config, small_images
from torch import Tensor, nn

from leanvit.classifiers.lws import LWS
from leanvit.compression.prune import count_macs, prune
from leanvit.compression.resize import prunable, resize
from leanvit.contracts import NetOfSteps, plain_net
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.evaluation.pictures.inside import features, token_similarity
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.lightweight.qat import QAT
from leanvit.models.order import is_pyramid, parameters_in_order
from leanvit.models.pretrained import backbone_is_frozen, freeze
from leanvit.training.parameter_groups import parameter_groups
from leanvit.values import check


class OtherNames(nn.Module):
    """A net of three blocks, all of it within one row of layers."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        rows = [nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 6)) for _ in range(3)]
        self.net = nn.Sequential(nn.Linear(48, 6), *map(Residual, rows), nn.LayerNorm(6))
        self.fc = nn.Linear(6, num_classes)

    @property
    def head(self) -> nn.Module:
        return self.fc

    @property
    def steps(self) -> list[nn.Module]:
        return list(self.net[1:4])

    def begin(self, images: Tensor) -> Tensor:
        patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
        return self.net[0](patches.flatten(3).flatten(1, 2))

    def end(self, features: Tensor) -> Tensor:
        return self.fc(self.pool(self.net[4](features)))

    def pool(self, features: Tensor) -> Tensor:
        return features.mean(dim=1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.begin(images)
        for step in self.steps:
            features = step(features)
        return self.end(features)


class Residual(nn.Module):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        return features + self.layers(features)


def build(name: str) -> Any:
    torch.manual_seed(0)
    return OtherNames() if name == "other names" else net_of(name)


WITHOUT_STEPS = ("timm",)
every_net = pytest.mark.parametrize(
    "name", [*(each for each in GROUPS["model"] if each not in WITHOUT_STEPS), "other names"]
)


@every_net
@torch.no_grad()
def test_forward_is_begin_steps_and_end_and_every_step_can_be_pooled(name: str) -> None:
    net, images = build(name).eval(), small_images(2)
    assert isinstance(net, NetOfSteps) and plain_net(net) is net
    given = net.begin(images)
    for step in net.steps:
        given = step(given)
        pooled = net.pool(given)
        assert pooled.ndim == 2 and len(pooled) == 2
    assert torch.equal(net.end(given), net(images))
    *_, last = (m for m in net.head.modules() if isinstance(m, nn.Linear))
    assert last.out_features == 4


@every_net
def test_layers_cover_all_parameters_once_and_learn_and_freeze_in_order(name: str) -> None:
    net = build(name)
    order = parameters_in_order(net)
    assert sorted(id(p) for part in order for p in part) == sorted(map(id, net.parameters()))
    assert all(order[1:])  # PVT has nothing before its stages
    assert len(order) - 2 >= len(net.steps)
    rates = {id(p): group["lr_scale"] for group in parameter_groups(net, 0.05, 0.5)
             for p in group["params"]}  # fmt: skip
    for depth, part in enumerate(order):
        assert {rates[id(p)] for p in part} <= {0.5 ** (len(order) - 1 - depth)}
    head = {id(p) for p in net.head.parameters()}
    slow = {id(p) for group in parameter_groups(net, 0.05, backbone_lr=0.1)
            if group["lr_scale"] == 0.1 for p in group["params"]}  # fmt: skip
    assert slow == set(rates) - head
    freeze(net, "last_1")
    trained = {id(p) for p in net.parameters() if p.requires_grad}
    assert trained == {id(p) for part in order[-2:] for p in part}
    assert not backbone_is_frozen(net)
    freeze(net, "head")
    assert head <= {id(p) for p in net.parameters() if p.requires_grad} < trained
    assert backbone_is_frozen(net)


@every_net
def test_early_exits_train_and_images_leave(name: str) -> None:
    method = EarlyExit(build(name), image_size=32)
    terms = method.loss_terms(small_images(2), torch.tensor([0, 3]), nn.CrossEntropyLoss())
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in method.parameters())
    method.eval().threshold.fill_(0.0)
    with torch.no_grad():
        method(small_images(2))
    assert method.exits.tolist() == [0, 0]
    assert (method.macs_used == method.exit_macs(32)[0]).all()


@every_net
def test_it_is_pruned_and_built_again(name: str) -> None:
    net, fresh, images = build(name).eval(), build(name).eval(), small_images(2)
    before = count_macs(net, 32)
    prune(net, 32, 0.7, importance="magnitude", multiple=2)
    assert 0.6 * before < count_macs(net, 32) <= 0.7 * before
    resize(fresh, net.state_dict())
    fresh.load_state_dict(net.state_dict())
    assert [each.num for each in prunable(fresh)] == [each.num for each in prunable(net)]
    with torch.no_grad():
        assert torch.equal(fresh(images), net(images))


@every_net
def test_costs_of_parts_sum_to_the_whole_and_every_step_is_within_them(name: str) -> None:
    net = build(name)
    for whole in (net, QAT(net)):
        counted = cost(whole, 32)
        assert sum(part.macs for part in counted.parts) == counted.macs
        assert sum(part.params for part in counted.parts) == counted.params
        parts = {part.name for part in counted.parts}
        names = {module: name for name, module in whole.named_modules()}
        assert {names[step] for step in net.steps} <= parts


@every_net
def test_its_inside_can_be_drawn(name: str) -> None:
    net, images = build(name).eval(), small_images(2)
    maps, channels = features(net, images)
    assert maps.ndim == 4 and len(channels) == maps.shape[1]
    word, alike = token_similarity(net, images)
    assert word == ("stage" if is_pyramid(net) else "block") and len(alike) == len(net.steps)
    assert all(each.abs().max() <= 1 + 1e-5 for each in alike)


@pytest.mark.parametrize("name", ["convmixer", "other names"])
def test_its_export_agrees(name: str, tmp_path: Path) -> None:
    from leanvit.compression.onnx_net import OnnxNet, to_onnx

    net, images = build(name).eval(), small_images(3)
    (tmp_path / "net.onnx").write_bytes(to_onnx(net, 32).SerializeToString())
    with torch.no_grad():
        torch.testing.assert_close(
            OnnxNet(tmp_path / "net.onnx")(images), net(images), rtol=1e-4, atol=1e-5
        )


def test_a_classifier_of_another_name_is_scaled() -> None:
    net = build("other names")
    LWS()(net)
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["fc.scale"]
    assert net(small_images(2)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("vit", {"depth": 0}, "depth=0 must be greater than or equal to 1"),
        ("vit", {"mlp_dim": 0}, "mlp_dim=0 must be greater"),
        ("vit", {"dropout": -1.0}, "dropout=-1.0 must be greater"),
        ("vit", {"drop_path_rate": 1.0}, "drop_path_rate=1.0 must be less than 1"),
        ("vit_b_16", {"attention": "flex"}, "attention=flex must be 'sdpa' or 'math'"),
        ("linformer_vit", {"num_projected": 0}, "num_projected=0 must be greater"),
        ("cct", {"num_convolutions": 0}, "num_convolutions=0 must be greater"),
        ("cct", {"positions": "none"}, "positions=none must be 'learnable' or 'sinusoidal'"),
        ("coatnet", {"depths": [2, 0, 2, 2]}, "must be greater than or equal to 1"),
        ("coatnet", {"block_types": ["lstm"]}, "must be 'mbconv' or 'transformer'"),
        ("swin", {"heads": [2, 0]}, "must be greater than or equal to 1"),
        ("pvt", {"mlp_ratios": [0.0]}, "must be greater than 0"),
        ("vit_conv", {"scale": "heads"}, "scale=heads must be 'dim' or 'head_dim'"),
    ],
)
def test_values_that_no_net_takes_are_refused(name: str, given: dict, words: str) -> None:
    taker = get_class(small_config(name).model._target_)
    values = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml"))
    check(taker, {k: v for k, v in values.items() if v is not None and "$" not in str(v)
                  and k != "_target_"}, "model.")  # fmt: skip
    with pytest.raises(LeanvitError) as error:
        check(taker, given, "model.")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_model_imports_nothing_heavy() -> None:
    nets = ", ".join(f"leanvit.models.{name}" for name in GROUPS["model"])
    program = (
        f"import sys, {nets}; assert not {{'torchvision', 'torch._dynamo'}} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT / "src")
