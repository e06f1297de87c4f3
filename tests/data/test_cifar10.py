"""The official CIFAR-10 through torchvision, which is replaced here by a few images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from image_trees import refused
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10

import leanvit.data.cifar10
from leanvit.data.cifar10 import CLASSES, cifar10


class FakeArchive:
    def __init__(self, root: str, train: bool, download: bool) -> None:
        assert Path(root).is_dir() and download
        print("Files already downloaded and verified")
        n = 20 if train else 10
        self.data = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % 10 for i in range(n)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leanvit.data.cifar10, "CIFAR10", FakeArchive)


@pytest.mark.usefixtures("fake")
def test_the_official_halves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = cifar10(None, str(tmp_path / "new"))
    assert capsys.readouterr().out == ""
    for part, n in ((splits.train, 20), (splits.test, 10)):
        assert isinstance(part.images, Tensor)
        pixels = part.images.permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels, FakeArchive(str(tmp_path), n == 20, True).data)
        assert part.labels.tolist() == [i % 10 for i in range(n)]
        assert part.labels.dtype == torch.int64
        assert part.images.is_contiguous(memory_format=torch.channels_last)
    assert splits.val is None
    assert splits.train.classes == CLASSES == tuple(sorted(CLASSES)) and len(CLASSES) == 10


@pytest.mark.usefixtures("fake")
def test_resized(tmp_path: Path) -> None:
    images = cifar10(str(tmp_path), image_size=16).test.images
    assert isinstance(images, Tensor) and images.shape == (10, 3, 16, 16)
    original = FakeArchive(str(tmp_path), False, True).data
    for image, pixels in zip(images, original, strict=True):
        pillow = np.array(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("error", [RuntimeError("not found\nor corrupted"), OSError("no network")])
def test_neither_on_disk_nor_to_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> CIFAR10:
        raise error

    monkeypatch.setattr(leanvit.data.cifar10, "CIFAR10", fail)
    message = refused(cifar10, None, str(tmp_path / "d"))
    assert str(tmp_path / "d") in message and "cifar-10-python.tar.gz" in message
    assert "data.source=" in message
