"""Fine-tuning: torchvision's weights in our nets, what is frozen, and where a file is missing."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.models import ViT_B_16_Weights, vit_b_16
from torchvision.models.vision_transformer import VisionTransformer

from leanvit.errors import LeanvitError
from leanvit.evaluation.cost.cost import cost
from leanvit.models.pretrained import find_weights, freeze, load_weights
from leanvit.models.vit import ViT
from leanvit.models.vit_b_16 import ViTB16, from_torchvision

ENTRY = ViT_B_16_Weights.IMAGENET1K_V1


def small_vit(num_classes: int = 5, **changes: object) -> ViT:
    sizes = {"dim": 24, "depth": 4, "heads": 4, "mlp_dim": 40, "qkv_bias": True}
    return ViT(16, 4, num_classes, **{**sizes, **changes})


def torchvision_file(path: Path, **changes: int) -> VisionTransformer:
    """torchvision's net of the same size with random weights, which are also saved."""
    sizes = {"num_layers": 4, "num_heads": 4, "hidden_dim": 24, "mlp_dim": 40, "num_classes": 5}
    net = VisionTransformer(16, 4, **{**sizes, **changes}, norm_layer=torch.nn.LayerNorm)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(net.state_dict(), path)
    return net.eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[VisionTransformer, Path]:
    """ViT-B/16 as torchvision builds it, in the file that a download would leave."""
    torch.manual_seed(0)
    net = vit_b_16().eval()
    torch.nn.init.normal_(net.heads.head.weight, std=0.1)
    path = tmp_path_factory.mktemp("hub") / "checkpoints" / Path(ENTRY.url).name
    path.parent.mkdir()
    torch.save(net.state_dict(), path)
    return net, path


@torch.no_grad()
def test_vit_b_16_equals_torchvisions(published: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, path = published
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(path.parents[1]))
    net = ViTB16(32, 1000).double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    enlarged = interpolate(images, (224, 224), mode="bilinear", antialias=True)
    torch.testing.assert_close(net(images), twin.double()(enlarged), rtol=0, atol=1e-6)


@torch.no_grad()
def test_another_size_and_other_classes(published: tuple) -> None:
    _, path = published
    net = ViTB16(32, 10, weights=str(path), input_size=64, finetune="last_2")
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert net.position_embedding.shape == (1, 1 + 16, 768)
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"cls_token", "position_embedding", "patch_embedding", "blocks"}
    trained = [i for i, block in enumerate(net.blocks) if next(block.parameters()).requires_grad]
    assert trained == [10, 11]


def test_vit_b_16_costs_what_the_closed_form_says() -> None:
    with torch.device("meta"):
        counted = cost(ViTB16(32, 1000, weights=None), 32)
    assert counted.params == 86_567_656  # torchvision's num_params
    tokens, dim = 197, 768
    block = 12 * tokens * dim**2 + 2 * tokens**2 * dim
    assert counted.macs == 196 * 768 * dim + 12 * block + dim * 1000


@torch.no_grad()
def test_a_file_of_the_same_classes_brings_its_head(tmp_path: Path) -> None:
    twin = torchvision_file(tmp_path / "vit.pth").double()
    net = small_vit(readout="weighted").double().eval()
    load_weights(net, tmp_path / "vit.pth", from_torchvision)
    net.readout.token_weights.zero_()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(net(images), twin(images), rtol=0, atol=1e-6)


def test_a_head_of_other_classes_stays_as_drawn(tmp_path: Path) -> None:
    torchvision_file(tmp_path / "vit.pth")
    net = small_vit(num_classes=3)
    drawn = net.head.weight.clone()
    load_weights(net, tmp_path / "vit.pth", from_torchvision)
    assert torch.equal(net.head.weight, drawn)
    assert net.cls_token.std() > 0.1


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_of_another_net_are_refused_before_any_work(tmp_path: Path, device: str) -> None:
    torchvision_file(tmp_path / "vit.pth", hidden_dim=16)
    with torch.device(device):
        net = small_vit()
    with pytest.raises(LeanvitError, match=r"another net: cls_token is .*; .*and .* more") as error:
        load_weights(net, tmp_path / "vit.pth", from_torchvision)
    assert "vit.pth" in str(error.value) and "\n" not in str(error.value)
    torchvision_file(tmp_path / "vit.pth", num_layers=3)
    with pytest.raises(LeanvitError, match=r"it lacks blocks\.3\.attention_norm\.weight"):
        load_weights(net, tmp_path / "vit.pth", from_torchvision)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    torchvision_file(tmp_path / "vit.pth")
    (tmp_path / "vit.pth").write_bytes((tmp_path / "vit.pth").read_bytes()[:2000])
    with pytest.raises(LeanvitError, match="damaged"):
        load_weights(small_vit(), tmp_path / "vit.pth", from_torchvision)


def test_no_network_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(LeanvitError) as error:
        find_weights("imagenet", ENTRY.url)
    for words in ("unreachable", str(tmp_path / "checkpoints"), "model.weights=null", ENTRY.url):
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(LeanvitError, match=r"none\.pth: there is no such file"):
        find_weights(str(tmp_path / "none.pth"), ENTRY.url)


@pytest.mark.parametrize(
    ("finetune", "parts"),
    [
        ("head", {"head"}),
        ("last_1", {"blocks.3", "norm", "head"}),
        ("last_4", {"blocks.0", "blocks.1", "blocks.2", "blocks.3", "norm", "head"}),
    ],
)
def test_only_the_chosen_part_is_trained(finetune: str, parts: set[str]) -> None:
    net = small_vit()
    freeze(net, finetune)
    net(torch.randn(2, 3, 16, 16)).sum().backward()
    moved = {name for name, p in net.named_parameters() if p.grad is not None}
    assert {".".join(n.split(".")[: 1 + n.startswith("blocks")]) for n in moved} == parts
    assert cost(net, 16).trainable_params == sum(
        p.numel() for p in net.parameters() if p.requires_grad
    )


@pytest.mark.parametrize("finetune", ["last_0", "last_5", "last_", "some", "last_-1"])
def test_a_part_that_is_not_there_is_named(finetune: str) -> None:
    with pytest.raises(LeanvitError, match=f"{finetune}: choose all, head, or last_1 to last_4"):
        freeze(small_vit(), finetune)
