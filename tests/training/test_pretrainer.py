"""Pretraining runs: whole or stopped, with the same masks to judge by, and what they hand on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from leanvit.augment.none import NoAugment, NoMix
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import with_validation
from leanvit.errors import LeanvitError
from leanvit.models.vit import ViT
from leanvit.pretraining.autoencoder import Autoencoder
from leanvit.pretraining.encoder import encoder_weights
from leanvit.pretraining.mae import MAE
from leanvit.samplers.shuffle import Shuffle
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training, fit, read_checkpoint
from leanvit.training.pretrainer import Pretrainer

HALF = torch.full((3,), 0.5)


def small_vit(seed: int = 0, **changes: object) -> ViT:
    torch.manual_seed(seed)
    sizes = {"num_classes": 3, "dim": 8, "depth": 1, "heads": 2, "mlp_dim": 8, **changes}
    return ViT(16, 4, **sizes)


def small_mae() -> MAE:
    return MAE(small_vit(drop_path_rate=0.1), 16, 0.75, 8, 1, 2, 8)


def small_autoencoder() -> Autoencoder:
    return Autoencoder(small_vit(), 16, decoder_dim=8)


def pretrainer(
    net: nn.Module, kind: type[Pretrainer] = Pretrainer, optimizer: Callable | None = None
) -> Pretrainer:
    optimizer = optimizer or partial(torch.optim.AdamW, lr=1e-2)
    return kind(net, optimizer, Cosine, HALF, HALF, seed=3, weight_decay=0.05, gradient_clip=1.0)


def data() -> ImageDataModule:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (48, 3, 16, 16), dtype=torch.uint8, generator=draws)
    everything = ImageSet(images, torch.arange(48) % 3, ("a", "b", "c"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    return ImageDataModule(splits, Shuffle, NoAugment(), 16)


def train(module: Pretrainer, run_dir: Path, max_epochs: int = 3, **options: object) -> Training:
    return fit(module, data(), run_dir, max_epochs, "val/loss", accelerator="cpu", **options)


class Stops(Pretrainer):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            raise RuntimeError("killed")


@pytest.mark.parametrize("build", [small_mae, small_autoencoder])
def test_a_stopped_pretraining_ends_with_the_same_bits(
    build: Callable[[], nn.Module], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(pretrainer(build()), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(pretrainer(build(), Stops), tmp_path / "stopped")
    stopped = train(pretrainer(build()), tmp_path / "stopped")
    assert "going on from" in capsys.readouterr().err
    for name in ("best", "last"):
        a, b = (
            read_checkpoint(tmp_path / each / "checkpoints" / f"{name}.ckpt")["state_dict"]
            for each in ("whole", "stopped")
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    for a, b in zip(whole.history, stopped.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_the_least_validation_loss_is_kept_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = train(pretrainer(small_mae()), tmp_path, ema_decay=0.5)
    losses = [row["val_loss"] for row in done.history]
    assert done.best_epoch == 1 + losses.index(min(losses))
    assert losses[-1] < losses[0]
    assert f"val loss {losses[-1]:.4f}" in capsys.readouterr().err
    assert "val_accuracy" not in done.history[0]
    saved = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["state_dict"]
    assert torch.equal(saved["mean"], HALF) and torch.equal(saved["std"], HALF)
    names = {f"net.encoder.{name}" for name in small_vit().state_dict()}
    assert {name for name in saved if name.startswith("net.encoder.")} == names


def test_every_epoch_is_judged_by_the_same_masks(tmp_path: Path) -> None:
    still = partial(torch.optim.SGD, lr=0.0)
    rows = train(pretrainer(small_mae(), optimizer=still), tmp_path).history
    assert len({row["val_loss"] for row in rows}) == 1
    assert len({row["train_loss"] for row in rows}) == 3  # of other masks every time


def test_an_exploding_loss_is_named(tmp_path: Path) -> None:
    wild = partial(torch.optim.SGD, lr=1e30)
    with pytest.raises(LeanvitError, match=r"loss became .* lower optimizer.lr"):
        train(pretrainer(small_autoencoder(), optimizer=wild), tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def perturbed(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def test_the_encoder_of_a_pretraining_is_handed_on() -> None:
    method = perturbed(small_mae())
    fresh = small_vit(seed=1).to(memory_format=torch.channels_last).eval()
    found = encoder_weights(pretrainer(method).state_dict(), fresh)
    own = fresh.state_dict()
    assert found.keys() == own.keys()
    fresh.load_state_dict({k: own[k] if k.startswith("head.") else found[k] for k in own})
    method.eval()
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(fresh(images), method.encoder(images))  # each has its own head
    fresh.head = method.encoder.head
    assert torch.equal(fresh(images), method.encoder(images))


def test_the_net_of_a_classification_is_handed_on() -> None:
    net = perturbed(small_vit())
    classifier = Classifier(
        net, nn.CrossEntropyLoss(), NoMix(),
        torch.optim.AdamW, Cosine, HALF, HALF, classes=("a", "b", "c"),
    )  # fmt: skip
    found = encoder_weights(classifier.state_dict(), net)
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


def test_a_net_may_call_its_parts_as_it_likes() -> None:
    """Also as what stands around a net calls that."""
    for name in ("net", "encoder"):
        net = nn.ModuleDict({name: nn.Linear(2, 2)})
        state = {f"net.{key}": value for key, value in net.state_dict().items()}
        assert encoder_weights(state, net).keys() == net.state_dict().keys()
        wrapped = {f"net.net.{key}": value for key, value in net.state_dict().items()}
        assert encoder_weights(wrapped, net).keys() == net.state_dict().keys()
