"""Fresh nets in the sizes of pruned ones; what can be pruned, and weights that no pruning gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leanvit.compression.resize import ChannelUnits, HeadUnits, prunable, resize
from leanvit.errors import LeanvitError
from leanvit.models.cct import CCT
from leanvit.models.coatnet import CoAtNet
from leanvit.models.swin import Swin
from leanvit.models.vit import ViT
from leanvit.models.vit_conv import ViTConv

SIZES = {"image_size": 16, "num_classes": 5}
ONE_RESOLUTION = {**SIZES, "dim": 12, "heads": 3, "mlp_dim": 10}


def small_vit(depth: int = 1) -> ViT:
    torch.manual_seed(0)
    return ViT(**ONE_RESOLUTION, depth=depth, patch_size=4).eval()


def small_coatnet() -> CoAtNet:
    torch.manual_seed(0)
    return CoAtNet(
        **SIZES,
        block_types=["mbconv", "transformer"],
        dims=[8, 12],
        depths=[1, 1],
        transformer_heads=2,
        transformer_dim_head=6,
        mbconv_expand_ratios=[2],
        mbconv_kernel_sizes=[3],
        se_ratio=0.25,
    ).eval()


def sizes(net: nn.Module) -> dict[str, int]:
    return {
        each.name
        if isinstance(each, HeadUnits)
        else f"{each.names[0]} to {each.names[-1]}": each.num
        for each in prunable(net)
    }


def test_heads_and_all_channels_that_only_their_part_sees_can_go() -> None:
    attention = "stages.1.3.attention"
    assert sizes(small_vit()) == {"blocks.0.attention": 3, "blocks.0.mlp.0 to blocks.0.mlp.3": 10}
    assert sizes(small_coatnet()) == {
        "stem.0 to stem.3": 8,
        "stages.0.0.layers.1 to stages.0.0.layers.8": 16,
        attention: 2,
        "stages.1.3.mlp.0 to stages.1.3.mlp.3": 48,
    }
    tokeniser = {"kernel_size": 3, "depth": 1, "num_convolutions": 2}
    assert sizes(CCT(**ONE_RESOLUTION, **tokeniser))["tokeniser.0 to tokeniser.3"] == 64
    assert "head.1 to head.3" in sizes(ViTConv(**ONE_RESOLUTION, depth=1, patch_size=4))


def test_no_layer_of_a_row_both_makes_and_reads() -> None:
    net = CCT(**ONE_RESOLUTION, depth=1, num_convolutions=3, kernel_size=3)
    assert [name for name in sizes(net) if "tokeniser" in name] == ["tokeniser.0 to tokeniser.3"]


@pytest.mark.parametrize("build", [small_vit, small_coatnet])
def test_a_net_of_the_same_sizes_is_left_alone(build: Callable[[], nn.Module]) -> None:
    net, weights = build(), build().state_dict()
    before = dict(net.named_parameters())
    resize(net, weights)
    assert all(before[name] is parameter for name, parameter in net.named_parameters())


def test_a_net_takes_the_sizes_of_another_and_keeps_its_type_and_what_is_frozen() -> None:
    net, fresh = (
        Swin(**SIZES, patch_size=4, dim=12, depths=[2], heads=[3], window_size=2) for _ in range(2)
    )
    for each in prunable(net)[2:]:
        each.keep(range(2 if isinstance(each, HeadUnits) else 7))
    attention = net.stages[0][1].attention
    assert attention.heads == 2 and attention.relative_position_table.shape == (9, 2)
    assert attention.qkv.out_features == 24 and attention.out.in_features == 8
    fresh.double().stages[0][1].attention.requires_grad_(False)
    resize(fresh, net.state_dict())
    assert sizes(fresh) == sizes(net) and str(fresh) == str(net)
    for name, parameter in fresh.named_parameters():
        assert parameter.dtype == torch.float64
        assert parameter.requires_grad == ("stages.0.1.attention." not in name)
    fresh.load_state_dict(net.state_dict())
    assert fresh(torch.zeros(2, 3, 16, 16).double()).shape == (2, 5)


def test_depthwise_convolutions_statistics_and_squeezes_are_narrowed_alike() -> None:
    net = small_coatnet()
    [stem, mbconv, *_] = prunable(net)
    assert isinstance(stem, ChannelUnits) and isinstance(mbconv, ChannelUnits)
    stem.keep(range(5))
    mbconv.keep(range(3))
    layers = net.stages[0][0].layers
    assert layers[4].groups == layers[4].in_channels == layers[4].out_channels == 3
    assert layers[2].num_features == 3 and layers[2].running_mean.shape == (3,)
    assert layers[7].fc1.in_channels == layers[7].fc2.out_channels == 3
    assert layers[7].fc1.out_channels == 4
    assert net.stem[0].out_channels == net.stem[3].in_channels == 5
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != name}


MLP_ROWS = {"blocks.0.mlp.0.weight": torch.zeros(6, 12), "blocks.0.mlp.0.bias": torch.zeros(6)}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda w: without(w, "norm.weight"), "it lacks norm.weight"),
        (lambda w: w | {"more": torch.zeros(1)}, "it has more, which this model lacks"),
        (lambda w: w | MLP_ROWS, r"mlp.0.weight is \(6, 12\), not \(10, 12\)"),
        (lambda w: w | {"head.weight": torch.zeros(3, 12)}, r"head.weight is \(3, 12\)"),
        (lambda w: w | {"norm.weight": torch.zeros(9)}, r"norm.weight is \(9,\), not \(12,\)"),
        (lambda w: without(w, "blocks.0.mlp.3.weight"), "it lacks blocks.0.mlp.3.weight"),
        # half a head, more than there were, none
        (
            lambda w: w | {"blocks.0.attention.out.weight": torch.zeros(12, 6)},
            r"attention.qkv.weight is \(36, 12\), not \(12, 12\)",
        ),
        (
            lambda w: w | {"blocks.0.mlp.3.weight": torch.zeros(12, 11)},
            r"mlp.3.weight is \(12, 11\), not \(12, 10\)",
        ),
        (
            lambda w: w | {"blocks.0.mlp.3.weight": torch.zeros(12, 0)},
            r"mlp.3.weight is \(12, 0\), not \(12, 10\)",
        ),
        (
            lambda w: w | {"blocks.0.mlp.3.weight": torch.zeros(12)},
            r"mlp.3.weight is \(12,\), not \(12, 10\)",
        ),
        (lambda _: small_vit(depth=2).state_dict(), "it has blocks.1.attention_norm.weight, which"),
    ],
)
def test_weights_that_no_pruning_gives_are_told_in_one_line(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], line: str
) -> None:
    net = small_vit()
    with pytest.raises(LeanvitError, match=f"no pruning of this ViT gives .*{line}") as error:
        resize(net, change(net.state_dict()))
    assert "\n" not in str(error.value)


def test_what_is_no_net_of_leanvit_is_refused() -> None:
    with pytest.raises(LeanvitError, match=r"does not fit Linear, which does not say its steps"):
        resize(nn.Linear(2, 3), {})
