"""What the module around a net does besides adding up losses: phases, frozen parts, slow parts."""

import pytest
import torch
from torch import Tensor, nn

from leanvit.augment.cmo import CMO
from leanvit.augment.none import NoMix
from leanvit.augment.partners import with_partners
from leanvit.lightweight.distill import Distill
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
        classes=("a", "b", "c"),
        **options,
    )
    module.logged = {}
    module.log = lambda name, value, **_: module.logged.update({name: float(value.detach())})
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
        assert module.logged["val/loss"] == 2.0


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


def test_all_but_the_head_learns_slower() -> None:
    net = Net()
    groups = parameter_groups(net, weight_decay=0.1, backbone_lr=0.01)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert scales[id(parameter)] == (1.0 if name.startswith("head.") else 0.01), name
    assert groups[0]["lr_scale"] == 1.0  # the rate that history.csv shows
