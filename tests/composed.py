"""Configs as the command line composes them, and the requests that the app reads from them."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from scripts import ROOT

from leanvit.app import check, request
from leanvit.app import command as _resolvers  # noqa: F401
from leanvit.app.jobs import keep_config
from leanvit.app.request import Request

GROUPS = {
    path.name: sorted(each.stem for each in path.glob("*.yaml"))
    for path in (ROOT / "conf").iterdir()
    if path.is_dir()
}
READ = {
    "train": request.training,
    "pretrain": request.pretraining,
    "compress": request.compression,
}


def config_of(*overrides: str, command: str = "train", conf: Path = ROOT / "conf") -> DictConfig:
    """What may be changed, ``hydra`` included."""
    return _composed(overrides, command, conf).copy()


@cache  # composing takes a fifth of a second
def _composed(overrides: tuple[str, ...], command: str, conf: Path) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf)):
        return compose(command, list(overrides), return_hydra_config=True)


def request_of(*overrides: str, command: str = "train", conf: Path = ROOT / "conf") -> Request:
    """What the app makes of a command line."""
    config = config_of(*overrides, command=command, conf=conf)
    before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, config
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return READ[command](own)
    finally:
        HydraConfig.instance().cfg = before


def check_without_memory(asked: Request) -> None:
    """As before a training, of a net without storage; losses look at counts, which have some."""
    phases = check.check_phases

    def check_phases(config: DictConfig) -> None:
        with torch.device("cpu"):
            phases(config)

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(check, "check_phases", check_phases)
        check.check_training(asked)


def leave_first_stage(folder: Path, *overrides: str, **told: object) -> Path:
    """What of a finished run a second stage reads before its weights."""
    request = request_of("data=shapes", *overrides, f"outputs={folder}")
    request.run_dir.mkdir(parents=True)
    keep_config(request.config, request.choices, request.run_dir, ("a", "b"))
    about = {"choices_hash": "same", "seed": request.config.seed, "overrides": {}, "choices": {}}
    (request.run_dir / "metrics.json").write_text(json.dumps(about | told))
    return request.run_dir
