"""Attention over all tokens, and its rollout, against literal loops and known cases."""

import pytest
import torch
import torch.nn.functional as F
from looks import images, pyramid, vit
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.evaluation.pictures.attention_maps import (
    attention_blocks,
    attention_maps,
    default_block,
    pooling_matrix,
    readers,
    received,
    rollout,
    rollout_maps,
    split_tokens,
)
from leanvit.models.attention import attend, record_attention
from leanvit.models.readout import Readout
from leanvit.models.vit import ViT


def random_weights(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(2).softmax(dim=-1)


class HalfAttention(nn.Module):
    """Each half of the rows of a 4x4 map attends to itself, the halves side by side as heads."""

    def forward(self, tokens: Tensor) -> Tensor:
        halves = tokens.unflatten(1, (2, 8))
        return attend(halves, halves, halves).flatten(1, 2)

    def over_tokens(self, weights: Tensor) -> Tensor:
        full = weights.new_zeros(len(weights), 1, 16, 16)
        full[:, 0, :8, :8], full[:, 0, 8:, 8:] = weights.unbind(dim=1)
        return full


class HalvesNet(nn.Module):
    """Two blocks of `HalfAttention` around an attention over all tokens, on patches of 2 pixels."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.first, self.last, self.fails = HalfAttention(), HalfAttention(), fails

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.first(F.avg_pool2d(images, 2).flatten(2).transpose(1, 2))
        if self.fails:
            raise RuntimeError("no memory")
        attend(tokens[:, None, :1], tokens[:, None], tokens[:, None])  # one query: no map
        whole = tokens[:, None]
        return self.last(attend(whole, whole, whole)[:, 0])


@pytest.mark.parametrize(
    ("tokens", "expected"), [(64, (0, 8)), (65, (1, 8)), (1, (0, 1)), (2, (1, 1)), (197, (1, 14))]
)
def test_tokens_are_a_map_after_cls(tokens, expected):
    assert split_tokens(tokens) == expected


def test_other_numbers_of_tokens_are_refused():
    with pytest.raises(LeanvitError, match="46 tokens are no square map"):
        split_tokens(46)


def test_blocks_come_in_order_over_all_tokens():
    given = images(3)
    first, middle, last = attention_blocks(HalvesNet(), given)
    tokens = F.avg_pool2d(given, 2).flatten(2).transpose(1, 2)
    for weights, low in ((first, 0), (first, 8)):
        part = tokens[:, low : low + 8]
        literal = (part @ part.transpose(1, 2) * 3**-0.5).softmax(dim=-1)
        torch.testing.assert_close(weights[:, 0, low : low + 8, low : low + 8], literal)
    assert not first[:, :, :8, 8:].any() and not last[:, :, 8:, :8].any()
    assert (middle > 0).all()
    for weights in (first, middle, last):
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 1, 16))


def test_nothing_stays_hooked_to_the_net():
    net = HalvesNet(fails=True)
    with pytest.raises(RuntimeError):
        attention_blocks(net, images(1))
    net.fails = False
    with record_attention() as records:
        net(images(1))
    assert records[0].shape == (1, 2, 8, 8)


def test_received_reads_the_row_of_cls():
    weights = random_weights(2, 3, 5, 5)
    maps = received(weights, slice(0, 1))
    torch.testing.assert_close(maps[1, 2, 1, 0], 5 * weights[1, 2, 0, 3])
    even = received(torch.full((1, 2, 5, 5), 0.2), slice(0, None))
    torch.testing.assert_close(even, torch.ones(1, 2, 2, 2))


def test_received_without_cls_is_the_mean_over_queries():
    weights = random_weights(2, 3, 4, 4)
    maps = received(weights, slice(0, None))
    torch.testing.assert_close(maps[1, 2, 1, 0], 4 * weights[1, 2, :, 2].mean())
    torch.testing.assert_close(received(-weights, slice(0, None)), maps)  # magnitudes


@pytest.mark.parametrize(
    ("sides", "block"), [([16, 16, 8, 8, 4, 4], 3), ([4, 4, 2], 1), ([8, 8, 8], 2), ([2], 0)]
)
def test_the_default_block_has_a_map_to_see_something_on(sides, block):
    assert default_block(sides) == block


def test_maps_of_one_block():
    net, given = vit(), images(3)
    maps, block, num_blocks = attention_maps(net, given, None)
    assert maps.shape == (3, 2, 4, 4) and (block, num_blocks) == (1, 2)
    torch.testing.assert_close(
        attention_maps(net, given, 0)[0], received(attention_blocks(net, given)[0], slice(0, 1))
    )
    with pytest.raises(LeanvitError, match=r"block=2: the net has 2 blocks.*0 to 1"):
        attention_maps(net, given, 2)
    for maps_of in (rollout_maps, lambda *given: attention_maps(*given, None)):
        with pytest.raises(LeanvitError, match="no attention"):
            maps_of(nn.Conv2d(3, 4, 1), given)


def literal_rollout(blocks: list[Tensor]) -> Tensor:
    """Abnar & Zuidema's recursion for one image, without a shrinking map."""
    rolled = None
    for weights in blocks:
        size = weights.shape[-1]
        mixed = torch.zeros(size, size, dtype=weights.dtype)
        for query in range(size):
            for key in range(size):
                mean = sum(head[query, key] for head in weights) / len(weights)
                mixed[query, key] = 0.5 * mean + 0.5 * (query == key)
            mixed[query] /= mixed[query].sum()
        rolled = mixed if rolled is None else mixed @ rolled
    return rolled


def test_rollout_equals_the_literal_recursion():
    blocks = [random_weights(2, 3, 5, 5) for _ in range(3)]
    blocks = [weights.roll(shift, 1) for shift, weights in enumerate(blocks)]
    rolled = rollout(blocks)
    for image in range(2):
        literal = literal_rollout([weights[image] for weights in blocks])
        torch.testing.assert_close(rolled[image], literal)


def test_rollout_of_identity_and_of_even_attention():
    identity = torch.eye(9)[None, None].expand(1, 2, 9, 9)
    torch.testing.assert_close(rollout([identity] * 4)[0], torch.eye(9))
    even = torch.full((1, 2, 9, 9), 1 / 9)
    kept = 0.5**4  # what went through the residuals alone
    torch.testing.assert_close(rollout([even] * 4)[0], kept * torch.eye(9) + (1 - kept) / 9)


def test_rollout_normalises_what_does_not_sum_to_one():
    weights = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    rolled = rollout([weights, 3 * weights])
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(1, 9))
    assert (rolled > 0).all()


