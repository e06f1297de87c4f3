"""What the module around a net does besides adding up losses: phases, frozen parts, slow parts."""

import pytest
import torch
from torch import Tensor, nn

from leanvit.augment.cmo import CMO
from leanvit.augment.none import NoMix
from leanvit.augment.partners import with_partners
from leanvit.classifiers.mislas import MiSLAS
from leanvit.evaluation.cost.speed import _LiveBytes
from leanvit.lightweight.distill import Distill
from leanvit.losses.ohem import OHEM
from leanvit.losses.weighted_ce import WeightedCrossEntropy
from leanvit.training.classifier import Classifier
from leanvit.training.cosine import Cosine
from leanvit.training.parameter_groups import parameter_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout())
        self.head = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


class Constant(nn.Module):
    """A loss that says which one it is, and what it was given."""

    soft_targets = True

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.seen = value, []

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.seen.append((len(logits), targets.ndim))
        return logits.sum() * 0 + self.value


class AtEpoch(Classifier):
    current_epoch = 0


def classifier_of(**options: object) -> AtEpoch:
    mix = options.pop("mix", NoMix())
    module = AtEpoch(
        Net(),
        Constant(1.0),
        mix,
        torch.optim.SGD,
        Cosine,
        torch.full((3,), 0.5),
        torch.full((3,), 0.25),
        **{"classes": ("a", "b", "c"), **options},
    )
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update(
        {name: float(torch.as_tensor(value).detach())}
    )
    return module


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(size, 3, 2, 2, dtype=torch.uint8), torch.arange(size) % 3


def test_late_loss_and_mixing_take_over_at_their_epoch() -> None:
    late = Constant(2.0)
    (mix, late_mix), _ = with_partners([CMO(3, probability=1.0), NoMix()])
    module = classifier_of(mix=mix, late_loss=late, late_mix=late_mix, late_epoch=3)
    for epoch, value in ((0, 1.0), (2, 1.0), (3, 2.0), (5, 2.0)):
        module.current_epoch = epoch
        assert module.training_step(batch(8), 1).item() == value
        assert module.num_images == 4  # that history.csv counts
    # 4 images and 4 partners: mixed, or left out where nothing is pasted any more
    assert module.loss.seen == [(4, 2)] * 2 and late.seen == [(4, 1)] * 2


def test_mixing_can_begin_late() -> None:
    (mix, late_mix), _ = with_partners([NoMix(), CMO(3, probability=1.0)])
    module = classifier_of(mix=mix, late_mix=late_mix, late_epoch=1)
    module.training_step(batch(8), 1)
    module.current_epoch = 1
    module.training_step(batch(8), 1)
    assert module.loss.seen == [(4, 1), (4, 2)]


def test_validation_losses_are_the_same_function_in_every_epoch() -> None:
    module = classifier_of(late_loss=Constant(2.0), late_epoch=3)
    for epoch in (0, 3):
        module.current_epoch = epoch
        module.validation_step(batch(4), 0)
        module.on_validation_epoch_end()
        assert module.logged["val/loss"] == 2.0


@pytest.mark.parametrize("loss", [WeightedCrossEntropy(torch.tensor([900, 90, 9])), OHEM(0.25)])
def test_validation_figures_are_those_of_the_whole_set(loss: nn.Module) -> None:
    """Also where a batch holds one class, whose weight would cancel, and the last is smaller."""
    module = classifier_of(late_loss=loss).eval()
    labels = torch.tensor([0] * 8 + [1] * 3 + [2])
    images = torch.randint(0, 256, (12, 3, 2, 2), dtype=torch.uint8)
    whole, logits = torch.zeros(3, 3), module(images)
    for true, answer in zip(labels, logits.argmax(1), strict=True):
        whole[true, answer] += 1
    for _ in range(2):  # nothing of an epoch is left in the next
        for part in (slice(0, 8), slice(8, 11), slice(11, 12)):
            module.validation_step((images[part], labels[part]), 0)
        module.on_validation_epoch_end()
        recalls = whole.diagonal() / whole.sum(1)
        assert module.logged["val/loss"] == pytest.approx(loss(logits, labels).item(), rel=1e-6)
        assert module.logged["val/accuracy"] == pytest.approx(whole.trace().item() / 12)
        assert module.logged["val/balanced_accuracy"] == pytest.approx(recalls.mean().item())


def test_a_thousand_classes_are_counted_in_little_memory() -> None:
    """torchmetrics compares each image with each of a million cells in deterministic mode."""
    module = classifier_of(classes=tuple(map(str, range(1000))))
    module.net.head = nn.Linear(8, 1000)
    torch.use_deterministic_algorithms(True)
    try:
        with _LiveBytes(module.net, torch.zeros(0)) as live, torch.no_grad():
            module.validation_step(batch(500), 0)
            module.on_validation_epoch_end()
    finally:
        torch.use_deterministic_algorithms(False)
    assert live.peak < 50e6  # of which 16 are the counts


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("method", [nn.Identity, Distill])
def test_a_frozen_backbone_is_read_as_in_evaluation(frozen: bool, method: type) -> None:
    module = classifier_of()
    net = module.net
    module.net = net if method is nn.Identity else method(net)
    net.body.requires_grad_(not frozen)
    module.train()
    module.on_train_epoch_start()
    assert module.net.training is (method is Distill or not frozen) and net.head.training
    assert all(part.training is not frozen for part in net.body.modules())


@pytest.mark.parametrize("shift", [True, False])
def test_of_a_frozen_backbone_only_statistics_of_batch_norm_may_follow_the_images(
    shift: bool,
) -> None:
    module = classifier_of()
    MiSLAS(shift_batch_norm=shift)(module.net)
    _, _, norm, dropout = module.net.body
    before = {name: value.clone() for name, value in module.net.body.state_dict().items()}
    module.train()
    module.on_train_epoch_start()
    assert norm.training is shift and not dropout.training and module.net.head.training
    module.training_step((torch.randint(0, 256, (8, 3, 2, 2), dtype=torch.uint8),
                          torch.arange(8) % 3), 1).backward()  # fmt: skip
    after = module.net.body.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert moved == (statistics if shift else set())


def test_all_but_the_head_learns_slower() -> None:
    net = Net()
    groups = parameter_groups(net, weight_decay=0.1, backbone_lr=0.01)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert scales[id(parameter)] == (1.0 if name.startswith("head.") else 0.01), name
    assert groups[0]["lr_scale"] == 1.0  # the rate that history.csv shows
