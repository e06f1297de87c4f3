"""data=cifar10_lt and data=cifar100_lt are the literature's long tails; any data set can be cut."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from scripts import ROOT

import assemble
import leanvit.data.cifar10
import leanvit.data.cifar100
from leanvit.errors import LeanvitError


class FakeArchive:
    """The official numbers of images, all black."""

    num_classes = 10

    def __init__(self, root: str, train: bool, download: bool) -> None:
        n = 50_000 if train else 10_000
        self.data = np.zeros((n, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % self.num_classes for i in range(n)]
        self.classes = [str(k) for k in range(self.num_classes)]


class FakeHundred(FakeArchive):
    num_classes = 100


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leanvit.data.cifar10, "CIFAR10", FakeArchive)
    monkeypatch.setattr(leanvit.data.cifar100, "CIFAR100", FakeHundred)


def config_of(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize(
    ("overrides", "total", "rarest"),
    [
        (["data=cifar10_lt"], 12_406, 50),
        (["data=cifar100_lt", "data.imbalance=exp:50"], 12_608, 10),
        (["data=cifar10_lt", "data.imbalance=null"], 50_000, 5_000),
    ],
)
def test_long_tails(tmp_path: Path, overrides: list[str], total: int, rarest: int) -> None:
    splits = assemble.load_splits(config_of(*overrides, f"data.data_dir={tmp_path}"))
    counts = splits.train.class_counts
    assert (len(splits.train), int(counts[-1])) == (total, rarest)
    assert torch.equal(counts, counts.sort(descending=True).values)
    assert len(splits.test) == 10_000 and splits.test.class_counts.unique().numel() == 1
    assert ("exp:" in splits.source) == (total < 50_000)  # every table of results says so


def test_any_data_set_is_cut_and_only_its_training_images() -> None:
    small = ["data=shapes", "data.num_train=2000", "data.num_test=50"]
    whole = assemble.load_splits(config_of(*small))
    cut = assemble.load_splits(config_of(*small, "data.imbalance=step:5"))
    assert cut.train.class_counts.tolist() == [114] * 5 + [22] * 5
    assert torch.equal(cut.test.labels, whole.test.labels)
    with pytest.raises(LeanvitError, match=r"data\.imbalance=10: give exp:<factor>"):
        assemble.load_splits(config_of(*small, "data.imbalance=10"))
