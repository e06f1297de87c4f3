"""Swin-T against torchvision's, through the file that a download would leave."""

from pathlib import Path

import torch
from torch.nn.functional import interpolate
from torchvision.models import swin_t

from leanvit.evaluation.cost.cost import cost
from leanvit.models.swin_t import SwinT


@torch.no_grad()
def test_swin_t_equals_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    twin = swin_t().eval()
    for name, parameter in twin.named_parameters():
        if "bias" in name:  # position tables too: away from their small beginnings
            torch.nn.init.normal_(parameter, std=0.3)
    torch.save(twin.state_dict(), tmp_path / "swin_t.pth")
    net = SwinT(32, 1000, weights=str(tmp_path / "swin_t.pth")).double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    enlarged = interpolate(images, (224, 224), mode="bilinear", antialias=True)
    torch.testing.assert_close(net(images), twin.double()(enlarged), rtol=0, atol=1e-6)


def test_swin_t_has_the_published_size_and_freezes_all_but_its_last_blocks() -> None:
    with torch.device("meta"):
        net = SwinT(32, 1000, weights=None, finetune="last_3")
    counted = cost(net, 32)
    assert counted.params == 28_288_354  # torchvision's num_params
    assert 4.4e9 < counted.macs < 4.6e9  # torchvision's: 4.49 G
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert {".".join(name.split(".")[:3]) for name in trained if name.startswith("stages")} == {
        "stages.3.0", "stages.3.1", "stages.3.2",
    }  # fmt: skip
