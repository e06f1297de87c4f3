"""What happens around the training steps: history, averaged weights, whole checkpoints."""

import csv
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor

from leanvit.files import atomic_path
from leanvit.training.trainable import Trainable
from leanvit.weights import read_checkpoint, write_checkpoint

BEST, LAST, BEFORE = "best.ckpt", "last.ckpt", "before.ckpt"

# what the time to go is told by: at first these steps, without those that are slower, then epochs
FIRST_STEPS, WARM_STEPS, LAST_EPOCHS = 20, 5, 5


class History(L.Callback):
    """One row per epoch in ``history.csv``; the rows travel in the checkpoint.

    A resumed run therefore continues the table of the epochs it kept, and the training time is the
    sum over all its lives (Lightning's CSVLogger begins anew). Columns: epoch (from 1), lr,
    train_loss, val_loss, val_accuracy, val_balanced_accuracy (neither of them in a pretraining),
    images (trained on, all ranks), seconds (of the training steps, without validation).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step_ends: list[float] = []  # of the first steps of this process
        self.epochs: list[float] = []  # seconds of its epochs, with validation
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        rows = checkpoint["callbacks"][self.state_key]["rows"]
        for row in rows:  # a logger's own record may have ended with the process that was killed
            log_row(trainer, row, step=checkpoint["global_step"] * int(row["epoch"]) // len(rows))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start, self.validation_seconds = time.perf_counter(), 0.0
        self.num_images = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *batch: Any
    ) -> None:
        self.num_images += cast(Trainable, pl_module).num_images
        is_planned = trainer.max_epochs != -1  # minutes say it after the first step
        if trainer.is_global_zero and is_planned and len(self.step_ends) <= FIRST_STEPS:
            self.step_ends.append(time.perf_counter())
            if len(self.step_ends) > FIRST_STEPS:
                print(_forecast(self.step_ends, trainer), file=sys.stderr, flush=True)

    def elapsed(self) -> float:
        """Seconds of training steps so far, in all lives of the run; within an epoch."""
        return sum(row["seconds"] for row in self.rows) + time.perf_counter() - self.start

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validation_start = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validation_seconds = time.perf_counter() - self.validation_start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.start - self.validation_seconds
        row: dict[str, float] = {
            "epoch": trainer.current_epoch + 1,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        for name, value in sorted(trainer.callback_metrics.items()):
            row[name.replace("/", "_")] = float(value)
        row["images"] = self.num_images * trainer.world_size
        row["seconds"] = seconds
        self.rows.append(row)
        log_row(trainer, row, step=trainer.global_step)
        self.keep(trainer)
        if trainer.is_global_zero:
            self.epochs.append(time.perf_counter() - self.start)
            print(_sentence(row, trainer.max_epochs, self.epochs), file=sys.stderr, flush=True)

    def keep(self, trainer: L.Trainer) -> None:
        """Write the rows, if there are any."""
        if trainer.is_global_zero and self.rows:
            write_rows(self.rows, self.path)


def log_row(trainer: L.Trainer, row: dict[str, float], step: int) -> None:
    """Tell the loggers of an epoch, by the names that its figures have in training."""
    named = {
        name.replace("_", "/", 1) if name.startswith(("train_", "val_")) else name: value
        for name, value in row.items()
    }
    for logger in trainer.loggers if trainer.is_global_zero else ():
        logger.log_metrics(named, step)


def _forecast(step_ends: Sequence[float], trainer: L.Trainer) -> str:
    """How long the rest takes, by the pace of the first steps without the very first."""
    pace = (step_ends[-1] - step_ends[WARM_STEPS]) / (len(step_ends) - 1 - WARM_STEPS)
    steps = int(trainer.estimated_stepping_batches) - trainer.global_step
    seconds = pace * trainer.accumulate_grad_batches * steps
    return f"about {_words(seconds)} of training to go, validation not counted"


def _words(seconds: float) -> str:
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _sentence(row: dict[str, float], num_epochs: int | None, epochs: Sequence[float]) -> str:
    """Of an epoch, and how long the rest takes, if it is like the last ones: by their median, since
    one may have been stopped, or have waited for others."""
    if "val_accuracy" in row:
        accuracy, balanced = row["val_accuracy"], row["val_balanced_accuracy"]
        validation = f"val accuracy {accuracy:.4f}, balanced {balanced:.4f}"
    else:  # a pretraining classifies nothing
        validation = f"val loss {row.get('val_loss', float('nan')):.4f}"
    left = (num_epochs or 0) - int(row["epoch"])
    to_go = f", {_words(left * median(epochs[-LAST_EPOCHS:]))} to go" if left > 0 else ""
    return (
        f"epoch {int(row['epoch'])}/{num_epochs}: train loss {row['train_loss']:.3f}, "
        f"{validation}, {row['seconds']:.1f} s{to_go}"
    )


def write_rows(rows: list[dict[str, float]], path: Path) -> None:
    """Write rows of equal keys as CSV, atomically."""
    with atomic_path(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class AveragedWeights(WeightAveraging):
    """Exponential moving average of the weights, used for validation and kept as the net.

    The decay rises as min(decay, (1 + n) / (10 + n)) with the number of updates n (the schedule of
    TensorFlow's ExponentialMovingAverage and timm's ModelEmaV3), so that short trainings are not
    averaged with their initial weights. Integer buffers are copied.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        n = self._latest_update_step  # the tensor would make the host wait for the device
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + n) / (10 + n)))


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written and read as :mod:`leanvit.weights` does.

    Beside ``last.ckpt`` stands ``before.ckpt``, an epoch older, should the last be damaged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None
    ) -> None:
        place = Path(path)
        before = place.with_name(BEFORE) if place.name == LAST else None
        write_checkpoint(checkpoint, place, before)

    def load_checkpoint(
        self, path: str | os.PathLike, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


class CheckpointHere(ModelCheckpoint):
    """A ModelCheckpoint that knows its best score also after the run directory has moved.

    Of equal scores the one with the lower validation loss is better: accuracies of a small
    validation set are soon equal, at last at 1. With equal losses too the earlier one stays.
    """

    forgets = False  # what it knew, on going on
    best_loss = -math.inf  # where an older version kept none: the earlier one stays

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        loss = float(trainer.callback_metrics.get("val/loss", math.inf))
        is_better = super().check_monitor_top_k(trainer, current)
        if not is_better and current is not None and current == self.best_model_score:
            is_better = trainer.strategy.reduce_boolean_decision(loss < self.best_loss)
        if is_better:  # it is saved now
            self.best_loss = loss
        return is_better

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best_loss": self.best_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.forgets:
            return

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        state = {**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath}
        super().load_state_dict(state)
        self.best_loss = state_dict.get("best_loss", self.best_loss)
