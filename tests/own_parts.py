"""A net in a folder of a user's own."""

from pathlib import Path

NET = """
from torch import Tensor, nn

class MyNet(nn.Module):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images))
"""


def write_own_net(folder: Path) -> Path:
    """``mynet.py`` in it, and its conf/, which is returned, for ``model=mynet``."""
    conf = folder / "conf"
    for group in ("model", "recipe"):
        (conf / group).mkdir(parents=True)
    (folder / "mynet.py").write_text(NET)
    (conf / "model" / "mynet.yaml").write_text("_target_: mynet.MyNet\nwidth: 4\n")
    (conf / "recipe" / "muon_mynet.yaml").write_text("optimizer: {lr: 1e-3}\n")
    return conf
