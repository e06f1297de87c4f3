"""The chosen logger of a run: opened before its training, closed after its test figures.

History tells it one row an epoch (:class:`leanvit.training.callbacks.History`), and a resumed
training all rows again, first: what a killed process left is never the only piece of something.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_method, instantiate
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from omegaconf import DictConfig, OmegaConf

from leanvit import values
from leanvit.app import names, provenance, ranks, wandb_runs
from leanvit.app.request import Request
from leanvit.errors import LeanvitError

WORDS_OF_HYDRA = ("_target_", "_partial_")
ALWAYS_TOLD = ("optimizer.lr", "batch_size", "max_epochs")  # beside what was chosen and given
MOST_CLASSES = 100  # of a confusion matrix as a table, which has a row for each pair


@contextlib.contextmanager
def logger(request: Request) -> Iterator[Logger | None]:
    """The chosen logger, closed at the end; what the user gives (``+logger.id=``) wins."""
    config, run_dir = request.config, request.run_dir
    if "_target_" not in config.logger:
        yield None
        return
    build = instantiate(config.logger, _partial_=True, _convert_="all")
    own = {"save_dir": run_dir, **build.keywords}
    if issubclass(build.func, TensorBoardLogger):
        # what an earlier process left is read no more: a resumed training tells it again
        own = {"purge_step": 0, "default_hp_metric": False, **own}
    if not ranks.is_first_rank():  # the first speaks for all
        yield build.func(**own)
        return
    made: Logger
    if issubclass(build.func, WandbLogger):
        made = wandb_runs.opened(build, run_dir, tags(request), about(request))
    else:
        made = build.func(**own)
    status = 1
    try:
        yield made
        status = 0
    finally:
        if isinstance(made, WandbLogger):
            wandb_runs.close(status)
        else:
            made.finalize("failed" if status else "success")


def check_logger(config: DictConfig) -> None:
    """See that the logger takes what is given to it.

    Raises:
        LeanvitError: a word that it does not know.
    """
    if "_target_" not in config.logger:
        if given := list(config.logger):
            raise LeanvitError(
                f"logger.{given[0]} is for W&B or TensorBoard: add logger=wandb or tensorboard"
            )
        return
    taker = get_method(config.logger._target_)
    takes = dict(inspect.signature(taker).parameters)
    hands_on = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    unknown = [str(key) for key in config.logger if key not in (*takes, *WORDS_OF_HYDRA)]
    if not unknown or (hands_on and taker not in (WandbLogger, TensorBoardLogger)):
        return
    if taker is WandbLogger:
        import wandb

        takes |= inspect.signature(wandb.init).parameters
    elif taker is TensorBoardLogger:
        from torch.utils.tensorboard import SummaryWriter

        takes |= inspect.signature(SummaryWriter).parameters
    for key in unknown:
        if key not in takes:
            raise LeanvitError(f"there is no logger.{key}: {values.nearest(key, takes, 'logger.')}")


def about(request: Request) -> dict[str, Any]:
    """Every resolved value and what was chosen by name, as in ``config.yaml``."""
    told: Any = OmegaConf.to_container(request.config, resolve=True)
    return {**told, "choices": dict(request.choices)}


def tags(request: Request) -> list[str]:
    """``loss=focal``, ``seed=1``, ...: what runs are found and told apart by."""
    chosen = {**request.choices, "seed": request.config.seed, **provenance.overrides_of(request)}
    return [f"{key}={value}" for key, value in chosen.items()
            if key not in names.NO_CHOICE and value not in (None, "none")]  # fmt: skip


def log_results(made: Logger | None, told: Mapping[str, Any], folder: Path) -> None:
    """What a run ends in: its figures as numbers and as pictures.

    Args:
        told: of metrics.json or pretraining.json. ``val`` is called ``best_val``: the curve of
            ``val/`` is that of the epochs.
        folder: with ``figures/`` and, where images were classified, ``predictions.npz``.
    """
    if made is None:
        return
    blocks = {"test": "test", "val": "best_val", "cost": "cost", "training": "training"}
    results = {ours: told[name] for name, ours in blocks.items() if name in told}
    if "val_loss" in told:
        results["best_val"] = {"loss": told["val_loss"]}
    found = numbers(results)
    pictures = {f"figures/{path.stem}": path for path in sorted(folder.glob("figures/*.png"))}
    if isinstance(made, WandbLogger):
        wandb_runs.summarise(made, found, pictures)
        if (folder / "predictions.npz").exists() and len(told["classes"]) <= MOST_CLASSES:
            with np.load(folder / "predictions.npz") as saved:
                guessed = saved["test_probabilities"].argmax(1).tolist()
                wandb_runs.confusion(made, saved["test_labels"].tolist(), guessed, told["classes"])
    elif isinstance(made, TensorBoardLogger):
        config = OmegaConf.load(folder / "config.yaml")
        asked = {key: OmegaConf.select(config, key) for key in ALWAYS_TOLD
                 if key != "max_epochs" or not OmegaConf.select(config, "max_minutes")}  # fmt: skip
        chosen = {**told["choices"], **asked, **told["overrides"], "seed": told["seed"]}
        made.log_hyperparams({k: v for k, v in chosen.items() if v is not None}, found)
        _draw(made, pictures)
    else:
        made.log_metrics(found)


def numbers(tree: Mapping[str, Any], where: str = "") -> dict[str, float]:
    """The numbers of nested blocks, by ``block/name``; lists, words and ``None`` are left out."""
    found: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{where}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{where}{name}"] = value
    return found


def _draw(made: TensorBoardLogger, pictures: Mapping[str, Path]) -> None:
    from PIL import Image

    for name, path in pictures.items():
        with Image.open(path) as image:
            shown = np.asarray(image.convert("RGB"))
        made.experiment.add_image(name, shown, dataformats="HWC")
