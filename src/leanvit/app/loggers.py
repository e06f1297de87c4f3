"""The chosen logger of a training."""

import contextlib
import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@contextlib.contextmanager
def logger(config: DictConfig, run_dir: Path) -> "Iterator[Logger | None]":
    """The chosen logger, closed at the end; W&B stays offline unless the user is logged in, and
    never asks."""
    if "_target_" not in config.logger:
        yield None
        return
    from hydra.utils import instantiate
    from lightning.pytorch.loggers import WandbLogger

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
