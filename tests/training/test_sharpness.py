"""SAM against a literal twin, and against plain training, which it is where the radius vanishes."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import vit
from torch import Tensor, nn

from leanvit.augment.mixup import MixUp
from leanvit.augment.none import NoAugment, NoMix
from leanvit.augment.normalise import normalise
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import with_validation
from leanvit.errors import LeanvitError
from leanvit.lightweight.early_exit import EarlyExit
from leanvit.losses.weighted_ce import WeightedCrossEntropy
from leanvit.optimizers.adamw import adamw
from leanvit.optimizers.muon import muon
from leanvit.optimizers.sgd import sgd
from leanvit.samplers.shuffle import Shuffle
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training, fit
from leanvit.training.sharpness import SharpnessAware
from leanvit.training.triangular import Triangular
from leanvit.weights import read_checkpoint

COUNTS = torch.tensor([40, 12, 8, 4])
IMAGES = torch.randint(256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(4).repeat_interleave(COUNTS)[torch.randperm(64, generator=torch.Generator())]
RULES = {"sgd": partial(sgd, lr=0.05), "adamw": partial(adamw, lr=0.01), "muon": partial(muon)}


def data() -> ImageDataModule:
    everything = ImageSet(IMAGES, LABELS, tuple("abcd"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    return ImageDataModule(splits, Shuffle, NoAugment(), 16)


def layers() -> nn.Module:
    body = nn.Linear(768, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)
    return nn.Sequential(nn.Flatten(), *body, nn.Linear(8, 4))


class Stops(Classifier):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 1:
            raise RuntimeError("killed")


def train(
    run_dir: Path, sam: float, rule: str = "sgd", kind: type = Classifier, net: Any = None,
    mix: Any = None, clip: float | None = 1.0, **options: Any,
) -> tuple[dict[str, Tensor], Training]:  # fmt: skip
    torch.manual_seed(0)
    images = data()
    module = kind(
        net or layers(), WeightedCrossEntropy(COUNTS), mix or NoMix(), RULES[rule], Triangular,
        *images.statistics(), tuple("abcd"), sam=sam, gradient_clip=clip, weight_decay=0.1,
    )  # fmt: skip
    options = {"accelerator": "cpu", "precision": "32-true", **options}
    told = fit(module, images, run_dir, 3, **options)
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"], told


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_literal_twin_goes_the_same_way(tmp_path: Path, accumulate: int) -> None:
    """Weighted, clipped, with BatchNorm, in steps of one batch and of two, the last of one."""
    torch.manual_seed(0)
    net = layers()
    net[4].p = 0.0
    twin, images, rho = copy.deepcopy(net), data(), 0.5
    found, _ = train(tmp_path, rho, net=net, clip=0.2, accumulate=accumulate)
    sides = [[each for each in twin.parameters() if each.ndim == ndim] for ndim in (1, 2)]
    groups = [{"params": sides[0], "weight_decay": 0.0}, {"params": sides[1]}]
    optimizer = torch.optim.SGD(groups, 0.05, 0.9, weight_decay=0.1, nesterov=True)
    steps = [part for epoch in range(3) for part in order_of(epoch).split(16 * accumulate)]
    scheduler = Triangular(optimizer, num_steps=len(steps))
    for step in steps:
        optimizer.zero_grad()
        for batch in step.split(16):
            seen = normalise(images.train.images[batch], *images.statistics())
            found_uphill = gradient_uphill(twin, seen, images.train.labels[batch], rho)
            for weight, gradient in zip(twin.parameters(), found_uphill, strict=True):
                share = gradient * len(batch) / len(step)
                weight.grad = share if weight.grad is None else weight.grad + share
        nn.utils.clip_grad_norm_(twin.parameters(), 0.2)
        optimizer.step()
        scheduler.step()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(found[f"net.{name}"], value, rtol=1e-4, atol=1e-5)


def gradient_uphill(net: nn.Module, images: Tensor, labels: Tensor, rho: float) -> list[Any]:
    """As the paper's algorithm 1 has it; the statistics of ``net`` move once."""
    loss = WeightedCrossEntropy(COUNTS)
    here = torch.autograd.grad(loss(net(images), labels), list(net.parameters()))
    length = sum(float((each**2).sum()) for each in here) ** 0.5
    there = copy.deepcopy(net)
    for weight, gradient in zip(there.parameters(), here, strict=True):
        weight.data = weight.data + rho * gradient / length
    return list(torch.autograd.grad(loss(there(images), labels), list(there.parameters())))


