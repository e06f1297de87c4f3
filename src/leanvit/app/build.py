"""From what was chosen to the objects of leanvit: data, loss, mixing, optimizer around a net."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from leanvit import values
from leanvit.app import quick  # noqa: F401  (before Lightning is imported)
from leanvit.app.parts import is_own
from leanvit.augment.normalise import normalise
from leanvit.augment.partners import with_partners
from leanvit.contracts import InitialisedByImages, Mix
from leanvit.data.fraction import part_of_each_class
from leanvit.data.images import ImageSet, Splits
from leanvit.data.long_tail import long_tail
from leanvit.data.split import with_validation
from leanvit.device import find_device
from leanvit.errors import LeanvitError
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.time_budget import NEVER
from leanvit.values import Positive, PositiveShare, offered

PHASED = ("loss", "sampler", "mix")  # choices that late ones can take the place of
CUT = ("imbalance", "imbalance_seed", "fraction")  # of every data set, and no constructor's


def make(chosen: DictConfig, where: str, **offers: Any) -> Any:
    """What a choice's ``_target_`` makes of its values, or with ``_partial_`` what will.

    Args:
        where: the choice's group, for messages.
        offers: what the constructor gets if it names it; a value of the same name gives way.

    Raises:
        LeanvitError: a value that the constructor's annotations do not allow.
    """
    given: Any = OmegaConf.to_container(chosen, resolve=True)
    taker = target(given.pop("_target_"))
    is_partial = given.pop("_partial_", False)
    own = {key: value for key, value in given.items() if key not in offers}
    values.check(taker, own, f"{where}.")
    arguments = {**own, **offered(taker, **offers)}
    if not is_partial:
        _refuse_gaps(taker, arguments, where)
    return functools.partial(taker, **arguments) if is_partial else taker(**arguments)


def _refuse_gaps(taker: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    parameters = inspect.signature(taker).parameters.values()
    wanted = [each.name for each in parameters
              if each.default is each.empty and each.kind is not each.VAR_KEYWORD]  # fmt: skip
    if missing := [name for name in wanted if name not in arguments]:
        raise LeanvitError(
            f"{taker.__name__} wants {', '.join(missing)}: the YAML of {where} gives a value, or "
            "says _partial_: true where it is built later"
        )


def target(path: str) -> Any:
    """The class or function of that path.

    Raises:
        LeanvitError: it is not leanvit's, and no choice of ``--config-dir`` names it; a config that
            is handed on is data and runs nothing.
    """
    module, _, name = path.rpartition(".")
    if not module.startswith("leanvit.") and not is_own(path):
        raise LeanvitError(f"_target_: {path} is none of leanvit's own parts; see docs/parts.md")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LeanvitError(f"_target_: there is no {path} ({error})") from error


def late_epoch(start: PositiveShare, max_epochs: int, max_minutes: Positive | None = None) -> int:
    """The epoch, from 0, with which the choices of ``late`` begin; of minutes the clock says it."""
    return NEVER if max_minutes else round(start * max_epochs)


def load_splits(config: DictConfig) -> Splits:
    """What the data source of a config gives."""
    whole = OmegaConf.masked_copy(config.data, [key for key in config.data if key not in CUT])
    splits = make(whole, "data")
    if (imbalance := config.data.get("imbalance")) is not None:
        tail = long_tail(splits.train, str(imbalance), config.data.imbalance_seed)
        source = f"{splits.source}, cut to a long tail {imbalance}"
        splits = replace(splits, train=tail, source=source)
    if (fraction := config.data.get("fraction", 1.0)) != 1:
        part = part_of_each_class(splits.train, fraction)
        source = f"{splits.source}, {100 * fraction:g} % of its training images"
        splits = replace(splits, train=part, source=source)
    return splits


def build_data(config: DictConfig, splits: Splits) -> ImageDataModule:
    """Batches of a data source, as the config samples, augments and mixes them."""
    late: dict[str, Any] = {}
    if "sampler" in config.get("late", {}):
        late["late_sampler"] = make(config.late.sampler, "late.sampler")
        late["late_epoch"] = late_epoch(
            config.late.start, config.max_epochs, config.get("max_minutes")
        )
    splits = with_validation(splits, config.val_fraction, config.split_seed)
    return ImageDataModule(
        splits,
        make(config.sampler, "sampler"),
        make(config.augment, "augment"),
        batch_size=config.batch_size,
        seed=config.seed,
        memory_gib=config.memory_gib,
        num_workers=config.num_workers,
        partners=build_mixes(config, splits.train)[2] if "mix" in config else None,
        **late,
    )


def build_mixes(
    config: DictConfig, train: ImageSet
) -> tuple[Mix, Mix, Callable[[Tensor], Tensor] | None]:
    """The mixing, the late one, and what draws partners for them."""
    offers = {"num_classes": len(train.classes), "class_counts": train.class_counts}
    mix = make(config.mix, "mix", **offers)
    late = make(config.late.mix, "late.mix", **offers) if "mix" in config.late else mix
    (mix, late), partners = with_partners([mix, late])
    return mix, late, partners


def build_classifier(
    config: DictConfig, data: ImageDataModule, net: nn.Module, mean: Tensor, std: Tensor
) -> Classifier:
    """Net, loss, mixing and optimizer around each other.

    Raises:
        LeanvitError: there is nothing to tell apart.
    """
    classes = data.train.classes
    if len(classes) < 2:
        raise LeanvitError(
            f"the training images have one class alone, {classes[0]}: a net tells several apart, "
            "each in a folder of its own"
        )
    offers = {"num_classes": len(classes), "class_counts": data.train.class_counts}
    loss = make(config.loss, "loss", **offers)
    late_loss = make(config.late.loss, "late.loss", **offers) if "loss" in config.late else loss
    mix, late_mix, _ = build_mixes(config, data.train)
    return Classifier(
        net,
        loss,
        mix,
        make(config.optimizer, "optimizer"),
        make(config.scheduler, "scheduler"),
        mean,
        std,
        classes=classes,
        late_loss=late_loss,
        late_mix=late_mix,
        late_epoch=late_epoch(config.late.start, config.max_epochs, config.get("max_minutes")),
        gradual=config.late.get("gradual", False),  # older runs that are pruned have neither
        sam=config.get("sam", 0.0),
        layer_decay=config.layer_decay,
        backbone_lr=config.backbone_lr,
        **of_every_training(config),
    )


def of_every_training(config: DictConfig) -> dict[str, Any]:
    """What trainings with labels and without have in common."""
    return {
        "seed": config.seed,
        # the optimizer's own is set group by group
        "weight_decay": config.optimizer.get("weight_decay", 0.0),
        "gradient_clip": config.gradient_clip,
        "compile_net": wants_compile(
            config.compile, config.max_epochs, config.trainer, config.get("max_minutes")
        ),
    }


def statistics(net: nn.Module, data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel: those that ImageNet's weights know, or the images' own."""
    known = getattr(net, "statistics", None)
    return (torch.tensor(known[0]), torch.tensor(known[1])) if known else data.statistics()


def initialise(net: nn.Module, data: ImageDataModule, mean: Tensor, std: Tensor) -> None:
    """Show training images to a net that wants them for its first weights."""
    if isinstance(net, InitialisedByImages):
        net.initialise(normalise(data.sample(5000), mean, std))


def wants_compile(
    compile: bool | Literal["auto"],
    max_epochs: int,
    trainer: Mapping[str, Any],
    max_minutes: Positive | None = None,
) -> bool:
    """``compile``, where "auto" means: on GPUs, if the training is long enough to repay it."""
    if compile != "auto":
        return compile
    is_long = max_minutes >= 5 if max_minutes else max_epochs >= 20
    return find_device(trainer["accelerator"]).type == "cuda" and is_long


def draws_figures(figures: bool | Literal["auto"], in_grid: bool, seconds: float) -> bool:
    """Whether a run's figures are drawn; "auto": not where a job of a grid was trained in less than
    ten ``seconds``, a good part of which they take. The page of the grid shows the same."""
    return not in_grid or seconds >= 10 if figures == "auto" else figures
