"""From a config to the objects of leanvit, and from a run directory back to its net."""

import functools
import platform
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

import lightweighting
import stages
from leanvit.compression.quantize import load
from leanvit.compression.resize import resize
from leanvit.data.images import Splits
from leanvit.data.long_tail import long_tail
from leanvit.errors import LeanvitError
from leanvit.evaluation.predict import Trained
from leanvit.pretraining.encoder import encoder_weights
from leanvit.seeds import derive_seed
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import Training, check_match, find_device, read_checkpoint
from naming import ROOT, full_path


def late_epoch(config: DictConfig) -> int:
    """The epoch, from 0, with which the choices of ``late`` begin."""
    return round(config.late.start * config.max_epochs)


def build_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net of a config, its weights drawn from the seed.

    Raises:
        LeanvitError: ``model.num_classes`` is given and differs from the data's.
    """
    given = config.model.num_classes
    if given is not None and given != num_classes:
        raise LeanvitError(
            f"model.num_classes={given}, but the data has {num_classes} classes: leave it out"
        )
    torch.manual_seed(derive_seed(config.seed, "weights"))
    return instantiate(config.model, num_classes=num_classes, _convert_="all")


def forget_pretraining(config: DictConfig) -> None:
    """Let a net be built without the file of its pretrained weights."""
    if "weights" in config.model:
        config.model.weights = None


def build_data(config: DictConfig, splits: Splits) -> ImageDataModule:
    """Batches of a data source, as the config samples and augments them."""
    late: dict[str, Any] = {}
    if "sampler" in config.get("late", {}):
        late = {"late_sampler": instantiate(config.late.sampler), "late_epoch": late_epoch(config)}
    return ImageDataModule(
        splits,
        instantiate(config.sampler),
        instantiate(config.augment, _convert_="all"),
        batch_size=config.batch_size,
        val_fraction=config.val_fraction,
        seed=config.seed,
        memory_gib=config.memory_gib,
        num_workers=config.num_workers,
        split_seed=config.get("split_seed"),  # runs of older versions have none
        **late,
    )


def first_net(config: DictConfig, data: ImageDataModule) -> tuple[nn.Module, Tensor, Tensor]:
    """The net before its training, and the mean and deviation of the images it will see."""
    classes = data.train.classes
    net = build_net(config, len(classes))
    if config.pretrained:
        mean, std = stages.load_pretrained(config, net, classes)
    else:
        mean, std = statistics(net, data)
    net = lightweighting.wrap(config, net, lightweighting.load_teacher(config, classes, mean, std))
    lightweighting.load_method(config, net)
    return net, mean, std


def build_classifier(
    config: DictConfig, data: ImageDataModule, trained: Trained | None = None
) -> Classifier:
    """Net, loss, mixing and optimizer around each other.

    Args:
        trained: whose net is taken, instead of a first one.
    """
    classes = data.train.classes
    net, mean, std = (
        (trained.net, trained.mean, trained.std) if trained else first_net(config, data)
    )
    counts = data.train.class_counts
    build_loss = functools.partial(instantiate, class_counts=counts, _convert_="all")
    build_mix = functools.partial(instantiate, num_classes=len(classes), class_counts=counts)
    loss, mix, late = build_loss(config.loss), build_mix(config.mix), config.late
    late_loss = build_loss(late.loss) if "loss" in late else loss
    late_mix = build_mix(late.mix) if "mix" in late else mix
    for each in (mix, late_mix):  # a mixing may paste images of its own draw
        data.foreground_weights = getattr(each, "foreground_weights", data.foreground_weights)
    return Classifier(
        net,
        loss,
        mix,
        instantiate(config.optimizer, _convert_="all"),
        instantiate(config.scheduler),
        mean,
        std,
        classes=classes,
        seed=config.seed,
        # the optimizer's own is set group by group
        weight_decay=config.optimizer.get("weight_decay", 0.0),
        layer_decay=config.layer_decay,
        backbone_lr=config.backbone_lr,
        late_loss=late_loss,
        late_mix=late_mix,
        late_epoch=late_epoch(config),
        gradient_clip=config.gradient_clip,
        compile_net=wants_compile(config),
    )


def statistics(net: nn.Module, data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel: those that ImageNet's weights know, or the images' own."""
    known = getattr(net, "statistics", None)
    return (torch.tensor(known[0]), torch.tensor(known[1])) if known else data.statistics()


