"""ToMe against a loop in which a token of size s stands there s times; limit cases, cost, refusals.

The loop knows neither sizes nor their logarithm: attention and readouts see copies.
"""

import re

import nets
import pytest
import torch
from image_trees import refused
from nets import images_of, scattered
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.tome import ToMe, match, merge
from leanvit.models import cct
from leanvit.models.attention import record_attention
from leanvit.models.cct import CCT
from leanvit.models.vit import ViT

WIDE = [3, 0, 4]  # of 16 patches: 13, then 13, then 9


def small_net(name: str = "vit", **changes: object) -> ViT | CCT:
    """Weights away from their start, 16 patches, evaluation."""
    return scattered(getattr(nets, name)(**{"depth": 3, **changes})).eval()


def literal_pairs(keys: Tensor, r: int, has_cls: bool) -> list[tuple[int, int]]:
    """Who is merged into whom."""
    num_tokens = len(keys)
    best = []
    for i in range(2 if has_cls else 0, num_tokens, 2):
        likeness = {
            j: (keys[i] @ keys[j] / (keys[i].norm() * keys[j].norm())).item()
            for j in range(1, num_tokens, 2)
        }
        j = max(likeness, key=likeness.__getitem__)
        best.append((likeness[j], i, j))
    return [(i, j) for _, i, j in sorted(best, reverse=True)[:r]]


def literal_attention(attention: nn.Module, normed: list[Tensor], sizes: list[int]) -> tuple:
    """Outputs and mean keys of all tokens; each key stands there as often as its token is large."""
    dim_head = len(normed[0]) // attention.heads
    projected = [attention.qkv(token).view(3, attention.heads, dim_head) for token in normed]
    places = [place for place, size in enumerate(sizes) for _ in range(size)]
    outputs = []
    for query, _, _ in projected:
        heads = []
        for head in range(attention.heads):
            keys = torch.stack([projected[place][1, head] for place in places])
            values = torch.stack([projected[place][2, head] for place in places])
            heads.append((keys @ query[head] / dim_head**0.5).softmax(dim=0) @ values)
        outputs.append(attention.out(torch.cat(heads)))
    return outputs, torch.stack([key.mean(dim=0) for _, key, _ in projected])


