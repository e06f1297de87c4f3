"""Nets of timm, against timm itself."""

from pathlib import Path

import pytest
import torch

from leanvit.errors import LeanvitError
from leanvit.models.timm import Timm

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto"])
def test_it_is_timms_net(name: str) -> None:
    torch.manual_seed(0)
    net = Timm(32, 5, name).eval()
    torch.manual_seed(0)
    size = {"img_size": 32} if "vit" in name else {}
    other = timm.create_model(name, num_classes=5, **size).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(images), other(images)) and net(images).shape == (2, 5)
    assert not hasattr(net, "statistics")


def test_weights_of_a_file_but_for_a_head_of_other_classes(tmp_path: Path) -> None:
    other = timm.create_model("resnet10t", num_classes=7)
    torch.save(other.state_dict(), tmp_path / "w.pth")
    net = Timm(32, 5, "resnet10t", str(tmp_path / "w.pth"))
    assert torch.equal(net.net.conv1[0].weight, other.conv1[0].weight)
    assert net.head.weight.shape == (5, 512)
    assert net.statistics == (other.pretrained_cfg["mean"], other.pretrained_cfg["std"])
    same = Timm(32, 7, "resnet10t", str(tmp_path / "w.pth"))
    assert torch.equal(same.head.weight, other.fc.weight)


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    (tmp_path / "damaged.pth").write_bytes(b"PK")
    for arguments, words in [
        ((32, 5, "resnet81"), r"model\.name=resnet81: .* near: resnet18"),
        ((32, 5, "vit_tiny_patch16_224.x"), "cannot be built for images of 32 pixels"),
        ((32, 5, "resnet10t", "none.pth"), "no such file"),
        ((32, 5, "resnet10t", str(tmp_path / "w.pth")), "weights of another net"),
        ((32, 5, "resnet10t", str(tmp_path / "damaged.pth")), "is damaged"),
    ]:
        with pytest.raises(LeanvitError, match=words) as error:
            Timm(*arguments)
        assert "\n" not in str(error.value)