@pytest.mark.parametrize(("later", "earlier"), [(4, 16), (4, 64), (1, 9), (5, 17)])
def test_pooling_averages_neighbours(later, earlier):
    matrix = pooling_matrix(later, earlier)
    prefix, side = split_tokens(earlier)
    tokens = torch.randn(earlier, generator=torch.Generator().manual_seed(0))
    pooled = F.adaptive_avg_pool2d(tokens[prefix:].view(1, side, side), split_tokens(later)[1])
    torch.testing.assert_close((matrix @ tokens)[prefix:], pooled.flatten())
    if prefix:
        assert matrix[0].tolist() == [1.0] + [0.0] * (earlier - 1)


def test_a_cls_token_that_comes_late_is_no_position():
    matrix = pooling_matrix(5, 16)
    assert not matrix[0].any()
    torch.testing.assert_close(matrix[1:], pooling_matrix(4, 16))


def test_rollout_through_a_shrinking_map():
    earlier, later = random_weights(1, 2, 16, 16).float(), random_weights(1, 2, 4, 4).float()
    rolled = rollout([earlier, later])
    literal = rollout([later])[0] @ pooling_matrix(4, 16) @ rollout([earlier])[0]
    torch.testing.assert_close(rolled[0], literal)
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(1, 4))
    even = [torch.full((1, 1, size, size), 1 / size) for size in (16, 4, 4)]
    torch.testing.assert_close(rollout(even).mean(dim=1), torch.full((1, 16), 1 / 16))


def test_rollout_maps_of_nets():
    given = images(2)
    net = vit()
    blocks = attention_blocks(net, given)
    torch.testing.assert_close(
        rollout_maps(net, given), 17 * rollout(blocks)[:, 0, 1:].view(2, 4, 4)
    )
    maps = rollout_maps(pyramid(), images(2, 32))
    assert maps.shape == (2, 8, 8)
    torch.testing.assert_close(maps.mean(dim=(1, 2)), torch.ones(2))


@pytest.mark.parametrize(
    ("readout", "rows"),
    [
        ("cls", [0]),
        ("token:0", [0]),
        ("token:3", [3]),
        ("mean", [1, 2, 3, 4]),
        ("sum", [1, 2, 3, 4]),
        ("weighted", [0, 1, 2, 3, 4]),
    ],
)
def test_the_attention_drawn_is_that_of_what_is_read(readout: str, rows: list[int]) -> None:
    net = ViT(8, 4, 3, dim=8, depth=1, heads=2, mlp_dim=8, readout=readout)
    assert list(range(5))[readers(net, 5)] == rows


def test_a_token_of_the_last_map_is_none_of_an_earlier_one() -> None:
    net = nn.Module()
    net.readout = Readout("token:2", 4, has_cls=False)
    assert readers(net, 4) == slice(2, 3)
    assert readers(net, 16) == slice(0, None)
    assert readers(nn.Module(), 5) == slice(0, 1)
    assert readers(nn.Module(), 4) == slice(0, None)
