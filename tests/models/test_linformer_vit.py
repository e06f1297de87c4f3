"""LinformerViT against torchvision's ViT and a loop, its linear cost, and its error lines."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vision_transformer import VisionTransformer

from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.models.attention import record_attention
from leanvit.models.linformer_vit import Attention, LinformerViT


def small_linformer(**changes: object) -> LinformerViT:
    sizes = {"image_size": 16, "patch_size": 4, "num_classes": 5, "dim": 24, "depth": 3, "heads": 4}
    return LinformerViT(**{**sizes, "mlp_dim": 40, "num_projected": 6, **changes})


def small_attention(share_kv: bool) -> Attention:
    """Seven tokens projected to three, with weights away from their start, in float64."""
    attention = Attention(12, 7, 3, share_kv, heads=2, dropout=0.0, attention="sdpa")
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention.double()


def torchvision_twin(net: LinformerViT) -> VisionTransformer:
    """torchvision's ViT of the same size with all weights of ``net`` but its projections."""
    twin = VisionTransformer(
        image_size=16,
        patch_size=4,
        num_layers=len(net.blocks),
        num_heads=4,
        hidden_dim=24,
        mlp_dim=40,
        num_classes=5,
        # Ours takes PyTorch's epsilon, torchvision's its own.
        norm_layer=torch.nn.LayerNorm,
    )
    state = net.state_dict()
    renamed = {
        "class_token": state["cls_token"],
        "conv_proj.weight": state["patch_embedding.weight"],
        "conv_proj.bias": state["patch_embedding.bias"],
        "encoder.pos_embedding": state["position_embedding"],
        "encoder.ln.weight": state["norm.weight"],
        "encoder.ln.bias": state["norm.bias"],
        "heads.head.weight": state["head.weight"],
        "heads.head.bias": state["head.bias"],
    }
    for index in range(len(net.blocks)):
        ours, theirs = f"blocks.{index}", f"encoder.layers.encoder_layer_{index}"
        renamed[f"{theirs}.self_attention.in_proj_weight"] = state[f"{ours}.attention.qkv.weight"]
        renamed[f"{theirs}.self_attention.in_proj_bias"] = torch.zeros(3 * 24)
        for our_name, their_name in (
            ("attention_norm", "ln_1"),
            ("attention.out", "self_attention.out_proj"),
            ("mlp_norm", "ln_2"),
            ("mlp.0", "mlp.0"),
            ("mlp.3", "mlp.3"),
        ):
            for kind in ("weight", "bias"):
                renamed[f"{theirs}.{their_name}.{kind}"] = state[f"{ours}.{our_name}.{kind}"]
    twin.load_state_dict(renamed)
    return twin


@torch.no_grad()
@pytest.mark.parametrize("share_kv", [False, True])
def test_logits_equal_torchvisions_where_nothing_is_projected(share_kv: bool) -> None:
    torch.manual_seed(0)
    net = small_linformer(num_projected=17, share_kv=share_kv)
    for parameter in net.parameters():  # biases and norms away from zero and one
        nn.init.normal_(parameter, std=0.3)
    for block in net.blocks:
        nn.init.eye_(block.attention.key_projection.weight)
        nn.init.eye_(block.attention.value_projection.weight)
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    twin = torchvision_twin(net).double().eval()
    torch.testing.assert_close(net.double().eval()(images), twin(images), rtol=0, atol=1e-6)


def literal_attention(attention: Attention, tokens: Tensor) -> Tensor:
    """One image, head, query and projected key at a time."""
    mix_keys = attention.key_projection.weight
    mix_values = attention.value_projection.weight
    num_projected, num_tokens = mix_keys.shape
    query, key, value = attention.qkv(tokens).chunk(3, dim=-1)
    dim_head = tokens.shape[1] // attention.heads
    attended = torch.zeros_like(query)
    for head in range(attention.heads):
        channels = slice(head * dim_head, (head + 1) * dim_head)
        keys = torch.zeros(num_projected, dim_head, dtype=tokens.dtype)
        values = torch.zeros(num_projected, dim_head, dtype=tokens.dtype)
        for j in range(num_projected):
            for i in range(num_tokens):
                keys[j] += mix_keys[j, i] * key[i, channels]
                values[j] += mix_values[j, i] * value[i, channels]
        for i in range(num_tokens):
            scores = torch.stack([query[i, channels] @ each / math.sqrt(dim_head) for each in keys])
            for weight, each in zip(scores.softmax(dim=0), values, strict=True):
                attended[i, channels] += weight * each
    return attention.out(attended)


