"""The cost of a net against closed forms, and of each experiment against the published tables."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nets
import pytest
import torch
import torch.nn.functional as F
import yaml
from hydra.utils import get_class
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from leanvit.evaluation.cost.cost import Cost, Part, cost
from leanvit.models.coatnet import CoAtNet
from leanvit.models.vit import ViT

CONF = Path(__file__).parents[3] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))

# Verified parameters (M) and MACs (G) of the published tables, in thop's convention.
TABLE = {
    "vit_v1.1": ("18.94", "1.230"),
    "vit_v1.2": ("18.94", "1.230"),
    "vit_v1.3": ("29.57", "1.921"),
    "vit_v1.4": ("49.26", "3.200"),
    "vit_v1.5": ("77.20", "5.016"),
    "vit_v1.6": ("115.77", "7.523"),
    "vit_v1.7": ("57.28", "11.280"),
    "vit_v1.8": ("57.28", "0.286"),
    "vit_v1.9": ("56.73", "3.686"),
    "vit_v1.10": ("85.07", "5.528"),
    "vit_v1.11": ("28.39", "1.844"),
    "vit_v1.12": ("96.48", "6.269"),
    "vit_v1.13": ("151.18", "9.824"),
    "swin_v0.1": ("27.50", "0.089"),
    "swin_v0.2": ("109.86", "0.355"),
    "swin_v0.3": ("439.14", "1.418"),
    "swin_v0.4": ("28.39", "0.103"),
    "swin_v0.5": ("47.23", "0.160"),
    "swin_v0.6": ("28.62", "0.118"),
    "swin_v0.7": ("25.07", "0.103"),
    "swin_v0.8": ("25.29", "0.118"),
    "coatnet_v0.1": ("10.42", "0.126"),
    "coatnet_v0.2": ("11.55", "0.158"),
    "coatnet_v0.3": ("31.87", "0.399"),
    "coatnet_v0.4": ("8.85", "0.101"),
}


def build(model: str, **changes: Any) -> tuple[nn.Module, dict[str, Any]]:
    """The net of a model file, without storage, and the values it was built with."""
    values = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())
    values |= {"image_size": 32, "num_classes": 10, **changes}
    if "weights" in values:
        values["weights"] = None
    with torch.device("meta"):
        return get_class(values.pop("_target_"))(**values), values


def build_experiment(experiment: str) -> tuple[nn.Module, dict[str, Any]]:
    chosen = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    (override,) = chosen["defaults"]
    size = chosen.get("data", {}).get("image_size", 32)
    return build(override["override /model"], **chosen["model"], image_size=size)


def vit_macs(
    image_size: int, patch_size: int, num_classes: int, dim: int, depth: int, mlp_dim: int
) -> int:
    patches = (image_size // patch_size) ** 2
    tokens = 1 + patches
    projections = 4 * tokens * dim**2  # query, key, value, output
    attention = 2 * tokens**2 * dim  # query times key, weights times value
    mlp = 2 * tokens * dim * mlp_dim
    embedding = patches * (3 * patch_size**2) * dim
    return embedding + depth * (projections + attention + mlp) + dim * num_classes


def mbconv_macs(in_dim: int, out_dim: int, in_pixels: int, out_pixels: int) -> int:
    hidden = 4 * in_dim
    squeeze_excitation = 2 * hidden * (hidden // 4)
    return (
        in_pixels * in_dim * hidden
        + out_pixels * 9 * hidden
        + squeeze_excitation
        + out_pixels * hidden * out_dim
    )


def transformer_macs(dim: int, tokens: int, inner: int) -> int:
    return tokens * (4 * dim * inner + 2 * tokens * inner + 8 * dim**2)


def coatnet_macs(
    image_size: int, num_classes: int, dims: list[int], depths: list[int], inner: int
) -> int:
    """Two MBConv and two transformer stages; the first keeps the stem's resolution."""
    pixels = (image_size // 2) ** 2
    macs = pixels * 9 * dims[0] * (3 + dims[0])
    macs += depths[0] * mbconv_macs(dims[0], dims[0], pixels, pixels)
    macs += mbconv_macs(dims[0], dims[1], pixels, pixels // 4)
    macs += (depths[1] - 1) * mbconv_macs(dims[1], dims[1], pixels // 4, pixels // 4)
    for stage, tokens in ((2, pixels // 16), (3, pixels // 64)):
        macs += tokens * 9 * dims[stage - 1] * dims[stage]
        macs += depths[stage] * transformer_macs(dims[stage], tokens, inner)
    return macs + dims[3] * num_classes


@pytest.mark.parametrize("experiment", TABLE)
def test_experiment_costs_what_its_table_row_says(experiment: str) -> None:
    net, values = build_experiment(experiment)
    counted = cost(net, values["image_size"])
    assert (f"{counted.thop_params / 1e6:.2f}", f"{counted.thop_macs / 1e9:.3f}") == TABLE[
        experiment
    ]
    # The promise is 0.5 %; the counter sees exactly these products, so hold it to that. Swin's
    # closed form is in tests/models/test_swin.py.
    if isinstance(net, ViT):
        sizes = ("image_size", "patch_size", "num_classes", "dim", "depth", "mlp_dim")
        assert counted.macs == vit_macs(**{name: values[name] for name in sizes})
    if isinstance(net, CoAtNet):
        inner = values["transformer_heads"] * values["transformer_dim_head"]
        sizes = ("image_size", "num_classes", "dims", "depths")
        assert counted.macs == coatnet_macs(**{name: values[name] for name in sizes}, inner=inner)


def test_published_figures_are_the_verified_ones_but_for_two() -> None:
    with (CONF / "experiment" / "published.csv").open(newline="") as file:
        rows = {row["experiment"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*TABLE, "dynamic_vit", "early_exit_vit"]
    wrong = []
    for experiment, verified in TABLE.items():
        for column, value in zip(("params_M", "macs_G"), verified, strict=True):
            if abs(float(rows[experiment][column]) - float(value)) > 0.0101:
                wrong.append((experiment, column))
    assert wrong == [("coatnet_v0.1", "params_M"), ("coatnet_v0.1", "macs_G")]
    assert "10.42 M and 0.126 G" in rows["coatnet_v0.1"]["note"]


@pytest.mark.parametrize("experiment", TABLE)
def test_experiment_file_states_its_command_and_its_table_row(experiment: str) -> None:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    params, macs = TABLE[experiment]
    assert text.startswith("# @package _global_\n")
    assert f"python src/train.py experiment={experiment}\n" in text
    assert f"{params} M parameters, {macs} G MACs" in text


def test_attention_is_counted_as_large_as_it_is() -> None:
    """At 256 tokens of 32 channels the attention products are more than half of all MACs."""
    net = ViT(64, 4, 10, dim=32, depth=2, heads=2, mlp_dim=64)
    counted = cost(net, 64)
    assert counted.macs == vit_macs(64, 4, 10, 32, 2, 64)
    assert counted.attention_macs == 2 * 2 * 257**2 * 32


def test_a_product_with_a_weight_is_not_attention() -> None:
    """A readout's token weights and Linformer's projections are in batched products, too."""

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing = nn.Parameter(torch.zeros(5, 16))

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).transpose(1, 2)  # 16 tokens of 3 channels
            mixed = self.mixing.expand(len(images), -1, -1) @ tokens
            return tokens @ mixed.transpose(1, 2)

    counted = cost(Mixer(), 4)
    assert counted.macs == 5 * 16 * 3 + 16 * 3 * 5
    assert counted.attention_macs == 16 * 3 * 5
    assert counted.parts == (Part("mixing", 80, 0), Part("forward", 0, counted.macs))
    weighted = ViT(32, 4, 10, dim=32, depth=1, heads=4, mlp_dim=64, readout="weighted")
    assert cost(weighted, 32).attention_macs == 2 * 65**2 * 32


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_parts_that_sum_to_it_and_kernels_that_cost_the_same(model: str) -> None:
    net, values = build(model)
    counted = cost(net, 32)
    assert sum(part.params for part in counted.parts) == counted.params
    assert sum(part.macs for part in counted.parts) == counted.macs
    assert all(part.params or part.macs for part in counted.parts)
    names = [part.name for part in counted.parts]
    assert len(set(names)) == len(names) and "forward" not in names
    for name in ("blocks", "stages"):
        members = [f"{name}.{i}" for i in range(len(getattr(net, name, ())))]
        assert [each for each in names if each.startswith(name)] == members
    assert counted.attention_macs < counted.macs
    if "attention" in values and values.get("attention_depth") != 0:
        assert counted.attention_macs > 0
        assert cost(build(model, attention="math")[0], 32) == counted


def test_parts_come_in_the_order_of_the_forward_pass() -> None:
    net, coatnet = small_nets()
    block = 4 * 24**2 + 2 * 24 * 40
    block_params, block_macs = block + 24 + 24 + 40 + 4 * 24, 17 * block + 2 * 17**2 * 24
    counted = cost(net, 16)
    assert counted.parts == (
        Part("cls_token", 24, 0),
        Part("position_embedding", 17 * 24, 0),
        Part("patch_embedding", 49 * 24, 16 * 48 * 24),
        *(Part(f"blocks.{i}", block_params, block_macs) for i in range(4)),
        Part("norm", 48, 0),
        Part("head", 125, 120),
    )
    names = [part.name for part in cost(coatnet, 16).parts]
    assert names == ["stem", *(f"stages.{i}" for i in range(3)), "norm", "head"]
    head = {"name": "head", "params": 125, "macs": 120}
    assert json.loads(json.dumps(asdict(counted)))["parts"][-1] == head


def test_parts_that_share_and_call_each_other_are_counted_once() -> None:
    class Inner(nn.Module):
        def __init__(self, shared: nn.Module) -> None:
            super().__init__()
            self.shared = shared
            self.own = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            return self.own(self.shared(images))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, 2, 1, bias=False)
            self.shared = nn.Conv2d(3, 3, 1, bias=False)
            self.unused = nn.Conv2d(3, 3, 1, bias=False)
            self.blocks = nn.ModuleList([Inner(self.shared), nn.Identity(), Inner(self.shared)])

        def forward(self, images: Tensor) -> Tensor:
            for block in self.blocks:
                images = block(images)
            return self.last(self.last(images).repeat(1, 2, 1, 1)[:, :3])

    counted = cost(Net(), 4)
    assert counted.parts == (
        Part("blocks.0", 9, 2 * 9 * 16),
        Part("blocks.2", 9, 2 * 9 * 16),
        Part("last", 6, 2 * 6 * 16),
        Part("shared", 9, 0),
        Part("unused", 9, 0),
    )
    assert (counted.params, counted.macs) == (42, 6 * 8 * 16)


def literal_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
) -> Tensor:
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores if attn_mask is None else scores + attn_mask).softmax(dim=-1) @ value


def small_nets() -> list[nn.Module]:
    return [nets.vit(), nets.coatnet()]


@pytest.mark.parametrize(
    "way",
    ["literal", "meta", "inference",
     pytest.param("gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)  # fmt: skip
def test_attention_device_and_mode_change_no_cost(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu, expected = small_nets(), [cost(net, 16) for net in small_nets()]
    if way == "literal":
        monkeypatch.setattr(F, "scaled_dot_product_attention", literal_attention)
    with torch.device("meta"):
        chosen = small_nets() if way == "meta" else on_cpu
    with torch.inference_mode(way == "inference"):
        assert [cost(net.cuda() if way == "gpu" else net, 16) for net in chosen] == expected


def test_torchvisions_vit_costs_what_ours_does() -> None:
    """It differs by the bias of query, key and value, which neither MAC counting sees."""
    theirs = VisionTransformer(32, 4, 2, 4, 32, 64, num_classes=10)
    ours = ViT(32, 4, 10, dim=32, depth=2, heads=4, mlp_dim=64)
    counted = cost(theirs, 32)
    assert counted.macs == cost(ours, 32).macs
    assert counted.params == cost(ours, 32).params + 2 * 3 * 32


@pytest.mark.parametrize("training", [True, False])
def test_the_net_is_not_changed(training: bool) -> None:
    for net in small_nets():
        net.train(training)
        before = {name: values.clone() for name, values in net.state_dict().items()}
        buffers = [name for name, _ in net.named_buffers()]
        cost(net, 16)
        assert all(module.training is training for module in net.modules())
        assert [name for name, _ in net.named_buffers()] == buffers
        after = net.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert not any(module._forward_hooks for module in net.modules())


def test_a_compiled_net_counts_without_being_compiled() -> None:
    net = nets.vit()
    expected = cost(net, 16)

    def fail(*_: object) -> None:
        raise AssertionError("the copy was compiled")

    net.compile(backend=fail)
    assert cost(net, 16) == expected


def test_frozen_shared_and_saved_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1, bias=False)
            self.second = nn.Conv2d(3, 3, 1, bias=False)
            self.second.weight = self.first.weight
            self.norm = nn.BatchNorm2d(3)
            self.norm.requires_grad_(False)
            self.register_buffer("scratch", torch.zeros(100), persistent=False)

        def forward(self, images: Tensor) -> Tensor:
            return self.norm(self.second(self.first(images)))

    counted = cost(Tied().double(), 4)
    assert counted == Cost(
        params=9 + 6,
        trainable_params=9,
        weight_bytes=8 * (9 + 6 + 6) + 8,  # running mean and variance, and one int64 counter
        macs=2 * 9 * 16,
        attention_macs=0,
        thop_params=2 * 9 + 6,  # thop counts a shared weight once for each layer
        thop_macs=2 * 9 * 16 + 4 * 3 * 16,
        parts=(Part("first", 9, 9 * 16), Part("second", 0, 9 * 16), Part("norm", 6, 0)),
    )
