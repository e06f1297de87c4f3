"""What every model, loss, sampler, augmentation and mixing must do, found through conf/.

A new choice is one module and one YAML of the same name; nothing is added here.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from composed import GROUPS, check_without_memory, config_of, request_of
from hydra.utils import instantiate
from omegaconf import DictConfig
from parts import choices, default
from scripts import ROOT
from torch import Tensor, nn

from leanvit.app.check import check_phases
from leanvit.app.nets import build_net
from leanvit.errors import LeanvitError
from leanvit.losses import ce
from leanvit.models.swin import Swin
from leanvit.models.vit import ViT
from leanvit.training.classifier import Classifier
from leanvit.training.parameter_groups import parameter_groups

COUNTS = torch.tensor([50, 20, 30, 10])


# nets of one published size, made small enough to be fitted
SMALL = {
    ViT: {"dim": 96, "depth": 2, "heads": 2, "mlp_dim": 192},
    Swin: {"dim": 16, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4)},
}
PUBLISHED = ("vit_b_16", "swin_t")


def net_of(name: str, num_classes: int = 4) -> nn.Module:
    with pytest.MonkeyPatch.context() as patch:
        for kind, sizes in SMALL.items() if name in PUBLISHED else ():
            patch.setattr(kind, "__init__", smaller(kind.__init__, sizes))
        return build_net(small_config(name), num_classes)


def smaller(init: Callable[..., None], sizes: dict[str, Any]) -> Callable[..., None]:
    return lambda self, *given, **named: init(self, *given, **{**named, **sizes})


def small_config(name: str) -> DictConfig:
    """The defaults of a model, but no more than two blocks on end; pretrained ones without their
    weights, at the images' own size."""
    config = config_of(f"model={name}", "data=shapes")
    for key, value in {"weights": None, "input_size": 32, "window_size": 4}.items():
        if "weights" in config.model and key in config.model:
            config.model[key] = value
    if "depth" in config.model:
        config.model.depth = min(2, config.model.depth)
    if "depths" in config.model:
        config.model.depths = [min(2, depth) for depth in config.model.depths]
    return config


def small_images(batch: int = 6) -> Tensor:
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))


FOLDERS = {
    "model": "models",
    "loss": "losses",
    "sampler": "samplers",
    "augment": "augment",
    "mix": "augment",
    "optimizer": "optimizers",
    "scheduler": "training",
    "data": "data",
    "classifier": "classifiers",
    "pretrain": "pretraining",
    "lightweight": "lightweight",
    "method": "compression",
}


@pytest.mark.parametrize(("group", "folder"), FOLDERS.items())
def test_a_choice_is_one_of_the_modules_of_its_kind(group: str, folder: str) -> None:
    for name, choice in choices(group).items():
        if "_target_" in choice:  # "none" of some groups stands for nothing
            package, place, module, _ = choice._target_.split(".")
            assert (package, place) == ("leanvit", folder), (group, name)
            assert (ROOT / "src" / "leanvit" / folder / f"{module}.py").exists(), (group, name)


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_every_experiment_composes_and_can_be_built(name: str) -> None:
    check_without_memory(request_of(f"experiment={name}", "trainer=cpu"))
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()[:4]
    assert any(f"experiment={name}" in line for line in head)


