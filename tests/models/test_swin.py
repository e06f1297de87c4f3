"""Swin against torchvision's, its windows and masks against double loops, its published costs."""

import math
from pathlib import Path

import pytest
import torch
import yaml
from nets import scattered, swin
from torch import Tensor
from torchvision.models.swin_transformer import SwinTransformer

from leanvit.evaluation.cost.cost import cost
from leanvit.models.attention import record_attention
from leanvit.models.swin import Block, Swin, WindowAttention, from_torchvision, shift_mask

CONF = Path(__file__).parents[2] / "conf"

# Verified parameters (M) and MACs (G) of the published table, in thop's convention.
TABLE = {
    "swin_v0.1": (27.50, 0.089),
    "swin_v0.2": (109.86, 0.355),
    "swin_v0.3": (439.14, 1.418),
    "swin_v0.4": (28.39, 0.103),
    "swin_v0.5": (47.23, 0.160),
    "swin_v0.6": (28.62, 0.118),
    "swin_v0.7": (25.07, 0.103),
    "swin_v0.8": (25.29, 0.118),
}


def small_swin(**changes: object) -> Swin:
    """Two stages of two blocks, on maps of 16 and 8."""
    stages = {"image_size": 32, "depths": [2, 2], "heads": [2, 4], "window_size": 4}
    return swin(**{**stages, **changes})


def torchvisions(net: Swin, patch_size: int, dim: int, heads: list[int]) -> SwinTransformer:
    """torchvision's net of the same sizes, windows shrunk as ours instead of padded maps."""
    blocks = [[each for each in stage if isinstance(each, Block)] for stage in net.stages]
    twin = SwinTransformer(
        [patch_size, patch_size],
        dim,
        [len(stage) for stage in blocks],
        heads,
        [blocks[0][0].attention.window_size] * 2,
        num_classes=5,
    )
    for stage, ours in zip(twin.features[1::2], blocks, strict=True):
        for theirs, block in zip(stage, ours, strict=True):
            theirs.attn.window_size = [block.attention.window_size] * 2
            theirs.attn.define_relative_position_bias_table()
            theirs.attn.define_relative_position_index()
    return twin


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},  # maps of 16 and 8 in windows of 4: both shifted
        {"image_size": 28, "window_size": 7},  # 14, shifted by 3, and one window of 7
        {"image_size": 24, "window_size": 3},  # 12 and 6: odd windows, both shifted
        {"image_size": 16, "window_size": 5, "depths": [2], "heads": [2], "patch_size": 4},
        # the published layout: maps of 8, 4, 2 and 1
        {"patch_size": 4, "depths": [2, 2, 2, 2], "heads": [1, 2, 4, 8], "mlp_ratio": 4.0},
    ],
)
def test_logits_equal_torchvisions(changes: dict[str, object]) -> None:
    net = small_swin(**changes)
    sizes = {"patch_size": 2, "heads": [2, 4], "image_size": 32, **changes}
    twin = torchvisions(net, sizes["patch_size"], 8, sizes["heads"])
    scattered(twin)
    net.load_state_dict(from_torchvision(twin.state_dict()))
    images = torch.randn(3, 3, sizes["image_size"], sizes["image_size"], dtype=torch.float64)
    logits = net.double().eval()(images)
    torch.testing.assert_close(logits, twin.double().eval()(images), rtol=0, atol=1e-6)
    assert logits.std() > 0.01  # the nets are not constants that agree


def test_torchvisions_weights_fit_the_net_that_it_publishes() -> None:
    with torch.device("meta"):
        theirs = SwinTransformer([4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], [7, 7])  # swin_t
        ours = Swin(224, 4, 1000, 96, [2, 2, 6, 2], [3, 6, 12, 24], window_size=7)
    renamed = from_torchvision(theirs.state_dict())
    assert {name: values.shape for name, values in renamed.items()} == {
        name: values.shape for name, values in ours.state_dict().items()
    }
    assert cost(ours, 224).params == 28_288_354  # as torchvision documents


