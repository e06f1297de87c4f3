"""The official CIFAR-100 through torchvision, which is replaced here by a few images."""

from pathlib import Path

import numpy as np
import pytest
from image_trees import refused
from torch import Tensor
from torchvision.datasets import CIFAR100

import leanvit.data.cifar100
from leanvit.data.cifar100 import cifar100

NAMES = [f"thing_{k:02}" for k in range(100)]


class FakeArchive:
    def __init__(self, root: str, train: bool, download: bool) -> None:
        assert Path(root).is_dir() and download
        n = 200 if train else 100
        self.data = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % 100 for i in range(n)]
        self.classes = NAMES


def test_the_official_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leanvit.data.cifar100, "CIFAR100", FakeArchive)
    splits = cifar100(None, str(tmp_path / "new"))
    for part, n in ((splits.train, 200), (splits.test, 100)):
        assert isinstance(part.images, Tensor)
        pixels = part.images.permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels, FakeArchive(str(tmp_path), n == 200, True).data)
        assert part.class_counts.tolist() == [n // 100] * 100
        assert part.classes == tuple(NAMES)
    assert splits.val is None and "CIFAR-100" in splits.source
    small = cifar100(str(tmp_path), image_size=16).test.images
    assert isinstance(small, Tensor) and small.shape == (100, 3, 16, 16)


def test_neither_on_disk_nor_to_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> CIFAR100:
        raise OSError("no network")

    monkeypatch.setattr(leanvit.data.cifar100, "CIFAR100", fail)
    message = refused(cifar100, None, str(tmp_path / "d"))
    assert message.startswith(f"CIFAR-100 is not in {tmp_path / 'd'}") and "no network" in message
    assert "cifar-100-python.tar.gz" in message and "data.source=" in message
