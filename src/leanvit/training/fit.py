"""Train, from the last whole epoch on, and leave the best and the last checkpoint."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger

from leanvit.errors import LeanvitError
from leanvit.models.attention import fastest_attention
from leanvit.training.callbacks import AtomicCheckpoints, AveragedWeights, History
from leanvit.training.classifier import Classifier
from leanvit.training.data_module import ImageDataModule


def fit(
    classifier: Classifier,
    data: ImageDataModule,
    run_dir: Path,
    max_epochs: int,
    monitor: str = "val/balanced_accuracy",
    ema_decay: float = 0.0,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    precision: str = "auto",
    logger: Logger | None = None,
) -> L.Trainer:
    """Fit ``classifier`` to ``data``.

    Leaves ``history.csv`` and ``checkpoints/{best,last}.ckpt`` in ``run_dir``. Where ``last.ckpt``
    stands already, training goes on after its epoch, and on CPU ends with the weights of a run
    that was never stopped, bit for bit.

    Args:
        monitor: the validation figure whose maximum picks ``best.ckpt``.
        ema_decay: of the averaged weights that are validated and kept; 0 for none.
        precision: a Lightning precision, or "auto": bfloat16 where the device computes in it.

    Raises:
        LeanvitError: no such device; ``last.ckpt`` is damaged or of another model; the loss became
            NaN.
    """
    silence_lightning()
    checkpoints = run_dir / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor=monitor,
        mode="max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    # after "best", so that it knows of it
    last = ModelCheckpoint(
        checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    interactive = sys.stderr.isatty()
    callbacks: list[L.Callback] = [History(run_dir / "history.csv", say=not interactive)]
    if ema_decay:
        callbacks.append(AveragedWeights(ema_decay))
    if interactive:
        callbacks.append(RichProgressBar())
    try:
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            precision=choose_precision(accelerator) if precision == "auto" else precision,  # type: ignore[arg-type]
            max_epochs=max_epochs,
            logger=logger or False,
            callbacks=[*callbacks, best, last],
            plugins=[AtomicCheckpoints()],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the samplers know their rank
            enable_progress_bar=interactive,
            enable_model_summary=False,
            deterministic="warn" if accelerator == "cpu" else None,
            log_every_n_steps=50,
        )
    except (RuntimeError, ValueError) as error:  # Lightning's MisconfigurationException among them
        raise LeanvitError(f"trainer: {' '.join(str(error).split())}") from error
    resume = checkpoints / "last.ckpt"
    if resume.exists():
        check_checkpoint(resume, classifier)
        print(f"going on from {resume}", file=sys.stderr)
    with fastest_attention(trainer.strategy.root_device, "bf16" in str(trainer.precision)):
        trainer.fit(
            classifier,
            data,
            ckpt_path=str(resume) if resume.exists() else None,
            weights_only=False,
        )
    return trainer


def choose_precision(accelerator: str) -> Any:
    """bfloat16 autocast where the device has the instructions, float32 elsewhere."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    if accelerator == "mps" or (accelerator != "cpu" and torch.backends.mps.is_available()):
        return "32-true"
    return "bf16-mixed" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "32-true"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint on the CPU.

    Raises:
        LeanvitError: missing or damaged.
    """
    if not path.exists():
        raise LeanvitError(f"no checkpoint {path}: train the run to its end first")
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LeanvitError(
            f"checkpoint {path} is damaged: delete it and run the same command again"
        ) from error


def check_checkpoint(path: Path, classifier: torch.nn.Module) -> None:
    """See that a checkpoint is of this model.

    Raises:
        LeanvitError: it is damaged, or of another model; the first keys that differ are named.
    """
    mismatch = first_mismatch(read_checkpoint(path)["state_dict"], classifier.state_dict())
    if mismatch:
        raise LeanvitError(f"{path} is a checkpoint of another model ({mismatch})")


def first_mismatch(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> str:
    """What first differs between two state dicts, in words; "" if nothing does."""
    for name in [*wanted, *found]:
        if name not in found:
            return f"it lacks {name}"
        if name not in wanted:
            return f"it has {name}, which this model lacks"
        if found[name].shape != wanted[name].shape:
            return f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
    return ""


def silence_lightning() -> None:
    """Keep what says nothing to a person: device lists, tips, hints for torch's DataLoader."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The number of training batches.*",
        ".*is smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*You are using a CUDA device.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
