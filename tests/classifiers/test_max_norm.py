"""A head within a radius against a literal loop, and its limits."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from image_trees import refused
from torch import Tensor, nn

from leanvit import values
from leanvit.augment.none import NoAugment, NoMix
from leanvit.augment.normalise import normalise
from leanvit.classifiers.max_norm import MaxNorm
from leanvit.data.images import ImageSet, Splits
from leanvit.data.split import with_validation
from leanvit.losses.class_balanced import ClassBalanced
from leanvit.optimizers.sgd import sgd
from leanvit.samplers.shuffle import Shuffle
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import fit
from leanvit.training.triangular import Triangular
from leanvit.weights import read_checkpoint

EPOCHS, BATCH_SIZE = 3, 16
LABELS = torch.arange(4).repeat_interleave(torch.tensor([40, 12, 8, 4]))
DRAWS = torch.Generator().manual_seed(0)
NOISE = torch.randint(100, (64, 3, 8, 8), generator=DRAWS)
IMAGES = (NOISE + torch.randint(150, (4, 3, 8, 8), generator=DRAWS)[LABELS]).byte()


def data() -> ImageDataModule:
    everything = ImageSet(IMAGES, LABELS, tuple("abcd"))
    splits = with_validation(Splits(everything, everything), 0.25, split_seed=0)
    return ImageDataModule(splits, Shuffle, NoAugment(), BATCH_SIZE)


class Net(nn.Module):
    """As a first stage may leave it: the more frequent a class, the longer its weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Tanh())
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            self.head.weight.mul_(torch.tensor([[4.0], [2.0], [1.5], [1.0]]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


def norms(weight: Tensor) -> list[float]:
    return [sum(value**2 for value in row) ** 0.5 for row in weight.tolist()]


class Stops(Classifier):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch == 2:
            raise RuntimeError("killed")


def train(run_dir: Path, threshold: float | None, kind: type = Classifier, **options: Any) -> Any:
    """The state after a second stage; without a threshold, of the head as it is."""
    images, net = data(), Net()
    if threshold is None:
        net.body.requires_grad_(False)
    else:
        MaxNorm(threshold)(net)
    module = kind(
        net, ClassBalanced(images.train.class_counts), NoMix(), partial(sgd, lr=0.5), Triangular,
        *images.statistics(), tuple("abcd"), weight_decay=0.01, **options,
    )  # fmt: skip
    fit(module, images, run_dir, EPOCHS, accelerator="cpu", precision="32-true")
    return read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["state_dict"]


def literal(threshold: float) -> Net:
    net, images = Net(), data()
    before = norms(net.head.weight)
    radius = min(before) + threshold * (max(before) - min(before))
    groups = [{"params": [net.head.weight]}, {"params": [net.head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, 0.5, 0.9, weight_decay=0.01, nesterov=True)
    order = Shuffle(images.train.labels, seed=0, rank=0, num_ranks=1)
    scheduler = Triangular(optimizer, num_steps=EPOCHS * len(order) // BATCH_SIZE)
    loss, held = ClassBalanced(images.train.class_counts), 0
    for epoch in range(EPOCHS):
        order.set_epoch(epoch)
        for part in order.indices().split(BATCH_SIZE):
            seen = normalise(images.train.images[part], *images.statistics())
            optimizer.zero_grad()
            loss(net(seen), images.train.labels[part]).backward()
            optimizer.step()
            scheduler.step()
            for row, length in enumerate(norms(net.head.weight)):
                held += length > radius
                net.head.weight.data[row] *= min(1.0, radius / length)
    assert held > EPOCHS  # in several steps
    return net


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_a_literal_loop_of_the_paper_goes_the_same_way(tmp_path: Path, threshold: float) -> None:
    found, start, expected = train(tmp_path, threshold), Net(), literal(threshold)
    for name, value in expected.head.state_dict().items():
        torch.testing.assert_close(found[f"net.head.{name}"], value, rtol=1e-4, atol=1e-5)
    for name, value in start.body.state_dict().items():
        assert torch.equal(found[f"net.body.{name}"], value)
    assert {name for name in found if name.startswith("net.")} == {
        f"net.{name}" for name in start.state_dict()
    }


def test_what_no_class_reaches_is_plain_training_of_the_head(tmp_path: Path) -> None:
    plain, held = train(tmp_path / "plain", None), train(tmp_path / "held", 1e6)
    assert all(torch.equal(value, held[name]) for name, value in plain.items())


def test_a_stopped_stage_keeps_the_radius_of_the_first_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 0.3)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "stopped", 0.3, Stops)
    stopped = train(tmp_path / "stopped", 0.3)
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())


def test_a_net_that_is_trained_as_a_whole_again_is_not_held(tmp_path: Path) -> None:
    """As where a run is pruned and fine-tuned."""
    net = copy.deepcopy(Net())
    MaxNorm(0.0)(net)
    net.requires_grad_(True)
    images = data()
    module = Classifier(
        net, ClassBalanced(images.train.class_counts), NoMix(), partial(sgd, lr=1e-9), Triangular,
        *images.statistics(), tuple("abcd"),
    )  # fmt: skip
    fit(module, images, tmp_path, 1, accelerator="cpu", precision="32-true")
    torch.testing.assert_close(net.head.weight, Net().head.weight)


def test_what_is_refused() -> None:
    message = refused(MaxNorm(), nn.Sequential(nn.Flatten()))
    assert message == "Sequential's head ends in no linear layer: choose classifier=retrain"
    message = refused(values.check, MaxNorm, {"threshold": -0.1}, "classifier.")
    assert message.startswith("classifier.threshold=-0.1 must be")
