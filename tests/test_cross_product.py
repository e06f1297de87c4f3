"""Every loss with every sampler and every mixing: it trains, or is refused by name."""

from collections import OrderedDict
from functools import cache

import pytest
import torch
from composed import GROUPS, config_of
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from parts import choices, default
from torch import Tensor, nn

from leanvit.app.check import check_phases
from leanvit.augment.none import NoAugment
from leanvit.contracts import Order
from leanvit.data.images import ImageSet
from leanvit.data.loader import ResidentLoader
from leanvit.errors import LeanvitError
from leanvit.samplers.with_partners import WithPartners
from leanvit.training.classifier import Classifier

COUNTS = torch.tensor([31, 13, 6, 3])  # ratios on both sides of Remix's kappa of 3
BATCH_SIZE = 8
CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor]


@cache
def base() -> DictConfig:
    return config_of("data=shapes", "trainer=cpu", "max_epochs=2")


@cache
def samplers() -> dict[str, Order]:
    config, built = base(), {}
    for name, config.sampler in choices("sampler").items():
        built[name] = instantiate(config.sampler)(labels=data().labels)
    return built


@cache
def data() -> ImageSet:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(COUNTS)
    images = torch.randint(0, 256, (len(labels), 3, 4, 4), dtype=torch.uint8, generator=draws)
    return ImageSet(images, labels, ("a", "b", "c", "d"))


@cache
def batches(sampler: str, mix: str) -> list[Batch]:
    """Three, with the partners that the mixing wants."""
    order, batch_size = samplers()[sampler], BATCH_SIZE
    if partners := default("mix", mix, COUNTS).partners:
        order, batch_size = WithPartners(order, partners(data().labels), BATCH_SIZE), 2 * BATCH_SIZE
    loader = ResidentLoader(data(), order, NoAugment(), batch_size, CPU, drop_last=True)
    return list(loader)[:3]


def classifier(loss: str, mix: str) -> Classifier:
    """Of a linear net; ``seen`` holds the images and targets that net and loss were last given."""
    torch.manual_seed(0)
    module = Classifier(
        nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(48, 4))),
        default("loss", loss, COUNTS),
        default("mix", mix, COUNTS),
        torch.optim.SGD,
        torch.optim.lr_scheduler.ConstantLR,
        torch.full((3,), 0.5),
        torch.full((3,), 0.25),
        data().classes,
    )
    module.log = lambda *_, **__: None
    module.seen = {}
    module.net.register_forward_pre_hook(lambda _, args: module.seen.update(images=args[0]))
    module.loss.register_forward_pre_hook(lambda _, args: module.seen.update(targets=args[1]))
    return module


def three_steps(module: Classifier, batches: list[Batch]) -> None:
    """As a training makes them."""
    torch.manual_seed(0)
    weight, bias = module.net[1].parameters()
    optimizer = torch.optim.SGD([weight, bias], lr=0.01)
    all_targets = []
    for step, batch in enumerate(batches):
        before = weight.detach().clone(), bias.detach().clone()
        with torch.autocast("cpu", torch.bfloat16, enabled=step == 2):  # as on CPUs that have it
            loss = module.training_step(batch, step)
            images, targets = module.seen["images"], module.seen["targets"]
            torch.testing.assert_close(loss, loss_of(images, targets, module))
        assert loss.ndim == 0 and torch.isfinite(loss)
        num = BATCH_SIZE * getattr(module.mix, "num_views", 1)
        assert len(images) == len(targets) == num
        check_targets(targets, batch[1])
        all_targets.append(targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert not torch.equal(weight, before[0]) and not torch.equal(bias, before[1])
    assert torch.isfinite(weight).all() and torch.isfinite(bias).all()
    assert len(all_targets) == 3
    if targets.ndim == 2:
        assert torch.cat(all_targets).amax(1).min() < 0.9  # one batch was mixed, at least


def loss_of(images: Tensor, targets: Tensor, module: Classifier) -> Tensor:
    """What the loss must be of a batch as it was mixed."""
    logits = module.net(images).float()
    loss = module.loss(logits, targets)
    if targets.ndim == 2:
        assert module.loss.soft_targets
        if (targets.amax(1) < 0.9).sum() > 2:  # one of them is among the six hardest, too
            assert loss != module.loss(logits, targets.argmax(1))
    return loss + module.beside(images.flatten(1)) if module.beside else loss


def check_targets(targets: Tensor, labels: Tensor) -> None:
    """Classes of the batch, partners among them, with shares that sum to 1."""
    if targets.ndim == 1:
        assert torch.equal(targets, labels)
        return
    assert targets.dtype == torch.float32 and targets.min() >= 0
    torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))
    absent = torch.bincount(labels, minlength=4) == 0
    assert not targets[:, absent].any()


@pytest.mark.parametrize("loss", GROUPS["loss"])
def test_every_combination_trains_three_steps_or_is_refused_by_name(
    loss: str,
) -> None:
    config = base()
    config.loss = choices("loss")[loss]
    for mix in GROUPS["mix"]:
        config.mix = choices("mix")[mix]
        module = classifier(loss, mix)
        for sampler in GROUPS["sampler"]:
            config.sampler = choices("sampler")[sampler]
            try:
                check_phases(config)
            except LeanvitError as error:
                classes = (get_class(config.loss._target_), get_class(config.mix._target_))
                assert all(each.__name__ in str(error) for each in classes), str(error)
                assert "\n" not in str(error)
            else:
                three_steps(module, batches(sampler, mix))