@pytest.mark.parametrize("name", GROUPS["model"])
class TestModel:
    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        net = net_of(name).train()
        for block in net.modules():  # a path that is dropped has no gradient in that step
            if type(block).__name__ == "StochasticDepth":
                block.p = 0.0
        logits = net(small_images())
        assert logits.shape == (6, 4) and torch.isfinite(logits).all()
        logits.square().sum().backward()
        without = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]
        assert not without

    def test_evaluation_repeats_itself_and_no_image_sees_the_others(self, name: str) -> None:
        net, images = net_of(name).eval(), small_images()
        with torch.no_grad():
            together, again = net(images), net(images)
            alone = torch.cat([net(image[None]) for image in images])
        assert together.shape == (6, 4) and torch.isfinite(together).all()
        assert torch.equal(together, again)
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)

    def test_the_seed_gives_the_weights_and_a_copy_has_its_own(self, name: str) -> None:
        net = net_of(name)
        a, b = net.state_dict(), net_of(name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)
        twin = copy.deepcopy(net)
        with torch.no_grad():
            next(twin.parameters()).add_(1)
        assert not torch.equal(next(twin.parameters()), next(net.parameters()))
        # validation uses averaged weights, and floating buffers are averaged with them
        assert all(torch.isfinite(buffer).all() for buffer in net.buffers())

    def test_a_few_steps_fit_one_batch(self, name: str) -> None:
        net = net_of(name).train()
        images, labels = small_images(4), torch.arange(4)
        optimizer = torch.optim.AdamW(parameter_groups(net, 0.05), lr=1e-3)
        losses = []
        for _ in range(12):
            loss = nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]

    def test_decay_spares_norms_biases_positions_and_tokens(self, name: str) -> None:
        net = net_of(name)
        decayed, spared = parameter_groups(net, 0.05)
        assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0.0
        spared_ids = {id(p) for p in spared["params"]}
        for module_name, module in net.named_modules():
            is_norm = "Norm" in type(module).__name__
            for own_name, parameter in module.named_parameters(recurse=False):
                embeds = "position" in own_name or "token" in own_name
                expected = is_norm or own_name == "bias" or embeds
                assert (id(parameter) in spared_ids) == expected, f"{module_name}.{own_name}"
        assert len(decayed["params"]) + len(spared["params"]) == len(list(net.parameters()))

    def test_literal_and_fused_attention_agree_with_gradients(self, name: str) -> None:
        config = small_config(name)
        if "attention" not in config.model or "weights" in config.model:
            return  # pretrained nets are others' classes at a size that takes long
        images = small_images(2).double()
        found = []
        for kernel in ("sdpa", "math"):
            config.model.attention = kernel
            net = build_net(config, num_classes=4).double().eval()
            logits = net(images)
            logits.sin().sum().backward()
            grads = [p.grad for p in net.parameters() if p.grad is not None]
            found.append([logits.detach(), *grads])
        for fused, literal in zip(*found, strict=True):
            torch.testing.assert_close(fused, literal, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", GROUPS["augment"])
def test_augment_keeps_shape_and_type_and_repeats_its_draws(name: str) -> None:
    augment = instantiate(config_of(f"augment={name}").augment, _convert_="all")
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 3, 24, 24), dtype=torch.uint8, generator=draws)
    before = images.clone()
    prepared = augment.prepare(images)
    index = torch.tensor([3, 3, 8, 0])
    first, again = (augment(prepared, index, torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (4, 3, 24, 24) and first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", GROUPS["mix"])
def test_mix_gives_images_and_targets_of_the_batch(name: str) -> None:
    mix = default("mix", name, COUNTS)
    labels, given = torch.tensor([0, 1, 2, 3, 3, 1]), small_images()
    if mix.partners is not None:  # a batch, and as many partners
        images, targets = mix(torch.cat([given, given]), torch.cat([labels, labels]))
    else:
        images, targets = mix(given, labels)
    num = 6 * getattr(mix, "num_views", 1)
    assert images.shape == (num, 3, 32, 32)
    if targets.ndim == 2:
        torch.testing.assert_close(targets.sum(1), torch.ones(num))
        assert (targets >= 0).all()
    else:
        assert torch.equal(targets, labels)


@pytest.mark.parametrize("optimizer", GROUPS["optimizer"])
@pytest.mark.parametrize("scheduler", GROUPS["scheduler"])
def test_learning_rate_rises_then_falls_to_the_end(optimizer: str, scheduler: str) -> None:
    config = config_of(f"optimizer={optimizer}", f"scheduler={scheduler}", "data=shapes")
    net = nn.Linear(3, 2)
    built = instantiate(config.optimizer, _convert_="all")(parameter_groups(net, 0.1))
    schedule = instantiate(config.scheduler)(built, num_steps=100)
    rates = []
    for _ in range(100):
        rates.append(built.param_groups[0]["lr"])
        built.step()
        schedule.step()
    peak = max(range(100), key=rates.__getitem__)
    assert rates[peak] == pytest.approx(config.optimizer.lr, rel=1e-6) and 0 < peak < 20
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.02 * rates[peak]
    assert {group["weight_decay"] for group in built.param_groups} == {0.1, 0.0}


class RefusesSoftTargets(nn.Module):
    soft_targets = False

    def __init__(self, class_counts: Tensor, label_smoothing: float) -> None:
        super().__init__()


@pytest.mark.parametrize("mix", GROUPS["mix"])
def test_a_loss_without_soft_targets_refuses_mixing_by_name(
    mix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ce, "RefusesSoftTargets", RefusesSoftTargets, raising=False)
    config = config_of(f"mix={mix}", "data=shapes", "loss=ce")
    config.loss._target_ = "leanvit.losses.ce.RefusesSoftTargets"
    if mix == "none":
        check_phases(config)
    else:
        with pytest.raises(LeanvitError, match=r"RefusesSoftTargets .* mix=none"):
            check_phases(config)


def test_extra_training_terms_are_summed() -> None:
    class Net(nn.Linear):
        def loss_terms(self, images: Tensor, targets: Tensor, criterion: nn.Module) -> dict:
            return {"first": self.weight.sum(), "second": 2 * self.weight.sum()}

    parts = config_of("data=shapes", "mix=none")
    module = Classifier(
        Net(2, 2),
        default("loss", "ce", COUNTS),
        default("mix", "none", COUNTS),
        instantiate(parts.optimizer),
        instantiate(parts.scheduler),
        torch.full((3,), 0.5),
        torch.full((3,), 0.25),
        classes=("a", "b", "c", "d"),
    )
    module.log = lambda *_, **__: None
    batch = (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    torch.testing.assert_close(module.training_step(batch, 1), 3 * module.net.weight.sum())
