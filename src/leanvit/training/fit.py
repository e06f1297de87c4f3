"""Train, from the last whole epoch on, and leave the best and the last checkpoint."""

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from leanvit.device import Accelerator, choose_precision, find_device
from leanvit.errors import LeanvitError
from leanvit.memory import keep_freed_memory
from leanvit.models.attention import fastest_attention
from leanvit.training.callbacks import (
    BEFORE,
    BEST,
    LAST,
    AtomicCheckpoints,
    AveragedWeights,
    CheckpointHere,
    History,
)
from leanvit.training.data_module import ImageDataModule
from leanvit.training.flops import beside_flops, training_flops
from leanvit.training.patience import Patience, Unpromising
from leanvit.training.progress_bar import ProgressBar
from leanvit.training.threads import ShareCores
from leanvit.training.time_budget import TimeBudget
from leanvit.training.trainable import Trainable
from leanvit.values import Count, Positive, Share, ShareBelowOne, Whole
from leanvit.weights import check_match, read_checkpoint

Monitor = Literal["val/balanced_accuracy", "val/accuracy", "val/loss"]
# not 16-mixed: gradients would be clipped while they are still scaled
Precision = Literal["auto", "32-true", "bf16-mixed", "bf16-true", "64-true"]


@dataclass(frozen=True)
class Training:
    """How a training went.

    Attributes:
        history: one row per epoch, see :class:`History`.
        best_epoch: of ``best.ckpt``, counted from 1.
        pflop: 10^15 floating-point operations, see :mod:`leanvit.training.flops`.
        stopped: why it ended before its time, to go on if it is asked to: see :class:`Unpromising`.
        threads: the numbers of threads that it was computed with, on a CPU.
    """

    history: list[dict[str, float]]
    best_epoch: int
    device: torch.device
    precision: str
    pflop: float = 0.0
    stopped: str | None = None
    threads: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all training steps; 0 where nothing was trained."""
        return sum(row["seconds"] for row in self.history)

    @property
    def images_per_second(self) -> float:
        """Training images over training time, all ranks together."""
        total = sum(row["images"] for row in self.history)
        return total / self.seconds if total else 0.0


def fit(
    module: Trainable,
    data: ImageDataModule,
    run_dir: Path,
    max_epochs: Whole,
    monitor: Monitor = "val/balanced_accuracy",
    ema_decay: ShareBelowOne = 0.0,
    accumulate: Count = 1,
    max_minutes: Positive | None = None,
    late_start: Share = 1.0,
    patience: Count | None = None,
    patient_until: Whole = 0,
    medians: Sequence[float | None] = (),
    accelerator: Accelerator = "auto",
    devices: Count | Literal["auto"] = 1,
    strategy: str = "auto",
    num_nodes: Count = 1,
    precision: Precision = "auto",
    sync_batchnorm: bool = False,
    logger: Logger | None = None,
) -> Training:
    """Fit ``module``, a classifier or a pretrainer, to ``data``.

    Leaves ``history.csv`` and ``checkpoints/{best,last}.ckpt`` in ``run_dir``. Where ``last.ckpt``
    stands already, training goes on after its epoch, and on CPU ends with the weights of a run
    that was never stopped, bit for bit; also from the epoch before, where it is damaged.

    Args:
        monitor: the validation figure that picks ``best.ckpt``: the largest, or the smallest loss;
            of equals the one with the smallest ``val/loss``.
        ema_decay: of the averaged weights that are validated and kept; 0 for none.
        accumulate: batches of a step; the last step of an epoch takes those that are left.
        max_minutes: of training steps, which choose the number of epochs in place of
            ``max_epochs``; with ``late_start``, see :class:`TimeBudget`.
        patience: epochs without a better ``monitor`` after which training ends; None: it does not.
        patient_until: the epoch, from 0, with which these begin to count.
        medians: of other trainings' best ``monitor`` up to each epoch: behind them, it ends.
        sync_batchnorm: BatchNorm's statistics are of the batches of all processes; GPUs only.
        precision: a Lightning precision, or "auto": bfloat16 where the device computes in it.

    Raises:
        LeanvitError: no such device; checkpoints are damaged or of another model; the loss became
            NaN.
        KeyboardInterrupt, SystemExit: stopped by Ctrl-C, or by SIGTERM (status 143).
    """
    silence_lightning()
    device = find_device(accelerator)
    if device.type == "cpu":
        keep_freed_memory()
        # as the trainer's deterministic="warn" does, which imports Inductor, for seconds
        torch.set_deterministic_debug_mode("warn")
        # which also writes NaN into all new memory: a tenth of a step of CoAtNet
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    history = History(run_dir / "history.csv")
    best, last = checkpoints(run_dir / "checkpoints", monitor)
    unpromising = Unpromising(medians, monitor, history)
    callbacks: list[L.Callback] = [history, best, last, unpromising]
    cores = ShareCores()
    if device.type == "cpu":
        callbacks.insert(0, cores)
    if patience:
        callbacks.append(Patience(patience, monitor, history, patient_until))
    if max_minutes:  # in front: it says how many epochs there are
        callbacks.insert(0, TimeBudget(60 * max_minutes, late_start, history))
    if ema_decay:
        callbacks.append(AveragedWeights(ema_decay))
    if sys.stderr.isatty():
        callbacks.append(ProgressBar())
    trainer = _trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        num_nodes=num_nodes,
        sync_batchnorm=sync_batchnorm,
        precision=choose_precision(device) if precision == "auto" else precision,
        max_epochs=-1 if max_minutes else max_epochs,
        accumulate_grad_batches=accumulate,
        logger=logger or False,
        callbacks=callbacks,
    )
    folder = run_dir / "checkpoints"
    path = find_last(folder, module)
    best.forgets = bool(max_minutes and path and is_later(folder / BEST, path))
    with fastest_attention(device, "bf16" in str(trainer.precision)), _stops_are_told(trainer):
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
    history.keep(trainer)  # of a finished training nothing was written by then
    best_epoch = int(read_checkpoint(folder / BEST)["epoch"]) + 1
    if trainer.is_global_zero and not unpromising.why:
        (folder / BEFORE).unlink(missing_ok=True)
    image_size = data.train.images[0].shape[-1]
    flops = training_flops(module.net, image_size, module.step) + beside_flops(module.beside)
    return Training(
        history.rows,
        best_epoch,
        trainer.strategy.root_device,
        str(trainer.precision),
        pflop=module.num_passes * flops * sum(row["images"] for row in history.rows) / 1e15,
        stopped=unpromising.why,
        threads=tuple(sorted(cores.used)),
    )


def _trainer(**chosen: Any) -> L.Trainer:
    """A trainer of what is chosen, and of what holds for every training."""
    try:
        return L.Trainer(
            **chosen,
            plugins=[AtomicCheckpoints()],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the samplers know their rank
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            log_every_n_steps=50,
        )
    except (RuntimeError, ValueError) as error:  # Lightning's MisconfigurationException among them
        raise LeanvitError(f"trainer: {' '.join(str(error).split())}") from error


def find_last(folder: Path, module: Trainable) -> Path | None:
    """The checkpoint to go on from: ``last.ckpt``, or the one before it where that is damaged.

    Raises:
        LeanvitError: all are damaged, ``best.ckpt`` is, or they are another model's.
    """
    places = [path for path in (folder / LAST, folder / BEFORE) if path.exists()]
    if not places:
        return None
    for path in places:
        try:
            state = read_checkpoint(path)["state_dict"]
            break
        except LeanvitError:
            if path is places[-1]:
                raise
    check_match(path, state, module.state_dict())
    read_checkpoint(folder / BEST)  # refused now, not after the last epoch
    if path is not places[0]:
        print(f"{places[0]} is damaged: the epoch after {path} is trained again", file=sys.stderr)
        places[0].unlink(missing_ok=True)  # or the next one would put it in that one's place
    print(f"going on from {path}", file=sys.stderr)
    return path


def is_later(best: Path, last: Path) -> bool:
    """Whether the process died between writing these two. Epochs that are counted come again with
    the same bits; those of a clock do not, and a net that no row tells of is not kept."""
    return int(read_checkpoint(best)["epoch"]) > int(read_checkpoint(last)["epoch"])


def checkpoints(folder: Path, monitor: str) -> tuple[CheckpointHere, CheckpointHere]:
    """What keeps ``best.ckpt`` and then ``last.ckpt``, which so knows of the best."""
    best = CheckpointHere(
        folder,
        filename="best",
        monitor=monitor,
        mode="min" if monitor.endswith("loss") else "max",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = CheckpointHere(
        folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    return best, last


@contextmanager
def _stops_are_told(trainer: L.Trainer) -> Iterator[None]:
    """Lightning ends the process itself, with status 1 for Ctrl-C and 0 for SIGTERM."""
    try:
        yield
    except SIGTERMException:
        raise SystemExit(143) from None
    except SystemExit as stop:
        if trainer.interrupted and stop.code == 1:
            raise KeyboardInterrupt from stop
        raise


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
        ".*`srun` command is available.*",  # of SLURM
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
