"""From a config to the objects of leanvit, and from a run directory back to its net."""

import contextlib
import netrc
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import torch
from hydra.utils import get_class, instantiate
from lightning.pytorch.loggers import Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from torch import nn

import command_line
from command_line import ROOT, full_path
from leanvit.augment.none import NoMix
from leanvit.data.images import Splits
from leanvit.errors import LeanvitError
from leanvit.evaluation.predict import Trained
from leanvit.seeds import derive_seed
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule
from leanvit.training.fit import check_match, find_device, read_checkpoint
from leanvit.training.parameter_groups import parameter_groups

MONITORS = ("val/balanced_accuracy", "val/accuracy", "val/loss")


def check_choices(config: DictConfig) -> None:
    """Refuse what cannot work before any data is read.

    Raises:
        LeanvitError: an impossible pair, or a net that cannot be built at this size.
    """
    loss, mix = get_class(config.loss._target_), get_class(config.mix._target_)
    if mix is not NoMix and not getattr(loss, "soft_targets", False):
        raise LeanvitError(
            f"{loss.__name__} has no meaning for the soft targets of {mix.__name__}: choose "
            "mix=none or another loss"
        )
    for key, least in (("max_epochs", 1), ("batch_size", 1), ("seed", 0), ("num_workers", 0)):
        if type(config[key]) is not int or config[key] < least:
            raise LeanvitError(f"{key}={config[key]} must be a whole number, at least {least}")
    if config.monitor not in MONITORS:
        raise LeanvitError(f"monitor={config.monitor}: choose from {', '.join(MONITORS)}")
    device = find_device(config.trainer.accelerator)
    if config.model.get("attention") == "flex" and device.type != "cuda":
        raise LeanvitError("model.attention=flex trains on GPUs only: choose sdpa or math")
    net = try_net(config, num_classes=config.model.num_classes or 10)
    decay = config.layer_decay
    if not isinstance(decay, int | float) or not 0 < decay <= 1:
        raise LeanvitError(f"layer_decay={decay} must be a number above 0, at most 1")
    parameter_groups(net, 0.0, decay)
    num_classes = config.model.num_classes or len(config.loss.get("alpha") or range(10))
    counts = torch.ones(num_classes, dtype=torch.int64)  # the real ones are not known yet
    instantiate(config.loss, class_counts=counts, _convert_="all")
    instantiate(config.sampler)(labels=torch.arange(num_classes))


def try_net(config: DictConfig, num_classes: int) -> nn.Module:
    """The net of a config without storage, after a look whether an image passes through it.

    Raises:
        LeanvitError: these values make no net.
    """
    size = config.data.image_size
    get_class(config.model._target_)  # imported first: no tensor of a module may be without storage
    try:
        with torch.device("meta"), torch.no_grad():
            net = build_net(config, num_classes).eval()
            net(torch.empty(1, 3, size, size))
    except Exception as error:
        line = command_line.explain(error)
        if not isinstance(error.__cause__ or error, LeanvitError):
            name = config.model._target_.rpartition(".")[2]
            line = f"{name} cannot be built with these values: {line}"
        raise LeanvitError(line) from error
    return net


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
    return ImageDataModule(
        splits,
        instantiate(config.sampler),
        instantiate(config.augment, _convert_="all"),
        batch_size=config.batch_size,
        val_fraction=config.val_fraction,
        seed=config.seed,
        memory_gib=config.memory_gib,
        num_workers=config.num_workers,
    )


def build_classifier(config: DictConfig, data: ImageDataModule) -> Classifier:
    """Net, loss, mixing and optimizer around each other."""
    classes = data.train.classes
    net = build_net(config, len(classes))
    # pretrained weights know the images they were made with
    known = getattr(net, "statistics", None)
    mean, std = map(torch.tensor, known) if known else data.statistics()
    compile_net = config.compile
    if compile_net == "auto":
        on_gpu = find_device(config.trainer.accelerator).type == "cuda"
        compile_net = on_gpu and config.max_epochs >= 20
    # the optimizer's own weight_decay is set group by group
    weight_decay = config.optimizer.get("weight_decay", 0.0)
    return Classifier(
        net,
        instantiate(config.loss, class_counts=data.train.class_counts, _convert_="all"),
        instantiate(config.mix, num_classes=len(classes)),
        instantiate(config.optimizer, _convert_="all"),
        instantiate(config.scheduler),
        mean,
        std,
        classes=classes,
        seed=config.seed,
        weight_decay=weight_decay,
        layer_decay=config.layer_decay,
        gradient_clip=config.gradient_clip,
        compile_net=compile_net,
    )


@contextlib.contextmanager
def logger(config: DictConfig, run_dir: Path) -> Iterator[Logger | None]:
    """The chosen logger, closed at the end; W&B stays offline unless the user is logged in, and
    never asks."""
    if "_target_" not in config.logger:
        yield None
        return
    build = instantiate(config.logger)
    if build.func is not WandbLogger:
        yield build(save_dir=run_dir)
        return
    import wandb

    os.environ.setdefault("WANDB_MODE", "online" if _logged_in_to_wandb() else "offline")
    status = 1
    try:
        yield build(
            save_dir=run_dir,
            name=run_dir.name,
            id=run_dir.name.rpartition("-")[2],
            settings=wandb.Settings(silent=True, console="off"),
            config=OmegaConf.to_container(config, resolve=True),
        )
        status = 0
    finally:
        wandb.finish(exit_code=status)


def _logged_in_to_wandb() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc().authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
    net = build_net(config, len(classes))
    weights = {k.removeprefix("net."): v for k, v in saved.items() if k.startswith("net.")}
    check_match(path, weights, net.state_dict())
    net.load_state_dict(weights)
    size = config.data.image_size
    return Trained(net, saved["mean"], saved["std"], classes, size, "bf16" in precision)


def load_splits(config: DictConfig) -> Splits:
    """What the data source of a config gives; paths are made full, so that every run names the
    same folder alike."""
    for key in ("source", "data_dir"):
        if config.data.get(key):
            config.data[key] = full_path(config.data[key])
    return instantiate(config.data)


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


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