@torch.no_grad()
@pytest.mark.parametrize("share_kv", [False, True])
def test_attention_equals_the_loops(share_kv: bool) -> None:
    torch.manual_seed(0)
    attention = small_attention(share_kv)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    literal = torch.stack([literal_attention(attention, image) for image in tokens])
    torch.testing.assert_close(attention(tokens), literal, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("share_kv", [False, True])
def test_over_tokens_weighs_the_values_of_the_tokens_themselves(share_kv: bool) -> None:
    torch.manual_seed(0)
    attention = small_attention(share_kv)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    with record_attention() as recorded:
        attended = attention(tokens)
    assert recorded[0].shape == (2, 2, 7, 3)
    weights = attention.over_tokens(recorded[0])
    assert weights.shape == (2, 2, 7, 7)
    values = attention.qkv(tokens)[..., 24:].unflatten(-1, (2, 6)).transpose(1, 2)
    summed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.out(summed), attended, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("readout", ["cls", "mean", "sum", "weighted", "token:3"])
def test_forward_is_the_token_contract(readout: str) -> None:
    torch.manual_seed(0)
    net = small_linformer(readout=readout).eval()
    images = torch.randn(2, 3, 16, 16)
    tokens = net.begin(images)
    assert tokens.shape == (2, 1 + 16, 24)
    for block in net.blocks:
        tokens = block(tokens)
    vectors = net.readout(net.norm(tokens))
    assert vectors.shape == (2, 24)
    torch.testing.assert_close(net(images), net.head(vectors))


@pytest.mark.parametrize("share_kv", [False, True])
def test_every_parameter_gets_a_gradient_in_training(share_kv: bool) -> None:
    torch.manual_seed(0)
    net = small_linformer(share_kv=share_kv, dropout=0.1, emb_dropout=0.1, drop_path_rate=0.1)
    logits = net.train()(torch.randn(16, 3, 16, 16))
    assert logits.shape == (16, 5)
    nn.functional.cross_entropy(logits, torch.arange(16) % 5).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("regulariser", ["dropout", "emb_dropout", "drop_path_rate"])
def test_regularisation_is_random_in_training_only(regulariser: str) -> None:
    torch.manual_seed(0)
    net = small_linformer(**{regulariser: 0.5})
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))


def test_stochastic_depth_grows_linearly_over_the_blocks() -> None:
    net = small_linformer(drop_path_rate=0.2)
    assert [block.drop_path.p for block in net.blocks] == pytest.approx([0.0, 0.1, 0.2])


@torch.no_grad()
def test_projections_start_at_the_scale_of_the_tokens() -> None:
    torch.manual_seed(0)
    net = small_linformer(image_size=64, num_projected=64, depth=1)
    attention = net.blocks[0].attention
    for projection in (attention.key_projection, attention.value_projection):
        mixed = projection(torch.randn(24, 257))
        assert mixed.std() == pytest.approx(1.0, rel=0.1)


def test_kernels_agree() -> None:
    outcomes = []
    for kernel in ("sdpa", "math"):
        torch.manual_seed(0)
        net = small_linformer(attention=kernel)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
        net = net.double().train()
        logits = net(torch.randn(6, 3, 16, 16, dtype=torch.float64))
        logits.square().sum().backward()
        outcomes.append((logits, [parameter.grad for parameter in net.parameters()]))
    torch.testing.assert_close(*outcomes, rtol=1e-10, atol=1e-10)


def test_bfloat16_autocast_stays_close() -> None:
    torch.manual_seed(0)
    net = small_linformer().eval()
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), record_attention() as recorded:
        logits = net(images)
        assert net.blocks[0].attention.over_tokens(recorded[0]).shape == (4, 4, 17, 17)
    torch.testing.assert_close(logits.float(), net(images), rtol=0, atol=0.02)


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("image_size", [16, 32])
def test_cost_is_the_closed_form(image_size: int, share_kv: bool) -> None:
    dim, mlp_dim, depth, classes, patch, projected = 24, 40, 3, 5, 4, 6
    tokens = 1 + (image_size // patch) ** 2
    costs = cost(small_linformer(image_size=image_size, share_kv=share_kv), image_size)
    patch_macs = (tokens - 1) * 3 * patch**2 * dim
    linear_macs = tokens * (4 * dim**2 + 2 * dim * mlp_dim)
    projection_macs = attention_macs = 2 * tokens * projected * dim
    block_macs = linear_macs + projection_macs + attention_macs
    assert costs.macs == patch_macs + depth * block_macs + dim * classes
    block_params = 4 * dim**2 + dim + 2 * dim * mlp_dim + mlp_dim + dim + 4 * dim
    block_params += (1 if share_kv else 2) * projected * tokens
    embedding_params = 3 * patch**2 * dim + dim + dim + tokens * dim
    head_params = dim * classes + classes
    assert costs.params == embedding_params + depth * block_params + 2 * dim + head_params


def test_twice_the_tokens_cost_twice() -> None:
    macs = []
    for num_tokens in (50, 100, 200):
        with torch.device("meta"):
            attention = Attention(24, num_tokens, 8, False, heads=4, dropout=0.0, attention="sdpa")
            tokens = torch.empty(1, num_tokens, 24)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            attention(tokens)
        macs.append(counter.get_total_flops() // 2)
    assert macs == [macs[0], 2 * macs[0], 4 * macs[0]]


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"image_size": 28, "patch_size": 8}, "take a patch_size from 1, 2, 4, 7, 14, 28."),
        ({"dim": 30, "heads": 4}, "or a dim such as 32."),
        ({"num_projected": 18}, "take 1 to 17"),
        ({"readout": "token:17"}, "give 0 to 16"),
    ],
)
def test_wrong_choices_are_one_line_that_names_the_mend(
    changes: dict[str, object], mend: str
) -> None:
    with pytest.raises(LeanvitError) as error:
        small_linformer(**changes)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)