def wants_compile(config: DictConfig) -> bool:
    """``compile``, where "auto" means: on GPUs, if the training is long enough to repay it."""
    if config.compile != "auto":
        return config.compile
    on_gpu = find_device(config.trainer.accelerator).type == "cuda"
    return on_gpu and config.max_epochs >= 20


def load_config(run_dir: Path) -> DictConfig:
    """The resolved config that a run was made with.

    Raises:
        LeanvitError: not a run directory.
    """
    if not (run_dir / "config.yaml").exists():
        raise LeanvitError(f"{run_dir} is no run directory: it has no config.yaml")
    config = OmegaConf.load(run_dir / "config.yaml")
    assert isinstance(config, DictConfig)
    return config


def load_run(run_dir: Path, precision: str, checkpoint: str = "best") -> Trained:
    """The trained net of a run directory.

    Args:
        precision: of the training, as metrics.json tells it.
        checkpoint: "best", "last", or a file.

    Raises:
        LeanvitError: not a run, no checkpoint, or a checkpoint of another model.
    """
    config = load_config(run_dir)
    forget_pretraining(config)  # the checkpoint holds all weights
    named = checkpoint in ("best", "last")
    path = run_dir / "checkpoints" / f"{checkpoint}.ckpt" if named else Path(checkpoint)
    contents = read_checkpoint(path)
    saved, classes = contents["state_dict"], tuple(config.classes)
    found = tuple(contents.get("classes", ()))
    if found != classes:
        raise LeanvitError(
            f"{path} is a checkpoint of another model: it was trained for the classes "
            f"{', '.join(found)}, not for {', '.join(classes)}"
        )
    size = config.data.image_size
    if config.get("quantized"):
        return Trained(load(run_dir), saved["mean"], saved["std"], classes, size, bfloat16=False)
    net = build_net(config, len(classes))
    if config.get("classifier"):
        instantiate(config.classifier)(net)
    if config.get("pruned"):
        resize(net, encoder_weights(saved))
    if (config.get("lightweight") or {}).get("teacher") is True:
        config.lightweight.teacher = False  # it was the net before training, which is not known
    net = lightweighting.wrap(config, net)
    weights = {k.removeprefix("net."): v for k, v in saved.items() if k.startswith("net.")}
    check_match(path, weights, net.state_dict())
    net.load_state_dict(weights)
    return Trained(net, saved["mean"], saved["std"], classes, size, "bf16" in precision)


def load_splits(config: DictConfig) -> Splits:
    """What the data source of a config gives; paths are made full, so that every run names the
    same folder alike."""
    for key in ("source", "data_dir"):
        if config.data.get(key):
            config.data[key] = full_path(config.data[key])
    cut = {"imbalance", "imbalance_seed"}
    splits = instantiate({key: value for key, value in config.data.items() if key not in cut})
    if config.data.get("imbalance") is None:
        return splits
    train = long_tail(splits.train, str(config.data.imbalance), config.data.imbalance_seed)
    source = f"{splits.source}, cut to a long tail {config.data.imbalance}"
    return replace(splits, train=train, source=source)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("leanvit", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def git_commit() -> str | None:
    """Commit of the code, with "+changes" where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def about_training(training: Training, monitor: str) -> dict[str, Any]:
    """What metrics.json tells of how a net was trained."""
    return {
        "seconds": training.seconds,
        "images_per_second": training.images_per_second,
        "epochs": len(training.history),
        "best_epoch": training.best_epoch,
        "device": device_name(training.device),
        "precision": training.precision,
        "monitor": monitor,
    }


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