def order_of(epoch: int) -> Tensor:
    order = Shuffle(data().train.labels, seed=0, rank=0, num_ranks=1)
    order.set_epoch(epoch)
    return order.indices()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("rule", RULES)
def test_without_a_radius_it_is_plain_training_bit_for_bit(
    tmp_path: Path, rule: str, precision: str
) -> None:
    """So both passes have the same mixing and dropout, the statistics move once, and what is told
    of the epochs is the loss of the weights themselves."""
    options: dict[str, Any] = {"precision": precision, "ema_decay": 0.9, "accumulate": 2}
    plain, cost = train(tmp_path / "plain", 0.0, rule, mix=MixUp(4), **options)
    twice, double = train(tmp_path / "twice", 1e-30, rule, mix=MixUp(4), **options)
    assert same(plain, twice)
    assert double.pflop == 2 * cost.pflop > 0
    for one, other in zip(cost.history, double.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("rule", RULES)
def test_a_stopped_training_ends_with_the_same_bits(tmp_path: Path, rule: str) -> None:
    options: dict[str, Any] = {"mix": MixUp(4), "ema_decay": 0.9}
    plain, _ = train(tmp_path / "plain", 0.0, rule, **options)
    whole, _ = train(tmp_path / "whole", 0.5, rule, **options)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "stopped", 0.5, rule, Stops, **options)
    stopped, _ = train(tmp_path / "stopped", 0.5, rule, **options)
    assert same(whole, stopped) and not same(whole, plain)


def test_the_terms_of_a_net_are_told_once_and_doubled_in_cost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = EarlyExit(vit(num_classes=4), 16, after=[1])
    plain, cost = train(tmp_path / "plain", 0.0, net=copy.deepcopy(net))
    twice, double = train(tmp_path / "twice", 1e-30, net=net)
    assert same(plain, twice) and double.pflop == 2 * cost.pflop
    assert cost.history[-1].keys() == double.history[-1].keys()
    for name, value in cost.history[-1].items():
        assert name == "seconds" or double.history[-1][name] == value


def test_the_second_pass_computes_in_bfloat16_with_the_weights_uphill() -> None:
    """autocast keeps its copies of weights for as long as a step lasts."""
    net, images = nn.Linear(12, 3), torch.randn(5, 12)
    sharpness = SharpnessAware(net, rho=4.0)
    start = copy.deepcopy(net.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(images).float().square().mean()
        sharpness.uphill(loss)
        uphill = net(images).float().square().mean()
        fresh = copy.deepcopy(net)(images).float().square().mean()
    assert uphill == fresh > 2 * loss
    length = sum((p - start[name]).square().sum() for name, p in net.named_parameters()) ** 0.5
    assert length.item() == pytest.approx(4.0, rel=1e-5)
    sharpness.back()
    assert same(start, net.state_dict())


def test_frozen_weights_stay_and_no_gradient_moves_nothing() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    sharpness = SharpnessAware(net, rho=1.0)
    sharpness.uphill(0 * net(torch.ones(3, 4)).sum())
    assert same(before, net.state_dict())
    sharpness.uphill(net(torch.ones(3, 4)).sum())
    assert torch.equal(net[0].weight, before["0.weight"])
    assert not torch.equal(net[1].weight, before["1.weight"])


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    with pytest.raises(LeanvitError, match="the training loss became nan in epoch"):
        train(tmp_path, 1e30, clip=None)
