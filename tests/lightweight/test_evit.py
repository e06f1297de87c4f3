"""EViT against a loop over tokens; limit cases, what is kept, cost, and refusals."""

import math
import re

import pytest
import torch
from image_trees import refused
from nets import cct, images_of, linformer_vit, scattered, vit, vit_conv
from torch import Tensor, nn

from leanvit.evaluation.cost.cost import cost
from leanvit.lightweight.evit import EViT, cls_attention, reorganise
from leanvit.models.attention import record_attention
from leanvit.models.vit import ViT


def small_vit(**changes: object) -> ViT:
    """Weights away from their start, 16 patches, evaluation."""
    return scattered(vit(**changes)).eval()


def literal_weights(attention: nn.Module, normed: Tensor) -> Tensor:
    """(heads, tokens, tokens): what each token attends to, by a loop."""
    dim_head = normed.shape[1] // attention.heads
    projected = [attention.qkv(token).view(3, attention.heads, dim_head) for token in normed]
    return torch.stack(
        [
            torch.stack(
                [
                    torch.stack([query[head] @ key[head] for _, key, _ in projected])
                    .div(dim_head**0.5)
                    .softmax(dim=0)
                    for query, _, _ in projected
                ]
            )
            for head in range(attention.heads)
        ]
    )


def literal_logits(net: ViT, image: Tensor, keep_rate: float, chosen: list[int]) -> tuple:
    """Logits of one image, and the patches kept in each chosen block."""
    tokens, stages = net.begin(image[None])[0], []
    names = ["cls", *range(len(tokens) - 1)]
    for index, block in enumerate(net.blocks):
        normed = block.attention_norm(tokens)
        tokens = tokens + block.attention(normed[None])[0]
        if index in chosen:
            weights = literal_weights(block.attention, normed)[:, 0].mean(dim=0)
            ranked = sorted(range(1, len(tokens)), key=lambda i: -weights[i].item())
            num_kept = math.ceil(keep_rate * (len(tokens) - 1))
            fused = sum(weights[i] * tokens[i] for i in ranked[num_kept:])
            tokens = torch.stack([tokens[0], *(tokens[i] for i in ranked[:num_kept]), fused])
            names = ["cls", *(names[i] for i in ranked[:num_kept]), "fused"]
            stages.append({name for name in names if name not in ("cls", "fused")})
        tokens = tokens + block.mlp(block.mlp_norm(tokens))
    return net.head(net.norm(tokens[0])), stages


@pytest.mark.parametrize(("keep_rate", "chosen"), [(0.7, None), (0.4, [0, 2])])
def test_logits_gradients_and_kept_patches_equal_a_loop(
    keep_rate: float, chosen: list[int] | None
) -> None:
    method = EViT(small_vit().double(), keep_rate, chosen).eval()
    images = images_of(2, dtype=torch.float64).requires_grad_()
    logits = method(images)
    twins = [literal_logits(method.net, image, keep_rate, method.chosen) for image in images]
    expected = torch.stack([twin for twin, _ in twins])
    torch.testing.assert_close(logits, expected, atol=1e-9, rtol=0)
    gradients = (torch.autograd.grad(each.sin().sum(), images)[0] for each in (logits, expected))
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)
    assert method.kept.shape == (2, len(method.chosen), 16)
    for kept, (_, stages) in zip(method.kept, twins, strict=True):
        assert [set(stage.nonzero()[:, 0].tolist()) for stage in kept] == stages


def test_attention_of_cls_is_a_row_of_all_of_it() -> None:
    net, images = small_vit().double(), images_of(3, dtype=torch.float64)
    attention, tokens = net.blocks[0].attention, net.begin(images)
    with record_attention() as records:
        attention(tokens)
    query, key, _ = attention.qkv(tokens).view(3, 17, 3, 4, 6).permute(2, 0, 3, 1, 4)
    expected = records[0].mean(dim=1)[:, 0, 1:]
    torch.testing.assert_close(cls_attention(query, key), expected, atol=1e-12, rtol=0)


def test_the_most_attentive_stay_and_the_others_are_summed_by_attention() -> None:
    tokens = torch.tensor([[1.0, 10.0, 20.0, 30.0, 40.0]])[:, :, None]
    attention = torch.tensor([[0.1, 0.3, 0.2, 0.25]])
    found, kept = reorganise(tokens, attention, 2)
    assert kept.tolist() == [[1, 3]]
    torch.testing.assert_close(found[0, :, 0], torch.tensor([1.0, 20.0, 40.0, 1.0 + 6.0]))


