"""What speedruns are made of, together: first weights from images, Muon, flips by the epoch."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from leanvit.app.build import initialise
from leanvit.augment.alternating import Alternating
from leanvit.augment.none import NoMix
from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageSet, Splits
from leanvit.data.loader import make_loader
from leanvit.data.split import with_validation
from leanvit.errors import LeanvitError
from leanvit.models.airbench import Airbench
from leanvit.optimizers.muon import muon
from leanvit.samplers.shuffle import Shuffle
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit
from leanvit.training.triangular import Triangular
from leanvit.weights import read_checkpoint

IMAGES = torch.randint(256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()


def data() -> ImageDataModule:
    everything = ImageSet(IMAGES, torch.arange(64) % 4, tuple("abcd"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    return ImageDataModule(splits, Shuffle, Alternating(2), 16)


class Stops(Classifier):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            raise RuntimeError("killed")


def train(run_dir: Path, kind: type[Classifier] = Classifier) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net, images = Airbench(16, 4, [8, 12], attention_depth=1, dim_head=4), data()
    mean, std = images.statistics()
    initialise(net, images, mean, std)
    rule = partial(muon, lr=0.02, momentum=0.6)
    module = kind(net, nn.CrossEntropyLoss(), NoMix(), rule, Triangular, mean, std, tuple("abcd"))
    fit(module, images, run_dir, 4, accelerator="cpu")
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_stopped_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "stopped", Stops)
    stopped = train(tmp_path / "stopped")
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_a_damaged_last_checkpoint_costs_an_epoch_and_no_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(tmp_path / "whole")
    folder = tmp_path / "stopped" / "checkpoints"
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "stopped", Stops)
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt", "before.ckpt"}
    flip(folder / "last.ckpt")
    with pytest.raises(RuntimeError, match="killed"):  # once more, before there is a new one
        train(tmp_path / "stopped", Stops)
    flip(folder / "last.ckpt")
    capsys.readouterr()
    stopped = train(tmp_path / "stopped")
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    told = capsys.readouterr().err
    assert "last.ckpt is damaged" in told and "going on from" in told and "before.ckpt" in told
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_damage_that_nothing_mends_is_told_before_training(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, Stops)
    flip(folder / "best.ckpt")
    with pytest.raises(LeanvitError, match=r"best.ckpt is damaged .* train again"):
        train(tmp_path)
    for name in ("last", "before"):
        flip(folder / f"{name}.ckpt")
    with pytest.raises(LeanvitError, match=r"ckpt is damaged .* train again"):
        train(tmp_path)
    assert len(list(folder.iterdir())) == 3


def flip(path: Path) -> None:
    """A bit in the middle."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def test_a_net_is_shown_training_images_and_keeps_what_it_made_of_them(tmp_path: Path) -> None:
    images, filters = data(), train(tmp_path)["net.stem.weight"]
    seen = normalise(images.train.images, *images.statistics())
    values = nn.functional.conv2d(seen, filters[:12]).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(
        values @ values.T / values.shape[1], torch.eye(12), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("memory_gib", [None, 0.0])
def test_both_loaders_tell_an_augmentation_the_epoch(
    memory_gib: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    given, augment = data().train, Alternating(0)
    order = Shuffle(given.labels, seed=0, rank=0, num_ranks=1)
    loader = make_loader(
        given, order, augment, 16, torch.device("cpu"), memory_gib=memory_gib, num_workers=0
    )
    sides = []
    for epoch in (0, 1):
        order.set_epoch(epoch)
        seen = torch.cat([images for images, _ in loader])
        sides.append(seen[order.indices().argsort()])
    capsys.readouterr()
    assert torch.equal(sides[0], sides[1].flip(3))
    assert 5 < (sides[0] == given.images).flatten(1).all(1).sum() < 43
