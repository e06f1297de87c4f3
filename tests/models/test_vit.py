"""ViT against torchvision's, its token contract, and its error lines."""

import pytest
import torch
from torchvision.models.vision_transformer import VisionTransformer

from leanvit.errors import LeanvitError
from leanvit.models.vit import ViT


def small_vit(**changes: object) -> ViT:
    sizes = {"image_size": 16, "patch_size": 4, "num_classes": 5, "dim": 24, "depth": 3, "heads": 4}
    return ViT(**{**sizes, "mlp_dim": 40, **changes})


def torchvision_twin(net: ViT) -> VisionTransformer:
    """torchvision's ViT of the same size with the weights of ``net``."""
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


def test_logits_equal_torchvisions() -> None:
    torch.manual_seed(0)
    net = small_vit()
    for parameter in net.parameters():  # biases and norms away from zero and one
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64)
    twin = torchvision_twin(net).double().eval()
    torch.testing.assert_close(net.double().eval()(images), twin(images), rtol=0, atol=1e-6)


def test_forward_is_the_token_contract() -> None:
    torch.manual_seed(0)
    net = small_vit().eval()
    images = torch.randn(2, 3, 16, 16)
    tokens = net.begin(images)
    assert tokens.shape == (2, 1 + 16, 24)
    for block in net.blocks:
        tokens = block(tokens)
    vectors = net.readout(net.norm(tokens))
    assert vectors.shape == (2, 24)
    torch.testing.assert_close(net(images), net.head(vectors))


def test_patches_are_read_row_by_row() -> None:
    torch.manual_seed(0)
    net = small_vit().eval()
    images = torch.randn(1, 3, 16, 16)
    changed = images.clone()
    changed[:, :, 4:8, 8:12] += 1  # second row of patches, third column
    difference = (net.begin(images) - net.begin(changed)).abs().sum(dim=2)[0]
    assert difference.nonzero().flatten().tolist() == [1 + 1 * 4 + 2]


def test_every_parameter_gets_a_gradient_in_training() -> None:
    torch.manual_seed(0)
    net = small_vit(dropout=0.1, emb_dropout=0.1, drop_path_rate=0.1).train()
    logits = net(torch.randn(16, 3, 16, 16))
    assert logits.shape == (16, 5)
    torch.nn.functional.cross_entropy(logits, torch.arange(16) % 5).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_only_bare_parameters_say_position_or_token() -> None:
    net = small_vit()
    bare = [name for name, _ in net.named_parameters(recurse=False)]
    assert sorted(bare) == ["cls_token", "position_embedding"]


@pytest.mark.parametrize("regulariser", ["dropout", "emb_dropout", "drop_path_rate"])
def test_regularisation_is_random_in_training_only(regulariser: str) -> None:
    torch.manual_seed(0)
    net = small_vit(**{regulariser: 0.5})
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(net.train()(images), net(images))
    assert torch.equal(net.eval()(images), net(images))


def test_stochastic_depth_grows_linearly_over_the_blocks() -> None:
    net = small_vit(drop_path_rate=0.2)
    assert [block.drop_path.p for block in net.blocks] == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"image_size": 28, "patch_size": 8}, "take a patch_size from 1, 2, 4, 7, 14, 28."),
        ({"dim": 30, "heads": 4}, "or a dim such as 32."),
    ],
)
def test_wrong_sizes_are_one_line_that_names_the_mend(changes: dict[str, int], mend: str) -> None:
    with pytest.raises(LeanvitError) as error:
        small_vit(**changes)
    assert mend in str(error.value)
    assert "\n" not in str(error.value)