def test_keeping_all_is_the_net_bit_for_bit() -> None:
    net = small_vit(dropout=0.1, drop_path_rate=0.3)
    images = images_of(3)
    for mode in (True, False):
        torch.manual_seed(3)
        expected = net.train(mode)(images)
        torch.manual_seed(3)
        method = EViT(net, keep_rate=1.0).train(mode)
        assert torch.equal(method(images), expected)
    assert method.kept.shape == (3, 3, 16) and method.kept.all()


def test_patches_that_nothing_tells_apart_are_fused_to_their_share() -> None:
    # equal keys: all get the same attention, and what is fused is the token times that share
    net = small_vit(depth=1).double()
    nn.init.zeros_(net.position_embedding)
    for linear in (net.blocks[0].attention.out, net.blocks[0].mlp[3]):  # blocks add nothing
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    nn.init.zeros_(net.blocks[0].attention.qkv.weight)
    seen = []
    net.readout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = images_of(1, dtype=torch.float64)[:, :, :4, :4].repeat(1, 1, 4, 4)
    EViT(net, 0.5)(images)
    patch = net.begin(images)[0, 1]
    assert seen[0].shape[1] == 1 + 8 + 1
    torch.testing.assert_close(seen[0][0, 8], patch)
    torch.testing.assert_close(seen[0][0, 9], 8 * patch / 17)


def test_blocks_are_spread_over_the_depth() -> None:
    assert EViT(small_vit(depth=12)).chosen == [3, 6, 9]  # the paper's
    assert EViT(small_vit(depth=7)).chosen == [1, 3, 5]
    assert EViT(small_vit(depth=1)).chosen == [0]
    assert EViT(small_vit(), blocks=[3, 0]).chosen == [0, 3]


def test_macs_are_those_of_the_tokens_that_are_left() -> None:
    dim, mlp_dim = 24, 40
    macs = 16 * dim * 3 * 4**2 + 5 * dim  # embedding and head
    # of 16 keep 12, and one fused; of 13 keep 10; of 11 keep 8
    for before, after in ((17, 17), (17, 14), (14, 12), (12, 10)):
        macs += 4 * before * dim**2 + 2 * before**2 * dim + 2 * after * dim * mlp_dim
        macs += before * dim * (after < before)  # the attention of [CLS]
    assert cost(EViT(small_vit()), 16).macs == macs


def test_bfloat16_autocast_works() -> None:
    method, images = EViT(small_vit(), 0.5), images_of(3)
    for mode in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = method.train(mode)(images)
        logits.float().sum().backward()
        assert torch.isfinite(logits).all() and torch.isfinite(method.net.cls_token.grad).all()


def test_attention_kernels_agree_and_are_recorded() -> None:
    images, logits = images_of(3, dtype=torch.float64), []
    for kernel in ("sdpa", "math"):
        method = EViT(small_vit(attention=kernel).double())
        logits.append(method(images))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-10)
    with record_attention() as records:
        method(images)
    assert [weights.shape for weights in records] == [(3, 4, n, n) for n in (17, 17, 14, 12)]


@pytest.mark.parametrize(
    ("net", "options", "line"),
    [
        (linformer_vit(), {}, "does not fit LinformerViT, .* fits model=vit and vit_b_16"),
        (vit_conv(), {}, "does not fit ViTConv, .* fits model=vit and"),
        (cct(), {}, r"does not fit CCT, which has no \[CLS\] .* fits model=vit"),
        (EViT(small_vit()), {}, "does not fit EViT, .* it fits model=vit and vit_b_16"),
        (small_vit(readout="mean"), {}, "readout=mean, which reads other tokens .* take cls"),
        (small_vit(readout="weighted"), {}, "readout=weighted, .* take cls"),
        (small_vit(readout="token:3"), {}, "readout=token, .* take cls"),
        (small_vit(), {"blocks": [1, 4]}, r"lightweight.blocks=\[1, 4\]: .* some from 0 to 3"),
        (small_vit(), {"blocks": []}, r"lightweight.blocks=\[\]: .* choose some from 0 to 3"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_mend(
    net: nn.Module, options: dict, line: str
) -> None:
    assert re.search(line, refused(EViT, net, **options))