def regions(map_size: int, window_size: int, shift: int) -> list[tuple[int, int]]:
    """The window of each token when windows are moved by ``shift`` over a map with borders."""
    return [
        ((row - shift) // window_size, (column - shift) // window_size)
        for row in range(map_size)
        for column in range(map_size)
    ]


@pytest.mark.parametrize(("map_size", "window_size", "shift"), [(6, 3, 1), (8, 4, 2), (4, 2, 0)])
def test_the_mask_keeps_apart_what_only_the_roll_brought_together(
    map_size: int, window_size: int, shift: int
) -> None:
    mask = shift_mask(map_size, window_size, shift)
    region = regions(map_size, window_size, shift)
    per_side = map_size // window_size
    for window in range(per_side**2):
        tokens = []  # the window's tokens, by their place in the map before the roll
        for place in range(window_size**2):
            row = window // per_side * window_size + place // window_size
            column = window % per_side * window_size + place % window_size
            tokens.append((row + shift) % map_size * map_size + (column + shift) % map_size)
        for i, query in enumerate(tokens):
            for j, key in enumerate(tokens):
                together = region[query] == region[key]
                assert bool(mask[window, i, j]) != together


def literal_weights(attention: WindowAttention, features: Tensor) -> Tensor:
    """(heads, tokens, tokens) of one map: one query and one key at a time, no window built."""
    size, window, heads = attention.map_size, attention.window_size, attention.heads
    region = regions(size, window, attention.shift)
    query, key, _ = attention.qkv(features.flatten(0, 1)).chunk(3, dim=-1)
    dim_head = query.shape[-1] // heads
    weights = torch.zeros(heads, size**2, size**2, dtype=features.dtype)
    for head in range(heads):
        channels = slice(head * dim_head, (head + 1) * dim_head)
        for i in range(size**2):
            keys = [j for j in range(size**2) if region[j] == region[i]]
            scores = torch.empty(len(keys), dtype=features.dtype)
            for place, j in enumerate(keys):
                rows, columns = i // size - j // size, i % size - j % size
                row = (rows + window - 1) * (2 * window - 1) + columns + window - 1
                product = query[i, channels] @ key[j, channels] / math.sqrt(dim_head)
                bias = attention.relative_position_table[row, head]
                scores[place] = product + bias
            weights[head, i, keys] = scores.softmax(dim=0)
    return weights


@torch.no_grad()
@pytest.mark.parametrize(("window_size", "shift"), [(3, 1), (2, 0), (6, 0)])
def test_window_attention_equals_the_double_loop(window_size: int, shift: int) -> None:
    attention = WindowAttention(4, 6, window_size, shift, heads=2, dropout=0.0, attention="sdpa")
    scattered(attention).double()
    features = torch.randn(2, 6, 6, 4, dtype=torch.float64)
    literal = torch.stack([literal_weights(attention, each) for each in features])
    with record_attention() as records:
        attention(features)
    weights = attention.over_tokens(records[0])
    torch.testing.assert_close(weights, literal, rtol=0, atol=1e-12)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 36, dtype=torch.float64))
    value = attention.qkv(features).chunk(3, dim=-1)[2].flatten(1, 2)
    per_head = [literal[:, h] @ value[..., 2 * h : 2 * h + 2] for h in range(2)]
    expected = attention.out(torch.cat(per_head, dim=-1)).unflatten(1, (6, 6))
    torch.testing.assert_close(attention(features), expected, rtol=0, atol=1e-12)


def swin_macs(
    image_size: int,
    patch_size: int,
    num_classes: int,
    dim: int,
    depths: list[int],
    window_size: int,
    mlp_ratio: float,
) -> int:
    size = image_size // patch_size
    macs = size**2 * 3 * patch_size**2 * dim
    for stage, depth in enumerate(depths):
        if stage > 0:
            size, dim = size // 2, 2 * dim
            macs += size**2 * (2 * dim) * dim
        projections, mlp = 4 * dim**2, 2 * dim * int(mlp_ratio * dim)
        attention = 2 * min(window_size, size) ** 2 * dim
        macs += depth * size**2 * (projections + attention + mlp)
    return macs + dim * num_classes


@pytest.mark.parametrize("experiment", [None, *TABLE])
def test_costs_are_the_closed_form_and_the_published_row(experiment: str | None) -> None:
    values = yaml.safe_load((CONF / "model" / "swin.yaml").read_text())
    del values["_target_"]
    if experiment is not None:
        values |= yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())["model"]
    values |= {"image_size": 32, "num_classes": 10}
    with torch.device("meta"):
        net = Swin(**values)
    counted = cost(net, 32)
    names = ("image_size", "patch_size", "num_classes", "dim", "depths", "window_size", "mlp_ratio")
    assert counted.macs == swin_macs(**{name: values[name] for name in names})
    if experiment is not None:
        params, macs = TABLE[experiment]
        assert (round(counted.thop_params / 1e6, 2), round(counted.thop_macs / 1e9, 3)) == (
            params,
            macs,
        )


def test_every_second_block_shifts_unless_its_map_is_one_window() -> None:
    net = small_swin(depths=[3, 2, 2, 2], heads=[1, 1, 1, 1])  # maps of 16, 8, 4, 2
    attentions = [module for module in net.modules() if isinstance(module, WindowAttention)]
    assert [a.shift for a in attentions] == [0, 2, 0, 0, 2, 0, 0, 0, 0]
    assert [a.window_size for a in attentions] == [4] * 7 + [2] * 2


@torch.no_grad()
def test_information_passes_windows_only_where_they_shift() -> None:
    torch.manual_seed(0)
    for shift, expected in ((0, {(r, c) for r in (0, 1) for c in (0, 1)}), (1, {(0, 0)})):
        attention = WindowAttention(4, 4, 2, shift, heads=1, dropout=0.0, attention="sdpa")
        scattered(attention)
        features = torch.randn(1, 4, 4, 4)
        changed = features.clone()
        changed[0, 0, 0] += 1
        difference = (attention(changed) - attention(features)).abs().sum(dim=-1)[0]
        assert {tuple(place) for place in (difference > 1e-6).nonzero().tolist()} == expected


def test_masks_are_computed_and_not_saved() -> None:
    assert not [name for name in small_swin().state_dict() if "mask" in name or "index" in name]


@torch.no_grad()
@pytest.mark.parametrize("window_size", [16, 40])
def test_a_window_as_large_as_the_map_or_larger_sees_all_of_it(window_size: int) -> None:
    net = small_swin(window_size=window_size)
    with record_attention() as records:
        net(torch.randn(1, 3, 32, 32))
    assert [weights.shape for weights in records] == [(1, 2, 256, 256)] * 2 + [(1, 4, 64, 64)] * 2
