"""What speedruns are made of, together: first weights from images, Muon, flips by the epoch."""

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from leanvit.app.build import initialise
from leanvit.augment.alternating import Alternating
from leanvit.augment.none import NoAugment, NoMix
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
from leanvit.training.patience import epochs_since_best
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


def train(
    run_dir: Path, kind: type[Classifier] = Classifier, num_epochs: int = 4, **options: Any
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net, images = Airbench(16, 4, [8, 12], attention_depth=1, dim_head=4), data()
    mean, std = images.statistics()
    initialise(net, images, mean, std)
    rule = partial(muon, lr=0.02, momentum=0.6)
    module = kind(net, nn.CrossEntropyLoss(), NoMix(), rule, Triangular, mean, std, tuple("abcd"))
    fit(module, images, run_dir, num_epochs, **{"accelerator": "cpu", **options})
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "ema_decay": 0.9}])
def test_a_stopped_training_ends_with_the_same_bits(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "stopped", Stops, **options)
    stopped = train(tmp_path / "stopped", **options)
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


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
def test_a_step_of_several_batches_follows_the_mean_over_its_images(
    tmp_path: Path, accumulate: int
) -> None:
    """Steps of 3 batches by twos are of 2 and of 1, clipped, averaged and scheduled each."""
    net, images, rate = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), data(), 0.1
    twin = copy.deepcopy(net)
    average = copy.deepcopy(net)
    mean, std = images.statistics()
    rule = partial(torch.optim.SGD, lr=rate)
    module = Classifier(
        net, nn.CrossEntropyLoss(), NoMix(), rule, Triangular, mean, std, tuple("abcd"),
        gradient_clip=0.1,
    )  # fmt: skip
    images.augment = NoAugment()
    fit(module, images, tmp_path, 2, accelerator="cpu", precision="32-true",
        accumulate=accumulate, ema_decay=0.9)  # fmt: skip
    steps = [part for epoch in range(2) for part in order_of(epoch).split(16 * accumulate)]
    optimizer = torch.optim.SGD(twin.parameters(), rate)
    scheduler = Triangular(optimizer, num_steps=len(steps))
    for step, index in enumerate(steps):
        optimizer.zero_grad()
        seen = normalise(images.train.images[index], mean, std)
        nn.functional.cross_entropy(twin(seen), images.train.labels[index]).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.1)
        optimizer.step()
        scheduler.step()
        share = 1 - min(0.9, (1 + step) / (10 + step)) if step else 1.0
        for old, new in zip(average.parameters(), twin.parameters(), strict=True):
            old.data.lerp_(new.data, share)
    saved = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == len(steps) == 2 * -(-3 // accumulate)
    torch.testing.assert_close(saved["current_model_state"]["net.1.weight"], twin[1].weight)
    torch.testing.assert_close(saved["state_dict"]["net.1.weight"], average[1].weight)


def order_of(epoch: int) -> torch.Tensor:
    order = Shuffle(data().train.labels, seed=0, rank=0, num_ranks=1)
    order.set_epoch(epoch)
    return order.indices()


def test_a_machine_of_a_cluster_is_told_no_hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    train(tmp_path / "run", num_epochs=1)
    assert not [each for each in recwarn if "srun" in str(each.message)]


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


@pytest.mark.parametrize(
    ("figures", "losses", "monitor", "since"),
    [
        ([0.1], [1.0], "val/accuracy", 0),
        ([0.1, 0.3, 0.3, 0.2], [9.0, 2.0, 2.0, 1.0], "val/accuracy", 2),
        ([0.1, 1.0, 1.0, 1.0], [9.0, 2.0, 1.0, 3.0], "val/accuracy", 1),  # as best.ckpt is kept
        ([0.0] * 3, [0.3, 0.1, 0.2], "val/loss", 1),
        ([0.0] * 3, [0.3, 0.2, 0.1], "val/loss", 0),
    ],
)
def test_epochs_since_the_best(
    figures: list[float], losses: list[float], monitor: str, since: int
) -> None:
    pairs = zip(figures, losses, strict=True)
    rows = [{"val_accuracy": figure, "val_loss": loss} for figure, loss in pairs]
    assert epochs_since_best(rows, monitor) == since


def test_a_training_ends_where_validation_gets_no_better_and_is_not_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = iter([0.5, 0.4, 0.6, 0.4, 9.0, 9.0])
    monkeypatch.setattr(
        Classifier,
        "validation_step",
        lambda self, batch, index: self.log("val/loss", torch.tensor(next(losses)), batch_size=1),
    )
    monkeypatch.setattr(Classifier, "on_validation_epoch_end", lambda self: None)
    options: dict[str, Any] = {"monitor": "val/loss", "patience": 2}
    with pytest.raises(RuntimeError, match="killed"):  # in the third epoch
        train(tmp_path, Stops, num_epochs=6, **options)
    train(tmp_path, num_epochs=6, **options)
    assert "ends with epoch 4: val/loss was best in epoch 2 (patience=2)" in capsys.readouterr().err
    last = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    train(tmp_path, num_epochs=6, **options)  # as after a kill in the evaluation
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == last
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize(("first", "num_epochs"), [(0, 2), (3, 4), (5, 6)])
def test_patience_waits_for_what_begins_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, num_epochs: int
) -> None:
    losses = iter([0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1])
    monkeypatch.setattr(
        Classifier,
        "on_validation_epoch_end",
        lambda self: self.log("val/loss", torch.tensor(next(losses))),
    )
    options: dict[str, Any] = {"monitor": "val/loss", "patience": 1, "patient_until": first}
    train(tmp_path, num_epochs=7, **options)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + num_epochs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch synchronises on GPUs alone")
def test_batch_norms_of_all_processes_are_one_and_leave_the_same_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here of one process: nothing is synchronised, and all must be as without."""
    gpu: dict[str, Any] = {"num_epochs": 1, "accelerator": "gpu", "precision": "32-true"}
    seen, plain = [], train(tmp_path / "plain", **gpu)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr(
        Classifier,
        "on_train_start",
        lambda self: seen.extend(type(each).__name__ for each in self.net.modules()),
    )
    try:
        synced = train(tmp_path / "synced", strategy="ddp", sync_batchnorm=True, **gpu)
    finally:
        torch.distributed.destroy_process_group()
    assert "SyncBatchNorm" in seen and "BatchNorm2d" not in seen
    torch.testing.assert_close(synced, plain, rtol=1e-3, atol=1e-3)


def test_synchronised_batch_norms_are_asked_of_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def trainer(**options: Any) -> None:
        asked.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("leanvit.training.fit.L.Trainer", trainer)
    with pytest.raises(LeanvitError, match="enough"):
        train(tmp_path, sync_batchnorm=True, accumulate=4)
    assert asked["sync_batchnorm"] and asked["accumulate_grad_batches"] == 4


def test_a_deterministic_training_does_not_write_into_all_new_memory_first(tmp_path: Path) -> None:
    """torch's deterministic mode does so, for a sixth of a speedrun's step."""
    seen: list[tuple[bool, bool]] = []

    class Watched(Classifier):
        def training_step(self, *batch: Any) -> Any:
            fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
            seen.append((torch.are_deterministic_algorithms_enabled(), fills))
            return super().training_step(*batch)

    train(tmp_path, Watched, num_epochs=1)
    assert set(seen) == {(True, False)}
