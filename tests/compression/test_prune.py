"""Pruned nets against the same nets with units at zero; importance, MACs, steps, refusals."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scripts import ROOT
from torch import Tensor, nn

from leanvit.compression.importance import magnitude, taylor, weakest
from leanvit.compression.prune import Prune, count_macs, prune
from leanvit.compression.resize import HeadUnits, Units, prunable, resize
from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.evaluation.pictures.attention_maps import attention_blocks
from leanvit.lightweight.evit import EViT
from leanvit.lightweight.tome import ToMe
from leanvit.models.attention import record_attention
from leanvit.models.cct import CCT
from leanvit.models.coatnet import CoAtNet
from leanvit.models.convolution_parts import SqueezeExcitation
from leanvit.models.linformer_vit import LinformerViT
from leanvit.models.pvt import PVT
from leanvit.models.swin import Swin
from leanvit.models.vit import ViT
from leanvit.models.vit_conv import ViTConv

SIZES = {"image_size": 16, "num_classes": 5}
ONE_RESOLUTION = {**SIZES, "dim": 24, "depth": 2, "heads": 4, "mlp_dim": 40}
BUILD: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: ViT(**ONE_RESOLUTION, patch_size=4, qkv_bias=True),
    "vit_conv": lambda: ViTConv(**ONE_RESOLUTION, patch_size=4, scale="head_dim"),
    "linformer_vit": lambda: LinformerViT(**ONE_RESOLUTION, patch_size=4, num_projected=5),
    "cct": lambda: CCT(**ONE_RESOLUTION, num_convolutions=2, kernel_size=3),
    "coatnet": lambda: CoAtNet(
        **SIZES,
        block_types=["mbconv", "transformer"],
        dims=[8, 24],
        depths=[1, 2],
        transformer_heads=4,
        transformer_dim_head=6,
        mbconv_expand_ratios=[2],
        mbconv_kernel_sizes=[3],
        se_ratio=0.25,
    ),
    "swin": lambda: Swin(**SIZES, patch_size=2, dim=12, depths=[2, 1], heads=[3, 4], window_size=4),
    "pvt": lambda: PVT(
        **SIZES,
        dims=[8, 16],
        depths=[1, 1],
        heads=[2, 4],
        mlp_ratios=[4, 4],
        sr_ratios=[2, 1],
        patch_strides=[2, 2],
    ),
}
every_net = pytest.mark.parametrize("name", BUILD)


def small_net(name: str) -> nn.Module:
    """Weights and running statistics away from their start, in evaluation."""
    net = BUILD[name]().double()
    torch.manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.3)
    return net.eval()


@functools.cache
def small_pruned() -> dict[str, nn.Module]:
    """Each net at 0.6 of its MACs."""
    nets = {name: small_net(name) for name in BUILD}
    for net in nets.values():
        prune_small(net)
    return nets


def images_of(batch: int = 4, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 16, 16, generator=draws, dtype=torch.float64)


def losses(net: nn.Module) -> Iterator[Tensor]:
    for seed in itertools.count():
        yield nn.functional.cross_entropy(net(images_of(seed=seed)), torch.arange(4))


def prune_small(net: nn.Module, share: float = 0.6, **options: object) -> None:
    prune(net, 16, share, losses, **{"batches": 2, "multiple": 2, **options})


def kept(before: Units, after: Units) -> list[int]:
    """Which units a pruned part still has: those whose weights stand in both."""
    old, new = (each.heads.makers[0] if isinstance(each, HeadUnits) else each.channels.maker
                for each in (before, after))  # fmt: skip
    old_rows, new_rows = rows_by_unit(old, before), rows_by_unit(new, after)
    return [i for i, row in enumerate(old_rows) if any(torch.equal(row, each) for each in new_rows)]


def rows_by_unit(layer: nn.Module, units: Units) -> Tensor:
    """(units, all weights that make one)."""
    if not isinstance(units, HeadUnits):
        return layer.weight.flatten(1)
    dim_head = units.dim_head
    rows = layer.weight.flatten(1).unflatten(0, (-1, units.num, dim_head))
    return rows.transpose(0, 1).flatten(1)


def scale_units(units: Units, factors: Tensor) -> None:
    """From now on each unit is multiplied by its factor, wherever it is read."""
    squeezes = [] if isinstance(units, HeadUnits) else units.channels.carriers
    [first] = [each for each in squeezes if isinstance(each, SqueezeExcitation)] or [
        units.readers[-1]
    ]
    repeats = units.readers[-1].weight.shape[1] // units.num
    last = isinstance(first, nn.Linear)

    def scale(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        each = factors.repeat_interleave(repeats)
        return inputs[0] * (each if last else each[:, None, None])

    first.register_forward_pre_hook(scale)


@every_net
def test_the_pruned_net_is_the_net_with_units_at_zero(name: str) -> None:
    net, twin = small_pruned()[name], small_net(name)
    went = {"HeadUnits": 0, "ChannelUnits": 0}
    for before, after in zip(prunable(twin), prunable(net), strict=True):
        places = kept(before, after)
        assert len(places) == after.num
        went[type(before).__name__] += before.num - after.num
        scale_units(before, torch.zeros(before.num).double().index_fill(0, torch.tensor(places), 1))
    assert min(went.values()) > 0
    with torch.no_grad():
        torch.testing.assert_close(net(images_of()), twin(images_of()), atol=1e-10, rtol=0)


@every_net
def test_taylor_importance_is_the_slope_along_a_factor(name: str) -> None:
    net = small_net(name)
    units = prunable(net)
    found = taylor(units, itertools.islice(losses(net), 2))
    factors = [torch.ones(each.num, dtype=torch.float64, requires_grad=True) for each in units]
    for each, factor in zip(units, factors, strict=True):
        scale_units(each, factor)
    slopes = [torch.autograd.grad(loss, factors) for loss in itertools.islice(losses(net), 2)]
    for score, first, second in zip(found, *slopes, strict=True):
        torch.testing.assert_close(score, (first.abs() + second.abs()) / 2, atol=1e-10, rtol=0)


def test_magnitude_is_the_squared_norm_of_what_reads_a_unit() -> None:
    units = prunable(small_net("vit"))[:2]
    heads, channels = magnitude(units)
    out, reader = (each.readers[0].weight.detach() for each in units)
    columns = [sum(x**2 for x in column) for column in out.T]
    expected = [sum(columns[6 * head : 6 * head + 6]) / (sum(columns) / 24) for head in range(4)]
    torch.testing.assert_close(heads, torch.stack(expected))
    torch.testing.assert_close(channels, reader.square().sum(0) / reader.square().sum(0).mean())


@every_net
def test_macs_are_the_share_asked_and_counted_as_cost_does(name: str) -> None:
    net, before = small_pruned()[name], count_macs(small_net(name), 16)
    macs = cost(net, 16).macs
    assert macs == count_macs(net, 16)
    assert 0.57 < macs / before <= 0.6


def test_macs_are_those_of_the_heads_and_channels_that_are_left() -> None:
    net = small_pruned()["vit"]
    macs = 16 * 24 * 3 * 4**2 + 5 * 24  # embedding and head
    for block in net.blocks:
        inner, hidden = 6 * block.attention.heads, block.mlp[3].in_features
        assert block.mlp[0].out_features == hidden
        macs += 17 * 4 * 24 * inner + 2 * 17**2 * inner + 2 * 17 * 24 * hidden
    assert cost(net, 16).macs == macs


@every_net
def test_a_fresh_net_of_its_sizes_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    net = small_pruned()[name]
    torch.save(net.state_dict(), tmp_path / "best.ckpt")
    weights = torch.load(tmp_path / "best.ckpt")
    again = BUILD[name]().double().eval()
    resize(again, weights)
    again.load_state_dict(weights)
    with torch.no_grad():
        assert torch.equal(again(images_of()), net(images_of()))
    assert [each.num for each in prunable(again)] == [each.num for each in prunable(net)]
    assert str(again) == str(net)  # every layer knows its sizes


@every_net
def test_a_pruned_net_trains_shows_its_attention_and_prunes_again(name: str) -> None:
    net = copy.deepcopy(small_pruned()[name])
    before = count_macs(net, 16)
    net.train()
    next(losses(net)).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in net.parameters())
    net.eval()
    heads = [each.num for each in prunable(net) if isinstance(each, HeadUnits)]
    with record_attention() as records:
        net(images_of())
    windows = [4, 4, 1] if name == "swin" else [1] * len(heads)
    assert [weights.shape[1] for weights in records] == [
        num * count for num, count in zip(heads, windows, strict=True)
    ]
    for weights, num in zip(attention_blocks(net, images_of()), heads, strict=True):
        assert weights.shape[1] == num
        if name != "linformer_vit":  # whose rows sum to anything
            torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    net.zero_grad()
    prune_small(net, 0.75)
    assert 0.7 < count_macs(net, 16) / before <= 0.75


def test_pruning_repeats_and_leaves_modes_gradients_and_statistics() -> None:
    nets = [small_net("coatnet") for _ in range(2)]
    for net in nets:
        net.train()
        net.stages[0].eval()
        net.stem.requires_grad_(False)
        statistics = net.stages[0][0].layers[0].running_mean.clone()
        with torch.no_grad():
            prune_small(net)
        assert net.training and not net.stages[0].training and net.stages[1].training
        trained = {name for name, weight in net.named_parameters() if weight.requires_grad}
        assert trained == {n for n, _ in net.named_parameters() if not n.startswith("stem.")}
        assert all(p.grad is None and p.is_leaf for p in net.parameters())
        assert torch.equal(statistics, net.stages[0][0].layers[0].running_mean)
    a, b = (net.state_dict() for net in nets)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_no_more_batches_are_drawn_than_wanted_and_none_for_magnitude() -> None:
    drawn = []

    def counted(net: nn.Module) -> Iterator[Tensor]:
        for loss in losses(net):
            drawn.append(net.training)
            yield loss

    prune(small_net("vit").train(), 16, 0.6, counted, batches=3, multiple=2)
    assert drawn == [False] * 3
    prune(small_net("vit"), 16, 0.6, importance="magnitude", multiple=2)


def test_the_loss_may_be_computed_in_bfloat16() -> None:
    net = small_net("coatnet").float()

    def low(net: nn.Module) -> Iterator[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            yield nn.functional.cross_entropy(net(images_of().float()), torch.arange(4))

    prune(net, 16, 0.6, low, multiple=2)
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_the_list_is_by_importance_for_each_mac() -> None:
    scores = [torch.tensor([1.0, 9.0]), torch.tensor([0.4, 0.1, 5.0, 0.2])]
    # heads of 100 MACs are worth 0.01 and 0.09 a MAC, channels of 10 are worth 0.01 to 0.5
    assert weakest(scores, [100, 10], [1, 1], 10) == [[], [1]]
    assert weakest(scores, [100, 10], [1, 1], 20) == [[], [1, 3]]
    assert weakest(scores, [100, 10], [1, 1], 120) == [[0], [1, 3]]
    # a little more than asked, and by the finest that is left
    assert weakest(scores, [100, 10], [1, 1], 121) == [[0], [1, 3, 0]]
    assert weakest(scores, [100, 10], [1, 1], 25) == [[], [1, 3, 0]]
    # one of each part stays, and the smallest bundle is taken where nothing finer is left
    assert weakest(scores, [100, 10], [1, 1], 130) == [[0], [1, 3, 0]]
    assert weakest(scores, [100, 10], [1, 1], 31) == [[0], [1, 3, 0]]


def test_channels_leave_until_a_multiple_is_left() -> None:
    score = torch.arange(11).flip(0).float()
    assert weakest([score], [1], [4], 1) == [[10, 9, 8]]  # 8 are left
    assert weakest([score], [1], [4], 4) == [[10, 9, 8, 7, 6, 5, 4]]
    assert weakest([score], [1], [4], 99) == [[10, 9, 8, 7, 6, 5, 4]]  # and 4 stay
    assert weakest([score[:4]], [1], [4], 1) == [[]]
    net = small_net("vit")
    prune_small(net, multiple=8)
    assert {block.mlp[0].out_features % 8 for block in net.blocks} == {0}


def test_steps_fall_by_one_factor_and_share_the_epochs() -> None:
    shares, epochs = zip(*Prune(macs=0.125, steps=3, epochs=10).schedule, strict=True)
    assert shares == pytest.approx((0.5, 0.25, 0.125)) and epochs == (3, 4, 3)
    net, seen = small_net("vit"), []
    before = count_macs(net, 16)

    def fine_tune(given: nn.Module, epochs: int) -> None:
        assert given is net
        seen.append((round(count_macs(given, 16) / before, 1), epochs))

    Prune(macs=0.5, steps=3, epochs=4, multiple=2, batches=1)(net, 16, losses, fine_tune)
    assert seen == [(0.8, 1), (0.6, 2), (0.5, 1)]
    assert 0.48 < count_macs(net, 16) / before <= 0.5


def test_a_step_that_took_a_whole_head_serves_the_next_ones() -> None:
    net = ViT(**{**ONE_RESOLUTION, "depth": 1, "mlp_dim": 2}, patch_size=4)
    before, head = count_macs(net, 16), 17 * 4 * 24 * 6 + 2 * 17**2 * 6
    tuned = []
    Prune(macs=0.6, steps=6, epochs=0, multiple=2, importance="magnitude")(
        net, 16, None, lambda *given: tuned.append(given)
    )
    assert 0.6 * before - head < count_macs(net, 16) <= 0.6 * before
    assert not tuned


def test_lightweighting_fits_a_pruned_net() -> None:
    net = small_pruned()["vit"]
    for method in (EViT(net), ToMe(net, r=2)):
        assert method(images_of()).shape == (4, 5)
    assert torch.equal(EViT(net, keep_rate=1.0)(images_of()), net(images_of()))


def test_the_config_gives_the_defaults_of_the_class() -> None:
    assert instantiate(OmegaConf.load(ROOT / "conf" / "method" / "prune.yaml")) == Prune()


def test_what_cannot_be_pruned_is_one_line_and_nothing_is_changed() -> None:
    net = small_net("vit")
    wrapped, mlp = EViT(copy.deepcopy(net)), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    calls: list[tuple[str, Callable[[], object]]] = [
        (
            "does not fit EViT, which does not say its steps",
            lambda: prune_small(wrapped),
        ),
        ("does not fit Sequential, which does not say its steps", lambda: prune_small(mlp)),
        (
            r"macs=0.01 is out of reach: this ViT .* take 0.255 of its MACs; give .* from 0.255 to",
            lambda: Prune(macs=0.01, multiple=2)(net, 16, losses, lambda *_: None),
        ),
        ("macs=1.2 is out of reach", lambda: prune_small(net, 1.2)),
        ("taylor wants the loss on batches", lambda: prune(net, 16, 0.6, multiple=2)),
    ]
    for line, call in calls:
        with pytest.raises(LeanvitError, match=line) as error:
            call()
        assert "\n" not in str(error.value)
    fresh = small_net("vit").state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in net.state_dict().items())


def test_the_least_share_that_is_told_is_reached() -> None:
    net = small_net("vit")
    with pytest.raises(LeanvitError) as error:
        prune_small(net, 0.01)
    least = float(str(error.value).partition(" from ")[2].split()[0])
    prune_small(net, least)
    assert [each.num for each in prunable(net)] == [1, 2, 1, 2]
