"""What can be refused before any data is read: values, impossible pairs, nets that cannot be."""

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

import assemble
import command_line
import lightweighting
import naming
from leanvit.augment.none import NoMix
from leanvit.data.long_tail import parse_imbalance
from leanvit.errors import LeanvitError
from leanvit.training.fit import find_device
from leanvit.training.parameter_groups import parameter_groups

MONITORS = ("val/balanced_accuracy", "val/accuracy", "val/loss")


def check_choices(config: DictConfig) -> None:
    """Refuse what cannot work before any data is read.

    Raises:
        LeanvitError: an impossible pair, or a net that cannot be built at this size.
    """
    check_phases(config)
    check_values(config)
    if config.monitor not in MONITORS:
        raise LeanvitError(f"monitor={config.monitor}: choose from {', '.join(MONITORS)}")
    net = try_net(config, num_classes=config.model.num_classes or 10)
    for key in ("layer_decay", "backbone_lr"):
        if not isinstance(config[key], int | float) or not 0 < config[key] <= 1:
            raise LeanvitError(f"{key}={config[key]} must be a number above 0, at most 1")
    lightweighting.check_threshold(config)
    if config.get("lightweight") and OmegaConf.is_missing(config.lightweight, "teacher"):
        raise LeanvitError(
            "lightweight=distill wants a teacher: lightweight.teacher=<directory of a finished run>"
        )
    with torch.device("meta"), torch.no_grad():
        net = lightweighting.wrap(config, net).eval()
        net(torch.empty(1, 3, config.data.image_size, config.data.image_size))
    if getattr(net, "teacher", None) is not None and not config.pretrained:
        raise LeanvitError(
            "lightweight.teacher=true: a net that is not trained teaches nothing, add "
            "pretrained=<directory of a finished run>"
        )
    if config.max_epochs == 0 and lightweighting.begins_untrained(config, net):
        raise LeanvitError(
            f"max_epochs=0: lightweight={naming.module_name(config.lightweight)} has weights "
            "of its own, which must be trained"
        )
    parameter_groups(net, 0.0, config.layer_decay)


def check_values(config: DictConfig) -> None:
    """What is checked of every training, with labels or without.

    Raises:
        LeanvitError: a value that no training can have.
    """
    untrained = config.get("lightweight") and config.pretrained  # a finished net may stay as it is
    least_epochs = 0 if untrained else 1
    for key, least in (
        ("max_epochs", least_epochs),
        ("batch_size", 1),
        ("seed", 0),
        ("num_workers", 0),
    ):
        command_line.check_whole(key, config[key], least)
    for key in ("split_seed", "data.imbalance_seed"):  # absent in some configs
        value = OmegaConf.select(config, key)
        if value is not None:
            command_line.check_whole(key, value, 0)
    if config.data.get("imbalance") is not None:
        parse_imbalance(str(config.data.imbalance))
    device = find_device(config.trainer.accelerator)
    if config.model.get("attention") == "flex" and device.type != "cuda":
        raise LeanvitError("model.attention=flex trains on GPUs only: choose sdpa or math")


def check_phases(config: DictConfig) -> None:
    """Look at loss, sampler and mixing, of the beginning and of ``late``.

    Raises:
        LeanvitError: an impossible pair or value.
    """
    if type(config.late.start) not in (int, float) or not 0 < config.late.start <= 1:
        raise LeanvitError(f"late.start={config.late.start} must be above 0, at most 1")
    is_deferred = any(key in config.late for key in ("loss", "sampler", "mix"))
    if is_deferred and not 0 < assemble.late_epoch(config) < config.max_epochs:
        raise LeanvitError(
            f"late.start={config.late.start} of max_epochs={config.max_epochs} is epoch "
            f"{assemble.late_epoch(config)}: no epoch is left before it or after it"
        )
    pasting = [phase.mix for phase in (config, config.late) if "mix" in phase and pastes(phase.mix)]
    if len(pasting) > 1 and pasting[0] != pasting[1]:
        raise LeanvitError(
            "mix= and mix@late.mix= are one mixing with other values: choose one of them"
        )
    for phase in (config, config.late) if is_deferred else (config,):
        parts = {key: phase.get(key) or config[key] for key in ("loss", "sampler", "mix")}
        loss, mix = get_class(parts["loss"]._target_), get_class(parts["mix"]._target_)
        if mix is not NoMix and not getattr(loss, "soft_targets", False):
            raise LeanvitError(
                f"{loss.__name__} has no meaning for the soft targets of {mix.__name__}: choose "
                "mix=none or another loss"
            )
        num_classes = config.model.num_classes or len(parts["loss"].get("alpha") or range(10))
        counts = torch.ones(num_classes, dtype=torch.int64)  # the real ones are not known yet
        instantiate(parts["loss"], class_counts=counts, _convert_="all")
        instantiate(parts["mix"], num_classes=num_classes, class_counts=counts)
        instantiate(parts["sampler"])(labels=torch.arange(num_classes))


def try_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net of a config without storage, after a look whether an image passes through it.

    Raises:
        LeanvitError: these values make no net.
    """
    size = config.data.image_size
    get_class(config.model._target_)  # imported first: no tensor of a module may be without storage
    try:
        with torch.device("meta"), torch.no_grad():
            net = assemble.build_net(config, num_classes).eval()
            net(torch.empty(1, 3, size, size))
    except Exception as error:
        line = command_line.explain(error)
        if not isinstance(error.__cause__ or error, LeanvitError):
            name = config.model._target_.rpartition(".")[2]
            line = f"{name} cannot be built with these values: {line}"
        raise LeanvitError(line) from error
    return net


def pastes(mix: DictConfig) -> bool:
    """Whether a mixing pastes images of its own draw."""
    return hasattr(get_class(mix._target_), "foreground_weights")
