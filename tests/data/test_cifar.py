"""The official CIFAR-10 and CIFAR-100 through torchvision, whose archives are replaced here; the
literature's long tails are presets of the two, and any data set can be cut."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from image_trees import refused
from PIL import Image
from torch import Tensor

from leanvit.app.build import load_splits
from leanvit.data.cifar10 import cifar10
from leanvit.data.cifar100 import cifar100
from leanvit.data.class_names import CIFAR10_CLASSES as CLASSES
from leanvit.data.images import Splits

NAMES = tuple(f"thing_{k:02}" for k in range(100))


def archive(num_classes: int, num_train: int, num_test: int, draw: bool = True) -> Callable:
    """An archive of so many images, noise or black."""

    class Archive:
        classes = NAMES

        def __init__(self, root: str, train: bool, download: bool) -> None:
            assert Path(root).is_dir() and download
            print("Files already downloaded and verified")
            n = num_train if train else num_test
            self.data = np.zeros((n, 32, 32, 3), dtype=np.uint8)
            if draw:
                self.data = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), np.uint8)
            self.targets = [i % num_classes for i in range(n)]

    return Archive


def pretend(monkeypatch: pytest.MonkeyPatch, ten: Callable, hundred: Callable) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10", ten)
    monkeypatch.setattr("torchvision.datasets.CIFAR100", hundred)


SOURCES = [(cifar10, 10, CLASSES, "CIFAR-10"), (cifar100, 100, NAMES, "CIFAR-100")]


@pytest.mark.parametrize(("source", "num_classes", "classes", "name"), SOURCES)
def test_the_official_halves(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: Callable[..., Splits],
    num_classes: int,
    classes: tuple[str, ...],
    name: str,
) -> None:
    fake = archive(num_classes, 2 * num_classes, num_classes)
    pretend(monkeypatch, fake, fake)
    splits = source(None, str(tmp_path / "new"))
    assert capsys.readouterr().out == ""
    assert splits.val is None and splits.source.startswith(f"{name},")
    for part, n in ((splits.train, 2 * num_classes), (splits.test, num_classes)):
        assert isinstance(part.images, Tensor)
        pixels = part.images.permute(0, 2, 3, 1).numpy()
        original = fake(str(tmp_path), n > num_classes, True).data
        assert np.array_equal(pixels, original)
        assert part.labels.tolist() == [i % num_classes for i in range(n)]
        assert part.labels.dtype == torch.int64 and part.classes == classes
        assert part.images.is_contiguous(memory_format=torch.channels_last)
    small = source(str(tmp_path), image_size=16).test.images
    assert isinstance(small, Tensor) and small.shape == (num_classes, 3, 16, 16)
    for image, pixels in zip(small, original, strict=True):
        pillow = np.array(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - pillow).max() <= 1


def test_the_ten_classes_are_sorted() -> None:
    assert tuple(sorted(CLASSES)) == CLASSES and len(CLASSES) == 10


@pytest.mark.parametrize(("source", "num_classes", "classes", "name"), SOURCES)
@pytest.mark.parametrize("error", [RuntimeError("not found\nor corrupted"), OSError("no network")])
def test_neither_on_disk_nor_to_be_downloaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: Callable[..., Splits],
    num_classes: int,
    classes: tuple[str, ...],
    name: str,
    error: Exception,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    pretend(monkeypatch, fail, fail)
    message = refused(source, None, str(tmp_path / "d"))
    assert message.startswith(f"{name} is not in {tmp_path / 'd'}")
    assert str(error).split()[-1] in message
    assert f"{name.lower()}-python.tar.gz" in message and "data.source=" in message


@pytest.mark.parametrize(
    ("overrides", "total", "rarest"),
    [
        (["data=cifar10_lt"], 12_406, 50),
        (["data=cifar100_lt", "data.imbalance=exp:50"], 12_608, 10),
        (["data=cifar10_lt", "data.imbalance=null"], 50_000, 5_000),
    ],
)
def test_long_tails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    total: int,
    rarest: int,
) -> None:
    pretend(monkeypatch, *(archive(k, 50_000, 10_000, draw=False) for k in (10, 100)))
    splits = load_splits(config_of(*overrides, f"data.data_dir={tmp_path}"))
    counts = splits.train.class_counts
    assert (len(splits.train), int(counts[-1])) == (total, rarest)
    assert torch.equal(counts, counts.sort(descending=True).values)
    assert len(splits.test) == 10_000 and splits.test.class_counts.unique().numel() == 1
    assert ("exp:" in splits.source) == (total < 50_000)  # every table of results says so


def test_any_data_set_is_cut_and_only_its_training_images() -> None:
    small = ["data=shapes", "data.num_train=2000", "data.num_test=50"]
    whole = load_splits(config_of(*small))
    cut = load_splits(config_of(*small, "data.imbalance=step:5"))
    assert cut.train.class_counts.tolist() == [114] * 5 + [22] * 5
    assert torch.equal(cut.test.labels, whole.test.labels)
    wrong = config_of(*small, "data.imbalance=10")
    assert "data.imbalance=10: give exp:<factor>" in refused(load_splits, wrong)