def literal_logits(net: ViT | CCT, image: Tensor, rs: list[int]) -> Tensor:
    has_cls = hasattr(net, "cls_token")
    tokens = list(net.begin(image[None])[0])
    sizes = [1] * len(tokens)
    for block, r in zip(net.blocks, rs, strict=True):
        normed = [block.attention_norm(token) for token in tokens]
        outputs, keys = literal_attention(block.attention, normed, sizes)
        tokens = [token + output for token, output in zip(tokens, outputs, strict=True)]
        pairs = literal_pairs(keys, min(r, (len(tokens) - has_cls) // 2), has_cls)
        for i, j in pairs:
            both = sizes[i] + sizes[j]
            tokens[j] = (sizes[i] * tokens[i] + sizes[j] * tokens[j]) / both
            sizes[j] = both
        if pairs:
            gone = {i for i, _ in pairs}
            order = [i for i in range(0, len(tokens), 2) if i not in gone]
            order += list(range(1, len(tokens), 2))
            tokens, sizes = [tokens[i] for i in order], [sizes[i] for i in order]
        if isinstance(block, cct.Block):
            tokens = [block.mlp_norm(token) for token in tokens]
            tokens = [token + block.mlp(token) for token in tokens]
        else:
            tokens = [token + block.mlp(block.mlp_norm(token)) for token in tokens]
    copies = [token for token, size in zip(tokens, sizes, strict=True) for _ in range(size)]
    return net.head(net.readout(net.norm(torch.stack(copies)[None])))[0]


NETS = [("vit", "cls"), ("vit", "mean"), ("vit", "sum"), ("cct", "sequence_pool"), ("cct", "mean")]


@pytest.mark.parametrize(
    ("name", "readout", "r"), [*((*net, WIDE) for net in NETS), ("vit", "mean", 4)]
)
def test_logits_and_gradients_equal_a_loop_with_copies(
    name: str, readout: str, r: int | list[int]
) -> None:
    method = ToMe(small_net(name, readout=readout).double(), r)
    images = images_of(2, dtype=torch.float64).requires_grad_()
    logits = method(images)
    twins = torch.stack([literal_logits(method.net, image, method.r) for image in images])
    torch.testing.assert_close(logits, twins, atol=1e-9, rtol=0)
    found, expected = (torch.autograd.grad(each.sin().sum(), images)[0] for each in (logits, twins))
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("num_tokens", [9, 10])
@pytest.mark.parametrize("has_cls", [True, False])
def test_matching_and_merging_equal_a_loop(num_tokens: int, has_cls: bool) -> None:
    draws = torch.Generator().manual_seed(2)
    keys = torch.randn(4, num_tokens, 3, generator=draws, dtype=torch.float64)
    values = torch.randn(4, num_tokens, 2, generator=draws, dtype=torch.float64)
    for num_leave in range((num_tokens - has_cls) // 2 + 1):
        matching = match(keys, num_leave, has_cls)
        merged = merge(values, matching)
        for image in range(4):
            sums = {place: values[image, place] for place in range(num_tokens)}
            for i, j in literal_pairs(keys[image], num_leave, has_cls):
                sums[j] = sums[j] + sums.pop(i)
            # the second set comes last
            expected = torch.stack([sums[i] for i in sorted(sums, key=lambda i: (i % 2, i))])
            torch.testing.assert_close(merged[image], expected)


@pytest.mark.parametrize(("name", "readout"), NETS)
def test_r_0_is_the_net_bit_for_bit(name: str, readout: str) -> None:
    net = small_net(name, readout=readout, dropout=0.1, drop_path_rate=0.3)
    images = images_of(3)
    for mode in (True, False):
        torch.manual_seed(3)
        expected = net.train(mode)(images)
        torch.manual_seed(3)
        assert torch.equal(ToMe(net, 0)(images), expected)


@pytest.mark.parametrize(("name", "readout"), NETS)
@pytest.mark.parametrize("r", [1, 100])
def test_merging_equal_tokens_changes_nothing(name: str, readout: str, r: int) -> None:
    net = small_net(name, readout=readout).double()
    nn.init.zeros_(net.position_embedding)
    if name == "cct":  # whose tokeniser sees the border
        tokens = net.begin(images_of(3, dtype=torch.float64))[:, :1].expand(-1, 16, -1)
        net.begin = lambda images: tokens
    images = images_of(3, dtype=torch.float64)[:, :, :4, :4].repeat(1, 1, 4, 4)
    torch.testing.assert_close(ToMe(net, r)(images), net(images), atol=1e-10, rtol=0)


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_readouts_of_all_patches_see_each_of_them_once(readout: str) -> None:
    net = small_net(readout=readout).double()
    net.norm = nn.Identity()
    for block in net.blocks:  # which then add nothing: only merging is left
        for linear in (block.attention.out, block.mlp[3]):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
    images = images_of(3, dtype=torch.float64)
    torch.testing.assert_close(ToMe(net, 5)(images), net(images), atol=1e-10, rtol=0)


def test_groups_say_where_the_patches_went() -> None:
    found = ToMe(small_net(), WIDE).groups(images_of(3))
    assert found.shape == (3, 3, 16)
    for image in found:
        together = torch.zeros(16, 16, dtype=torch.bool)
        for groups, num_patches in zip(image, (13, 13, 9), strict=True):
            # every patch is somewhere, no token is without patches, and none is [CLS]
            assert sorted(groups.unique().tolist()) == list(range(1, 1 + num_patches))
            now = groups[:, None] == groups[None]
            assert (now | ~together).all()  # what is merged stays so
            together = now


def test_at_most_half_of_the_tokens_are_merged() -> None:
    for name in ("vit", "cct"):
        groups = ToMe(small_net(name), 100).groups(images_of(1))
        assert [len(each.unique()) for each in groups[0]] == [8, 4, 2]


def test_macs_are_those_of_the_tokens_that_are_left() -> None:
    dim, mlp_dim, dim_head = 24, 40, 6
    macs = 16 * dim * 3 * 4**2 + 5 * dim  # embedding and head
    for before, after in ((17, 14), (14, 14), (14, 10)):
        macs += 4 * before * dim**2 + 2 * before**2 * dim + 2 * after * dim * mlp_dim
        if after < before:
            first, second = before - before // 2, before // 2
            macs += first * second * dim_head + (before - after) * second * (dim + 1)
    assert cost(ToMe(small_net(), WIDE), 16).macs == macs


def test_bfloat16_autocast_tells_alike_tokens_apart() -> None:
    keys = torch.ones(1, 7, 2)
    keys[0, :, 1] = torch.tensor([0, 0.05, 0.03, 0.07, 0.01, 0.021, 0.08])
    with torch.autocast("cpu", torch.bfloat16):
        matching = match(keys, 2, has_cls=False)
        merged = merge(keys, matching)
    assert matching.leave.tolist() == [[2, 6]]
    assert matching.joins.tolist() == [[[0, 0], [0, 1], [1, 0]]]
    assert torch.equal(merged, merge(keys, matching))
    method, images = ToMe(small_net(), 4), images_of(3)
    with torch.autocast("cpu", torch.bfloat16):
        logits = method.train()(images)
    logits.float().sum().backward()
    assert torch.isfinite(logits).all() and torch.isfinite(method.net.cls_token.grad).all()


def test_attention_kernels_agree_and_are_recorded() -> None:
    images, logits = images_of(3, dtype=torch.float64), []
    for kernel in ("sdpa", "math"):
        method = ToMe(small_net(attention=kernel).double(), 4)
        logits.append(method(images))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-10)
    with record_attention() as records:
        method(images)
    assert [weights.shape for weights in records] == [(3, 4, n, n) for n in (17, 13, 9)]
    for weights in records:
        torch.testing.assert_close(weights.sum(dim=3), torch.ones_like(weights[..., 0]))


@pytest.mark.parametrize(
    ("net", "r", "line"),
    [
        (nets.linformer_vit(), 1, "does not fit LinformerViT, .* it fits model=vit, "),
        (nets.vit_conv(), 1, "does not fit ViTConv, .* it fits model=vit, "),
        (nn.Linear(2, 2), 1, "does not fit Linear, .* it fits model=vit, vit_b_16 and cct"),
        (ToMe(small_net(), 1), 1, "does not fit ToMe, .* it fits model=vit, vit_b_16 and cct"),
        (small_net(readout="weighted"), 1, "readout=weighted, .* take cls, mean or sum"),
        (small_net(readout="token:3"), 1, "readout=token, .* take cls, mean or sum"),
        (small_net("cct", readout="token:0"), 1, "readout=token, .* take sequence_pool, mean"),
        (small_net(), [1, 2], r"lightweight.r=\[1, 2\]: .* a list of 3, one for each block"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_mend(
    net: nn.Module, r: int | list[int], line: str
) -> None:
    assert re.search(line, refused(ToMe, net, r))


def test_it_reads_cls_by_its_place_too() -> None:
    images = images_of(3, dtype=torch.float64)
    by_name, by_place = (ToMe(small_net(readout=each).double(), 4) for each in ("cls", "token:0"))
    assert torch.equal(by_name(images), by_place(images))
