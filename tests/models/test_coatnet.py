"""CoAtNet: its relative attention against a double loop, its MBConv against torchvision's."""

import math

import pytest
import torch
from nets import coatnet, images_of, scattered
from torch import Tensor, nn
from torchvision.models.maxvit import MBConv as TorchvisionMBConv

from leanvit.models.coatnet import MBConv, RelativeAttention
from leanvit.models.relative_position import relative_position_index


def literal_relative_attention(attention: RelativeAttention, tokens: Tensor, size: int) -> Tensor:
    """The attention of one image, one head, one query and one key at a time."""
    heads, num_tokens = attention.heads, size * size
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    dim_head = query.shape[-1] // heads
    attended = torch.empty_like(query)
    for head in range(heads):
        channels = slice(head * dim_head, (head + 1) * dim_head)
        for i in range(num_tokens):
            scores = torch.empty(num_tokens, dtype=tokens.dtype)
            for j in range(num_tokens):
                rows, columns = i // size - j // size, i % size - j % size
                row = (rows + size - 1) * (2 * size - 1) + columns + size - 1
                product = query[i, channels] @ key[j, channels] / math.sqrt(dim_head)
                scores[j] = product + attention.relative_position_table[row, head]
            attended[i, channels] = scores.softmax(dim=0) @ value[:, channels]
    return attention.out(attended)


@torch.no_grad()
def test_relative_attention_equals_the_double_loop() -> None:
    torch.manual_seed(0)
    attention = RelativeAttention(
        dim=12, map_size=3, heads=2, dim_head=4, dropout=0.0, attention="sdpa"
    ).double()
    nn.init.normal_(attention.relative_position_table)
    tokens = torch.randn(2, 9, 12, dtype=torch.float64)
    literal = torch.stack([literal_relative_attention(attention, image, 3) for image in tokens])
    torch.testing.assert_close(attention(tokens), literal, rtol=0, atol=1e-12)


def test_relative_position_index_of_a_map_that_is_not_square() -> None:
    height, width = 2, 3
    index = relative_position_index(height, width)
    for i in range(height * width):
        for j in range(height * width):
            rows, columns = i // width - j // width, i % width - j % width
            assert index[i, j] == (rows + height - 1) * (2 * width - 1) + columns + width - 1


def test_position_gradient_is_the_same_bit_for_bit_with_several_threads() -> None:
    torch.manual_seed(0)
    attention = RelativeAttention(
        dim=8, map_size=14, heads=4, dim_head=2, dropout=0.0, attention="sdpa"
    )
    nn.init.normal_(attention.relative_position_table)
    # Heads innermost in memory: the layout in which atomic adds do lose the order here.
    upstream = torch.randn(196, 196, 4).permute(2, 0, 1)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        gradients = []
        for _ in range(5):
            attention.zero_grad()
            attention.position_bias().backward(upstream)
            gradients.append(attention.relative_position_table.grad.clone())
    finally:
        torch.set_num_threads(num_threads)
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients[1:])


def torchvision_twin(block: MBConv, in_dim: int, out_dim: int, stride: int) -> nn.Module:
    """torchvision's MBConv with the weights of ``block``, for evaluation.

    Its hidden widths follow the output's, its last convolution has a bias where ours has BatchNorm,
    and its shortcut is a projection where ours is none: ratios, folding and zeros bridge these.
    """
    twin = TorchvisionMBConv(
        in_dim,
        out_dim,
        expansion_ratio=4 * in_dim / out_dim,
        squeeze_ratio=in_dim / out_dim,
        stride=stride,
        activation_layer=nn.SiLU,
        norm_layer=nn.BatchNorm2d,
    )
    ours = block.layers
    theirs = twin.layers
    for source, target in (
        (ours[0], theirs.pre_norm),
        (ours[1], theirs.conv_a[0]),
        (ours[2], theirs.conv_a[1]),
        (ours[4], theirs.conv_b[0]),
        (ours[5], theirs.conv_b[1]),
        (ours[7], theirs.squeeze_excitation),
    ):
        target.load_state_dict(source.state_dict())
    norm = ours[9]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    theirs.conv_c.weight.copy_(ours[8].weight * scale[:, None, None, None])
    theirs.conv_c.bias.copy_(norm.bias - norm.running_mean * scale)
    for parameter in twin.proj.parameters():
        parameter.zero_()
    return twin


@torch.no_grad()
@pytest.mark.parametrize(("out_dim", "stride"), [(8, 1), (16, 2), (16, 1)])
def test_mbconv_equals_torchvisions(out_dim: int, stride: int) -> None:
    block = scattered(MBConv(8, out_dim, stride, 4, 3, se_ratio=0.25, drop_path_rate=0.0))
    twin = torchvision_twin(block, 8, out_dim, stride).double().eval()
    features = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(block.double().eval()(features), twin(features))


@torch.no_grad()
def test_channels_last_changes_no_logit() -> None:
    torch.manual_seed(0)
    net, images = coatnet().eval(), images_of(2)
    expected = net(images)
    logits = net.to(memory_format=torch.channels_last)(
        images.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("num_mbconv", [0, 1, 3])
def test_other_mixes_of_stages_work(num_mbconv: int) -> None:
    net = coatnet(
        block_types=["mbconv"] * num_mbconv + ["transformer"] * (3 - num_mbconv),
        mbconv_expand_ratios=[2] * num_mbconv,
        mbconv_kernel_sizes=[5] * num_mbconv,
    )
    assert net(images_of(2)).shape == (2, 5)


@torch.no_grad()
def test_a_shifted_map_moves_no_bias() -> None:
    """The bias knows offsets only: all pairs of neighbours in a row share one value a head."""
    attention = RelativeAttention(
        dim=8, map_size=4, heads=3, dim_head=4, dropout=0.0, attention="sdpa"
    )
    nn.init.normal_(attention.relative_position_table)
    bias = attention.position_bias().reshape(3, 4, 4, 4, 4)
    neighbours = torch.stack([bias[:, r, c, r, c + 1] for r in range(4) for c in range(3)])
    backwards = torch.stack([bias[:, r, c + 1, r, c] for r in range(4) for c in range(3)])
    assert torch.equal(neighbours, neighbours[:1].expand_as(neighbours))
    assert not torch.equal(neighbours, backwards)
